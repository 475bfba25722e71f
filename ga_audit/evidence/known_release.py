"""Whether the releases of the stack are known to mis-scale, or known not to.

What it looks at
    The releases of the packages that trained the run, against the catalogue of known bugs.
Why it speaks
    A bug that a release is known to have is likelier there than elsewhere; one that it is known not to have, less likely.
When it is silent
    No release is known, or no entry is about the package.
Calibration
    Judgement, on the low side: of 8 real projects inside a window of transformers 4.46 to 4.48 with GA > 1, 6 were healthy.
    The odds of what a bug does are multiplied by 5 where the log settles the bug's conditions, by 2 where it does not and the bug
    has an end and needs nothing rare; the odds of any scaling by 1/3 where a release has no such bug, but for what many of its
    stock models do (more than half from 5.0 on) where the log does not say which model this is. Weak: never alone, neither way.

References
----------
    `ga-audit bugs`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from ga_audit.bugs import catalogue, stock_models
from ga_audit.evidence import _single
from ga_audit.evidence._objective import Objective, is_encoder_decoder, objective
from ga_audit.finding import HEALTHY, NAMED, OTHER, Evidence, Hypothesis, Silence
from ga_audit.grouping import Group
from ga_audit.run import Role, Run

KIND = "known_release"
SETTLED, OPEN, NONE_KNOWN = math.log(5), math.log(2), math.log(3)
COMMON = 0.2  # share of a release's stock models from which a bug of such models is nothing unusual: 0.18 in 4.57, 0.58 in 5.24


def gather(group: Group) -> Iterator[Evidence | Silence]:
    """Prior odds on loss and grad_norm of each run whose releases are known."""
    for run in _single.runs_with_ga(group, KIND):
        if isinstance(run, Silence):
            yield run
            continue
        covered = {p: s.value for p, s in run.settings.packages.items() if p in catalogue.packages()}
        if not covered:
            remedy = "Say which release trained it: --stack transformers==RELEASE."
            yield Silence(KIND, f"no release of a trainer is known of {run.name}", remedy, Role.LOSS)
            continue
        for role in (Role.LOSS, Role.GRAD_NORM):
            if run.get(role) is not None:
                yield _speak(run, role, covered)


def _is_common(row: catalogue.Affected, run: Run, package: str, release: str) -> bool:
    """Whether many stock models of the release have the bug, and the log does not say that this is another one."""
    if package != "transformers" or catalogue.open_names(row, [run]) != {"model"}:
        return False
    counted = stock_models.counted(release)
    known, _ = objective(run)
    of_tokens = known is Objective.LANGUAGE_MODEL and not is_encoder_decoder(run)  # nearly all of these use the count
    return not of_tokens and counted["ignores"] > COMMON * sum(counted.values())


def _is_one(exponents: tuple[float, float], h: Hypothesis, run: Run) -> bool:
    """Whether a hypothesis predicts the factor of these exponents for a run; False where GA or ranks are not known."""
    return abs(Hypothesis("", *exponents).log_factor(run) - h.log_factor(run)) < 1e-9


def _is_of_devices(row: catalogue.Affected, run: Run) -> bool:
    """Whether a bug of several devices of one process may be this run's, whose ranks the log does not tell from processes."""
    return row.when.get("data_parallel") is True and catalogue.open_names(row, [run]) <= {"model", "data_parallel"}


def _speak(run: Run, role: Role, covered: dict[str, str]) -> Evidence:
    odds: dict[tuple[float, float], float] = {}
    named: dict[str, bool] = {}
    permanent_bugs: set[str] = set()
    common: set[tuple[float, float]] = set()  # what a bug of many stock models does, where the model is not known
    for package, release in covered.items():
        for bug, row in catalogue.of_release(package, release):
            exponents = row.signature.loss if role is Role.LOSS else row.signature.grad_norm
            settled = catalogue.settled(row, [run])
            if settled is False or exponents is None or exponents == (0.0, 0.0):
                continue
            if not catalogue.concerns(row, [run]):
                permanent_bugs.add(bug.id)  # what every release does to unusual trainers says nothing about this one
                if _is_common(row, run, package, release) or _is_of_devices(row, run):
                    common.add(exponents)
                continue
            named[bug.id] = named.get(bug.id, False) or settled is True
            odds[exponents] = max(odds.get(exponents, 0.0), SETTLED if settled else OPEN)
    known_not = 0.0 if odds else -NONE_KNOWN
    # hypotheses of one factor (at GA 1 a sum over GA and ranks is one over ranks) are one to the run
    at = {h: {e for e in (*odds, *common) if e == (h.ga, h.world) or _is_one(e, h, run)} for h in NAMED}
    likelihood = {h: max((odds.get(e, 0.0) for e in same), default=known_not) for h, same in at.items()}
    stack = ", ".join(f"{p} {r}" for p, r in covered.items())
    if named:
        bugs = ", ".join(f"{b}{'' if sure else ' (if its conditions hold)'}" for b, sure in sorted(named.items()))
        summary = f"{stack} is known to mis-scale the {role.value}: {bugs}"
    else:
        rest = ", ".join(sorted(permanent_bugs))
        kinds = "many stock models, unusual ones" if common else "unusual models"
        tail = f" (for {kinds} or losses there are {rest})" if rest else ""
        summary = f"no bug of {stack} alone is known that scales the {role.value}{tail}"
    return Evidence(
        KIND, role, (run.id,), likelihood | {HEALTHY: 0.0, OTHER: 0.0}, summary,
        "; ".join(run.settings.packages[p].source for p in covered), weak=True, detail={"bugs": sorted(named)},
    )  # fmt: skip
