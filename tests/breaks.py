"""Break each rule of the diagnosis once, and see that a test fails: `python tests/breaks.py [WORD ...]`.

The tree is copied to a temporary folder, where one change at a time is made and the tests of the
rules are run. Not part of the test suite: it takes some seconds for each break. A WORD chooses the
breaks whose rule contains it.

The exit status is 1 if a break survives (no test fails) or is stale (the text to change is not there
exactly once).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
COPIED = ("ga_audit", "tests", "sample_logs", "pyproject.toml")
TESTS = ("test_diagnosis.py", "test_posterior.py", "test_odd_runs.py", "test_look_alikes.py", "test_pipeline.py")


class Break(NamedTuple):
    """One rule, and the change that removes it."""

    rule: str
    file: str  # below ga_audit/
    old: str
    new: str


BREAKS = (
    Break("a verdict needs the probability SPEAK", "stats/constants.py", "SPEAK: Final = 0.95", "SPEAK: Final = 0.3"),
    Break("a verdict is given from SPEAK on", "stats/constants.py", "SPEAK: Final = 0.95", "SPEAK: Final = 0.9999999"),
    Break(
        "healthy needs equivalence where runs were compared", "diagnosis.py",
        "if any(p.equivalent is False for p in compared):", "if False:",
    ),
    Break(
        "weak evidence alone is not healthy", "diagnosis.py",
        "if all(p.weak for p in pieces) and not any(p.equivalent for p in pieces):", "if False:",
    ),
    Break("one weak piece alone is not scaled", "diagnosis.py", "if not strong and len(speaking) < 2:", "if False:"),
    Break(
        "one run's level with a look-alike is not scaled", "diagnosis.py",
        "if look_alike := _look_alike(speaking, runs):", 'if look_alike := "":',
    ),
    Break(
        "hypotheses that evidence cannot tell apart share a verdict", "diagnosis.py",
        "scaled_together = sum(posterior[h] for h in tied if h not in (HEALTHY, OTHER))", "scaled_together = 0.0",
    ),
    Break(
        "a measured factor that no power explains is inconclusive", "diagnosis.py",
        "        if top == OTHER:\n            return reading(", "        if False:\n            return reading(",
    ),
    Break(
        "an unexplained factor is no finding", "diagnosis.py",
        "if top not in (HEALTHY, OTHER) and (posterior[top]", "if top not in (HEALTHY,) and (posterior[top]",
    ),
    Break(
        "a scaled grad_norm alone is scaled", "diagnosis.py",
        "if Verdict.SCALED in (loss.verdict, norm.verdict):", "if loss.verdict is Verdict.SCALED:",
    ),
    Break(
        "an undecided grad_norm that leans to a fault is not healthy", "diagnosis.py",
        "or norm.posterior[HEALTHY] >= _NORM_LEANS_HEALTHY", "or True",
    ),
    Break(
        "an undecided grad_norm that leans to healthy is", "diagnosis.py",
        "_NORM_LEANS_HEALTHY = 0.8", "_NORM_LEANS_HEALTHY = 1.1",
    ),
    Break(
        "a healthy grad_norm alone is healthy", "diagnosis.py",
        "if loss.verdict is None and norm.verdict is Verdict.HEALTHY:", "if False:",
    ),
    Break(
        "a scaled grad_norm reaches the gradients", "diagnosis.py",
        "if norm.verdict is Verdict.SCALED:", "if False:",
    ),
    Break(
        "log only needs a healthy grad_norm", "diagnosis.py",
        "if loss.verdict is Verdict.SCALED and norm.verdict is Verdict.HEALTHY:", "if loss.verdict is Verdict.SCALED:",
    ),
    Break(
        "no reach needs a healthy grad_norm", "diagnosis.py",
        "if verdict is Verdict.HEALTHY and norm.verdict is Verdict.HEALTHY:", "if verdict is Verdict.HEALTHY:",
    ),
    Break(
        "a measurement is not checked against the other runs", "diagnosis.py",
        "    if any(p.kind == MEASURED for p in pieces):\n        return reading\n", "",
    ),
    Break(
        "a verdict holds for each run", "diagnosis.py",
        "if why := explain(role, group, pieces, prior, top):", 'if why := "":',
    ),
    Break(
        "a finding is about its own runs", "diagnosis.py",
        "if reading.top.only is None or run.id in reading.top.only", "if True",
    ),
    Break(
        "the probability of a finding includes what is tied with it", "diagnosis.py",
        "sum(reading.posterior[h] for h in {*reading.tied, reading.top})", "reading.posterior[reading.top]",
    ),
    Break(
        "another fault of the same factor is named", "diagnosis.py",
        "if twins and (f.hypothesis.ga or f.hypothesis.world):", "if False:",
    ),
    Break("but not where there is one rank", "diagnosis.py", "for h in NAMED if ranks and h !=", "for h in NAMED if h !="),
    Break(
        "a factor common to all runs is mentioned", "diagnosis.py",
        "if len(runs) > 1 and any(r.verdict is not None", "if False and any(r.verdict is not None",
    ),
    Break(
        "an assumed world size is mentioned", "diagnosis.py",
        "if len(runs) > 1 and any(run.settings.world_size is None", "if False and any(run.settings.world_size is None",
    ),
    Break(
        "bugs that no log shows are mentioned", "diagnosis.py",
        "if not findings and readings[Role.GRAD_NORM].verdict is not Verdict.HEALTHY:", "if False:",
    ),
    Break("single runs of one kind count once", "posterior.py",
          "+ sum(log_likelihood(piece, h, runs) for piece in single) / max(len(single), 1)",
          "+ sum(log_likelihood(piece, h, runs) for piece in single)"),
    Break(
        "a hypothesis on an unknown setting is left out", "posterior.py",
        "if not any(math.isnan(f) for f in factors):", "if True:",
    ),
    Break(
        "a constant factor that nothing can see is left out", "posterior.py",
        "if h is HEALTHY or not _is_invisible(h, pieces, runs)", "if True",
    ),
    Break("grad_norm is coupled to the loss", "posterior.py", "    if loss is None:\n        return base", "    return base"),
    Break("hypotheses about some runs share one prior", "posterior.py", "base[h] /= len(same)", "base[h] /= 1"),
    Break(
        "no healthy verdict where a GA is unknown", "odd_runs.py",
        "if verdict == HEALTHY and (unknown :=", "if False and (unknown :=",
    ),
    Break(
        "a run of GA 1 contradicts nothing", "odd_runs.py",
        "if run.settings.ga == 1 and run.settings.ranks == 1:", "if False:",
    ),
)  # fmt: skip


def failing(tree: Path) -> str | None:
    """The first test that fails on a tree; None if all pass."""
    paths = [f"tests/{name}" for name in TESTS]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *paths],
        cwd=tree, capture_output=True, text=True, env={"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    if done.returncode == 0:
        return None
    found = re.search(r"^(?:FAILED|ERROR) tests/(\S+)", done.stdout, re.MULTILINE)
    return found.group(1) if found else f"pytest ended with {done.returncode}"


def outcome(tree: Path, each: Break) -> tuple[bool, str]:
    """Whether a test fails under a break, and which."""
    file = tree / "ga_audit" / each.file
    text = file.read_text("utf-8")
    if text.count(each.old) != 1:
        return False, f"stale: the text is there {text.count(each.old)} times"
    file.write_text(text.replace(each.old, each.new), "utf-8")
    try:
        found = failing(tree)
    finally:
        file.write_text(text, "utf-8")
    return found is not None, found or "SURVIVES"


def main(words: list[str]) -> int:
    """Print a row for each break; 1 where one survives or is stale."""
    chosen = [each for each in BREAKS if not words or any(word in each.rule for word in words)]
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for name in COPIED:
            ignore = shutil.ignore_patterns("__pycache__", "golden", "baseline")
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, tree / name, **({"ignore": ignore} if copy is shutil.copytree else {}))
        if before := failing(tree):
            print(f"the tests fail without any break: {before}")
            return 1
        for each in chosen:
            caught, text = outcome(tree, each)
            bad += not caught
            print(f"{'ok  ' if caught else 'BAD '} {each.rule:<62} {text}", flush=True)
    print(f"{len(chosen) - bad} of {len(chosen)} breaks are caught")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
