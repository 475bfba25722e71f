"""Reading JSON logs against JSON parsers: `python -m tests.bench.json [ROWS ...]`."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from tests.bench.__main__ import compare, trainer_state

OURS = """
import sys
from ga_audit.logs.formats import {leaf}, Target
(run,) = {leaf}.read(Target(sys.argv[1]))
print(sum(len(s) for s in run.series))
"""
PEERS = {
    "json": "import json, sys; json.loads(open(sys.argv[1], 'rb').read())",
    "pydantic_core": "import pydantic_core, sys; pydantic_core.from_json(open(sys.argv[1], 'rb').read())",
}
LINES = "import json, sys; [json.loads(line) for line in open(sys.argv[1], 'rb')]"


def json_lines(folder: Path, steps: int) -> Path:
    """A trainer_log.jsonl as LLaMA-Factory writes it."""
    path = folder / "trainer_log.jsonl"
    with path.open("w") as file:
        for i in range(steps):
            row = {"current_steps": i + 1, "total_steps": steps, "loss": 2 + 1 / (i + 1), "lr": 1e-4, "epoch": i / steps,
                   "percentage": 100 * i / steps, "elapsed_time": f"0:{i // 60 % 60:02}:{i % 60:02}"}  # fmt: skip
            file.write(json.dumps(row) + "\n")
    return path


def main() -> None:
    """Print the table."""
    python = sys.executable
    for rows in [int(text) for text in sys.argv[1:]] or [100_000, 1_000_000]:
        with tempfile.TemporaryDirectory() as name:
            state = str(trainer_state(Path(name), rows))
            for peer, code in PEERS.items():
                ours = [python, "-c", OURS.format(leaf="trainer_state"), state]
                compare(f"trainer_state.json of {rows:,} | {peer}", ours, [python, "-c", code, state], 3)
            log = str(json_lines(Path(name), rows))
            ours = [python, "-c", OURS.format(leaf="table"), log]
            compare(f"JSON Lines of {rows:,} | json line by line", ours, [python, "-c", LINES, log], 3)


if __name__ == "__main__":
    main()
