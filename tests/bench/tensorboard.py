"""Speed of reading TensorBoard event files: `python -m tests.bench.tensorboard`.

CPU seconds (user and system) and peak memory of whole processes; each row's commands take turns, and the
medians are compared, so that a busy machine slows all of them. TensorBoard's Rust server is installed
into a temporary folder where it is missing. Options: `-h`.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import multiprocessing
import os
import statistics
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from ga_audit.logs.formats._tensorboard.crc import masked_crc
from ga_audit.logs.formats._tensorboard.tfrecord import frame

OURS = """
import sys
from pathlib import Path
from ga_audit.logs.formats._tensorboard.reader import EventReader
reader = EventReader(walls={})
for path in Path(sys.argv[1]).iterdir():
    reader.read_path(path)
print(sum(len(points) for points in reader.points.values()))
"""
AUDIT = """
import sys
from ga_audit.logs.formats import tensorboard, Target
(run,) = tensorboard.read(Target(sys.argv[1]))
print(sum(len(series) for series in run.series))
"""
FIX = """
import sys, tempfile
from pathlib import Path
import numpy as np
from ga_audit.logs.formats import Rescale, Rewrite, tensorboard
from ga_audit.run import Role, Source
rescale = Rescale("train/loss", Role.LOSS, np.zeros(1, np.int64), np.array([8.0]))
with tempfile.TemporaryDirectory(dir=Path(sys.argv[1]).parent) as out:
    tensorboard.write(Source("tensorboard", sys.argv[1]), Rewrite([rescale], {}), Path(out))
"""
FLOOR = """
import sys
from pathlib import Path
import google_crc32c, numpy
crc = 0
for path in Path(sys.argv[1]).iterdir():
    with path.open("rb", buffering=0) as file:
        while data := file.read(1 << 23):
            crc = google_crc32c.extend(crc, data)
print(crc)
"""
ACCUMULATOR = """
import sys
import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util
ea = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0, "tensors": 0})
ea.Reload()
n = 0
for tag in ea.Tags()["scalars"]:
    n += len(np.array([(e.wall_time, e.step, e.value) for e in ea.Scalars(tag)]))
for tag in ea.Tags()["tensors"]:
    events = ea.Tensors(tag)
    n += len(np.array([(e.wall_time, e.step, tensor_util.make_ndarray(e.tensor_proto).item()) for e in events]))
print(n)
"""
RUST = """
import os, sys, time
import numpy as np
from tensorboard.context import RequestContext
from tensorboard.data import server_ingester
from tensorboard.util.grpc_util import ChannelCredsType
path, points = sys.argv[1], int(sys.argv[2])
ingester = server_ingester.SubprocessServerDataIngester(
    server_ingester.get_server_binary(), path, reload_interval=0, channel_creds_type=ChannelCredsType.LOCAL,
    samples_per_plugin={"scalars": 0, "histograms": 1, "images": 1})
ingester.start()
context, n, last = RequestContext(), 0, -1
while n < points:
    time.sleep(0.05)
    runs = ingester.data_provider.list_scalars(context, experiment_id="", plugin_name="scalars")
    steps = [s.max_step for tags in runs.values() for s in tags.values()]
    if not steps or min(steps) == last:
        continue
    last = min(steps)
    runs = ingester.data_provider.read_scalars(context, experiment_id="", plugin_name="scalars", downsample=1 << 30)
    n = sum(len(np.array([(d.wall_time, d.step, d.value) for d in series]))
            for tags in runs.values() for series in tags.values())
ingester._stdin_handle.close()
os.wait()
print(n)
"""
TAGS = (
    "train/loss", "train/grad_norm", "train/learning_rate", "train/epoch", "train/entropy", "perf/tokens_per_second",
    "perf/mfu", "train/mean_token_accuracy", "gpu/memory", "train/num_tokens",
)  # fmt: skip
LAYERS = ("train/loss", *(f"grad_norm/layer_{i:04}" for i in range(299)))


def delimited(number: int, data: bytes) -> bytes:
    """A protobuf field of bytes."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    """A protobuf varint."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def simple(tag: str) -> tuple[bytes, bytes]:
    """What stands before and after the four bytes of a number, as torch's SummaryWriter writes it."""
    name = delimited(1, tag.encode())
    size = len(name) + 5
    return b"\x2a" + varint(size + 1 + len(varint(size))) + b"\x0a" + varint(size) + name + b"\x15", b""


def tensor(tag: str) -> tuple[bytes, bytes]:
    """As `simple`, of a tensor of rank 0 with its metadata, as TensorFlow 2 writes it."""
    mark = b"\xf1\xf2\xf3\xf4"
    value = delimited(8, b"\x08\x01\x12\x00" + delimited(4, mark))
    metadata = delimited(9, delimited(1, delimited(1, b"scalars")) + b"\x20\x01")
    before, after = delimited(5, delimited(1, delimited(1, tag.encode()) + value + metadata)).split(mark)
    return before, after


Parts = Callable[[str], tuple[bytes, bytes]]


def records(points: int, tags: tuple[str, ...], parts: Parts, between: str = "") -> Iterator[bytes]:
    """The records of an event file: every tag once a step, and what comes `between` every ten steps."""
    rng = np.random.default_rng(0)
    values, walls = rng.random(points).astype("<f4").tobytes(), 1.7e9 + np.cumsum(rng.random(points) / 50)
    wall_bytes = walls.astype("<f8").tobytes()
    written = [parts(tag) for tag in tags]
    heads: dict[int, bytes] = {}
    pack = struct.Struct("<I").pack
    yield frame(b"\x09" + wall_bytes[:8] + delimited(3, b"brain.Event:2"))
    for i in range(points):
        step, tag = divmod(i, len(tags))
        before, after = written[tag]
        prefix = b"\x09" + wall_bytes[8 * i : 8 * i + 8] + (b"\x10" + varint(step) if step else b"")
        payload = b"".join((prefix, before, values[4 * i : 4 * i + 4], after))
        if len(payload) not in heads:
            heads[len(payload)] = frame(payload)[:12]
        yield b"".join((heads[len(payload)], payload, pack(masked_crc(payload))))
        if between and tag == len(tags) - 1 and step % 10 == 9:
            yield from evaluation(prefix) if between == "evaluation" else media(prefix, step, rng)


def evaluation(prefix: bytes) -> Iterator[bytes]:
    """Two scalars."""
    for tag in ("eval/loss", "eval/accuracy"):
        yield frame(prefix + simple(tag)[0] + struct.pack("<f", 1.5))


def media(prefix: bytes, step: int, rng: np.random.Generator) -> Iterator[bytes]:
    """Four histograms of several sizes, and an image now and then."""
    for layer in range(4):
        sizes = rng.integers(1, 40)
        buckets = delimited(6, rng.random(sizes).tobytes()) + delimited(7, rng.random(sizes).tobytes())
        yield frame(prefix + delimited(5, delimited(1, delimited(1, b"weights/%d" % layer) + delimited(5, buckets))))
    if step % 200 == 199:
        image = b"\x08\x40\x10\x40\x18\x03" + delimited(4, rng.bytes(9000))
        yield frame(prefix + delimited(5, delimited(1, delimited(1, b"sample") + delimited(4, image))))


def written(
    folder: Path, name: str, points: int, tags: tuple[str, ...], parts: Parts = simple, between: str = ""
) -> Path:
    """A run directory with one event file.

    Another process writes it: what a process has in memory when it starts another one counts towards the
    peak of that one.
    """
    run = folder / name
    run.mkdir()
    writer = multiprocessing.get_context("spawn").Process(target=write, args=(run, points, tags, parts, between))
    writer.start()
    writer.join()
    return run


def write(run: Path, points: int, tags: tuple[str, ...], parts: Parts, between: str) -> None:
    """Write the event file of a run."""
    with (run / "events.out.tfevents.1.host").open("wb") as file:
        file.writelines(records(points, tags, parts, between))


def measured(script: str, *arguments: str, path: str = "") -> tuple[float, float, str]:
    """CPU seconds and peak MiB of a Python script and its children, and what it printed."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    env["PYTHONPATH"] = os.pathsep.join(p for p in (str(Path.cwd()), path, env.get("PYTHONPATH", "")) if p)
    with subprocess.Popen([sys.executable, "-c", script, *arguments], env=env, stdout=subprocess.PIPE, text=True,
                          stderr=subprocess.DEVNULL) as process:  # fmt: skip
        assert process.stdout is not None
        printed = process.stdout.read().strip()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        return math.nan, math.nan, f"failed with {process.returncode}"
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, printed


def compare(name: str, run: Path, points: int, peers: dict[str, str], rounds: int, path: str) -> None:
    """Print one row: medians of rounds in which all commands take turns."""
    commands = {"ours": OURS, "audit": AUDIT, "fix": FIX, "floor": FLOOR, **peers}
    found: dict[str, list[tuple[float, float, str]]] = {what: [] for what in commands}
    for round_ in range(rounds):
        for what, script in commands.items():
            if round_ and (what in peers and found[what][0][0] > 5):
                continue  # a slow peer runs once
            found[what].append(measured(script, str(run), str(points), path=path))
    middle = {what: statistics.median(f[0] for f in figures) for what, figures in found.items()}
    memory = {what: max(f[1] for f in figures) for what, figures in found.items()}
    row = f"{name:<22}"
    for what in commands:
        ratio = "" if what == "ours" else f" ({middle[what] / middle['ours']:5.2f}x)"
        row += f" | {what} {middle[what]:6.2f} s {memory[what]:4.0f} MiB{ratio}"
    counts = {what: figures[0][2] for what, figures in found.items() if what in ("ours", *peers)}
    print(row + ("" if len(set(counts.values())) == 1 else f" | COUNTS DIFFER: {counts}"), flush=True)


def growth(folder: Path, largest: int, rounds: int) -> None:
    """Print CPU seconds from 10**3 points up, without start-up, and the exponent of each step."""
    start_up = statistics.median(measured("from ga_audit.logs.formats import tensorboard")[0] for _ in range(rounds))
    before: float | None = None
    for exponent in range(3, round(math.log10(largest)) + 1):
        run = written(folder, f"growth{exponent}", 10**exponent, TAGS)
        figures = [measured(OURS, str(run)) for _ in range(rounds)]
        seconds = statistics.median(f[0] for f in figures) - start_up
        clear = before is not None and before > 0.01 and seconds > 0  # above the noise of starting up
        power = f", exponent {math.log10(seconds / before):.2f}" if clear else ""
        print(f"10^{exponent} points: {seconds:7.3f} s beyond start-up, {max(f[1] for f in figures):4.0f} MiB{power}",
              flush=True)  # fmt: skip
        before = seconds
        (run / "events.out.tfevents.1.host").unlink()


def rust_server(folder: Path) -> str | None:
    """The folder to import the Rust server from: empty where it is installed, None where it cannot be had."""
    if importlib.util.find_spec("tensorboard_data_server"):
        return ""
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder)]
    done = subprocess.run([*install, "tensorboard-data-server==0.7.2"], check=False)
    return None if done.returncode else str(folder)


def main() -> None:
    """Print the table, and how the cost grows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--large", type=int, default=5_000_000, help="points of the large file; 0 for none")
    parser.add_argument("--growth", type=int, default=10**7, help="most points of the growth figures; 0 for none")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-peers", action="store_true")
    options = parser.parse_args()
    print(f"load {os.getloadavg()}, {os.cpu_count()} CPUs, Python {sys.version.split()[0]}, numpy {np.__version__}")
    with tempfile.TemporaryDirectory() as name:
        folder, n = Path(name), options.points
        path = None if options.no_peers else rust_server(folder / "peers")
        peers = {} if options.no_peers else {"EventAccumulator": ACCUMULATOR}
        if path is not None:
            peers["Rust server"] = RUST
        rows = {
            "scalars": (TAGS, simple, ""), "tensors": (TAGS, tensor, ""), "evaluation rows": (TAGS, simple, "evaluation"),
            "300 tags": (LAYERS, simple, ""), "histograms, images": (TAGS, simple, "media"),
        }  # fmt: skip
        for row, (tags, parts, between) in rows.items():
            run = written(folder, row, n, tags, parts, between)
            extra = 2 * (n // len(tags) // 10) if between == "evaluation" else 0
            compare(f"{n:,} {row}", run, n + extra, peers, options.rounds, path or "")
            (run / "events.out.tfevents.1.host").unlink()
        if options.large:
            run = written(folder, "large", options.large, TAGS)
            fast = {k: v for k, v in peers.items() if k != "EventAccumulator"}
            compare(f"{options.large:,} scalars", run, options.large, fast, options.rounds, path or "")
            (run / "events.out.tfevents.1.host").unlink()
        if options.growth:
            growth(folder, options.growth, options.rounds)


if __name__ == "__main__":
    main()
