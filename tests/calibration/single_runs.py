"""Verdicts on single runs of real releases, each read alone, against what was measured while it trained.

    python -m tests.calibration.single_runs DIR

DIR holds the output of `ga_audit/repro/engines/hf_trainer.py` (any depth): logs beside a `truth.json`, which says the loss of
the whole batch at the same parameters. `RESULTS.md` has the table and how the runs were made.
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from pathlib import Path

from ga_audit import pipeline
from ga_audit.run import Role


def true_exponent(truth: dict, state: dict) -> int:
    """Power of GA in the first logged loss, from the reference loss at that step."""
    first = next(row for row in state["log_history"] if "loss" in row)
    measured = next(m for m in truth["measured"] if m["step"] == first["step"])
    return round(math.log(first["loss"] / measured["reference_loss"]) / math.log(truth["ga"]))


def said(folder: Path) -> str:
    """What the diagnosis of the run alone says of its loss."""
    (run, *_), _ = pipeline.read_runs([str(folder)])
    (diagnosis,) = pipeline.diagnose([run])
    loss = next((f.hypothesis.ga for f in diagnosis.findings if f.role is Role.LOSS), None)
    return f"GA^{loss:g}" if loss is not None else diagnosis.verdict.value


def main() -> None:
    table: Counter[tuple[int, int, str]] = Counter()
    wrong = []
    for file in sorted(Path(sys.argv[1]).rglob("truth.json")):
        truth = json.loads(file.read_text())
        if truth["ga"] == 1:
            continue
        exponent = true_exponent(truth, json.loads((file.parent / "trainer_state.json").read_text()))
        verdict = said(file.parent)
        table[exponent, truth["ga"], verdict] += 1
        if verdict != "inconclusive" and verdict != ("healthy" if exponent == 0 else f"GA^{exponent}"):
            wrong.append(str(file.parent))
    print("| true exponent | GA | said | runs |\n|---|---|---|---|")
    for (exponent, ga, verdict), count in sorted(table.items()):
        print(f"| {exponent} | {ga} | {verdict} | {count} |")
    decided = sum(n for (_, _, verdict), n in table.items() if verdict != "inconclusive")
    print(f"\n{sum(table.values())} runs, {decided} decided, {len(wrong)} wrong")
    for folder in wrong:
        print(f"wrong: {folder}")


if __name__ == "__main__":
    main()
