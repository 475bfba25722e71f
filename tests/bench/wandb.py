"""Reading a `.wandb` file against W&B's own readers: `python -m tests.bench.wandb [ROWS]`."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from tests.bench.__main__ import OURS_WANDB, PROTOBUF, compare, wandb_run

CHECKSUMS = "import sys, zlib; zlib.crc32(open(sys.argv[1], 'rb').read())"


def main() -> None:
    """Print the table."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    python = sys.executable
    with tempfile.TemporaryDirectory() as name:
        file = str(wandb_run(Path(name), rows))
        ours = [python, "-c", OURS_WANDB, file]
        compare(f"{rows:,} W&B rows | read and CRC alone", ours, [python, "-c", CHECKSUMS, file], 3)
        compare(f"{rows:,} W&B rows | the SDK's own messages", ours, [python, "-c", PROTOBUF, file], 3)
        wandb = shutil.which("wandb", path=str(Path(python).parent))
        if wandb is not None:
            compare(f"{rows:,} W&B rows | wandb leet inspect", ours, [wandb, "leet", "inspect", "--json", file], 1)


if __name__ == "__main__":
    main()
