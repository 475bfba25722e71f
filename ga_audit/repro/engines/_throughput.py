"""How fast a training goes, and how far that is from what its device can multiply.

A standalone script's helper: standard library and torch, no ga_audit.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence

import torch
from torch.utils.flop_counter import FlopCounterMode

SIZES = (256, 512, 1024, 2048, 4096, 8192)  # of square matrices; a CPU comes no farther than the third
SECONDS = 0.3  # of the whole benchmark, about


class Clock:
    """Seconds of a training without its first step, which sets up memory and libraries, and without `paused` parts.

    The device is waited for at the ends of what is timed, never in a step.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds = 0.0
        self.steps = 0
        self.skipped = 0  # steps that `seconds` does not hold
        self._since: float | None = None

    def start(self) -> None:
        """Before the first step."""
        self._since = self._now()

    def step(self, *, last: bool = False) -> None:
        """After an optimizer step; after the first one everything starts anew, unless it is the only one."""
        self.steps += 1
        if self.steps == 1 and not last:
            self.skipped, self.seconds, self._since = 1, 0.0, self._now()

    def stop(self) -> None:
        """After the last step."""
        if self._since is not None:
            self.seconds += self._now() - self._since
            self._since = None

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What is done in here is no training: measuring, evaluating."""
        running = self._since is not None
        self.stop()
        try:
            yield
        finally:
            if running:
                self._since = self._now()

    def _now(self) -> float:
        _synchronise(self.device)
        return time.perf_counter()


def summary(clock: Clock, tokens: Sequence[int], step_flops: int, *, limit_of: torch.dtype | None) -> dict[str, object]:
    """What truth.json says: tokens and floating-point operations a second, and the device's limit where it is asked for.

    `tokens` are those of each step, of all ranks; `step_flops` is what `flops_of` counted in one step; `limit_of` is the
    type that the training multiplies in.
    """
    timed = sum(tokens[clock.skipped : clock.steps])
    flops = step_flops * (clock.steps - clock.skipped)
    seconds = max(clock.seconds, 1e-9)
    return {
        "tokens": timed, "seconds": clock.seconds, "tokens_per_second": timed / seconds,
        "flops_per_second": flops / seconds, "limit": matmul_rate(clock.device, limit_of) if limit_of else None,
    }  # fmt: skip


def flops_of(work: Callable[[], object]) -> int:
    """Floating-point operations of matrix products and attention, counted while `work` runs once."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def matmul_rate(device: torch.device, dtype: torch.dtype) -> dict[str, object]:
    """The most floating-point operations a second that one square matrix product reaches, and its size."""
    best, best_size, began = 0.0, 0, time.perf_counter()
    for size in SIZES:
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        once = _seconds(lambda a=a, b=b: a @ b, device, 1)  # also what warms up
        times = max(1, min(1000, int(SECONDS / len(SIZES) / max(once, 1e-6))))
        rate = 2 * size**3 / _seconds(lambda a=a, b=b: a @ b, device, times)
        if rate > best:
            best, best_size = rate, size
        spent = time.perf_counter() - began
        if spent + 16 * size**3 / best * 2 > SECONDS:  # the next one would take eight times as long, twice
            break
    name = str(dtype).removeprefix("torch.")
    return {"flops_per_second": best, "size": best_size, "dtype": name, "threads": torch.get_num_threads()}


def _seconds(work: Callable[[], object], device: torch.device, times: int) -> float:
    """Of one call, over `times` of them that are not waited for one by one."""
    _synchronise(device)
    began = time.perf_counter()
    for _ in range(times):
        work()
    _synchronise(device)
    return (time.perf_counter() - began) / times


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
