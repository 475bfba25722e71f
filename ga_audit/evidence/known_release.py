"""Whether the releases of the stack are known to mis-scale, or known not to.

What it looks at
    The releases of the packages that trained the run, against the catalogue of known bugs.
Why it is evidence
    A bug that a release is known to have is likelier there than elsewhere; one that it is known not to have, less likely.
When it does not apply
    No release is known, or no entry is about the package; or no bug is known and no package of a known release computes the
    loss: DeepSpeed, kernels, and what configures another trainer do not.
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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ga_audit.bugs import catalogue, stock_models
from ga_audit.evidence import _single
from ga_audit.evidence._objective import Objective, is_encoder_decoder, objective
from ga_audit.finding import HEALTHY, NAMED, OTHER, Evidence, Fact, Hypothesis, NotApplicable, Reason
from ga_audit.grouping import Group
from ga_audit.run import Role, Run

KIND = "known_release"
SETTLED, OPEN, NONE_KNOWN = math.log(5), math.log(2), math.log(3)
COMMON = 0.2  # share of a release's stock models from which a bug of such models is nothing unusual: 0.18 in 4.57, 0.58 in 5.24

# packages whose own trainer computes and logs the loss: that one of them has no such bug says that the loss is right
COMPUTES_LOSS = frozenset({"transformers", "torchtune", "verl"})


def gather(group: Group) -> Iterator[Evidence | NotApplicable]:
    """Prior odds on loss and grad_norm of each run whose releases are known."""
    for run in _single.runs_with_ga(group, KIND):
        if isinstance(run, NotApplicable):
            yield run
            continue
        covered = {p: s.value for p, s in run.settings.packages.items() if p in catalogue.packages()}
        if not covered:
            yield _single.not_applicable(KIND, run, Reason.RELEASE_UNKNOWN)
            continue
        for role in (Role.LOSS, Role.GRAD_NORM):
            if run.get(role) is None:
                continue
            known = _look_up(run, role, covered)
            if known.odds or COMPUTES_LOSS & covered.keys():
                yield _evaluate(run, role, covered, known)
            else:
                facts: dict[str, Fact] = {"packages": ", ".join(sorted(covered))}
                yield _single.not_applicable(KIND, run, Reason.RELEASE_ELSEWHERE, facts, role=role)


def _is_common(row: catalogue.Affected, run: Run, package: str, release: str) -> bool:
    """Whether many stock models of the release have the bug, and the log does not say that this is another one."""
    if package != "transformers" or catalogue.open_names(row, [run]) != {"model"}:
        return False
    counted = stock_models.counted(release)
    # nearly all language models use the count
    of_tokens = objective(run).objective is Objective.LANGUAGE_MODEL and not is_encoder_decoder(run)
    return not of_tokens and counted["ignores"] > COMMON * sum(counted.values())


def _is_one(exponents: tuple[float, float], h: Hypothesis, run: Run) -> bool:
    """Whether a hypothesis predicts the factor of these exponents for a run; False where GA or ranks are not known."""
    return abs(Hypothesis("", *exponents).log_factor(run) - h.log_factor(run)) < 1e-9


def _is_of_devices(row: catalogue.Affected, run: Run) -> bool:
    """Whether a bug of several devices of one process may be this run's, whose ranks the log does not tell from processes."""
    return row.when.get("data_parallel") is True and catalogue.open_names(row, [run]) <= {"model", "data_parallel"}


@dataclass(slots=True)
class _Known:
    """What the catalogue holds on the releases of a run, for one quantity."""

    odds: dict[tuple[float, float], float] = field(default_factory=dict)  # nats by exponents (GA, world size)
    bugs: dict[str, bool] = field(default_factory=dict)  # id -> whether the log settles its conditions
    unusual: set[str] = field(default_factory=set)  # ids of bugs that concern unusual models or losses only
    common: set[tuple[float, float]] = field(default_factory=set)  # exponents of bugs of many stock models


def _look_up(run: Run, role: Role, covered: Mapping[str, str]) -> _Known:
    known = _Known()
    for package, release in covered.items():
        for bug, row in catalogue.of_release(package, release):
            exponents = row.signature.loss if role is Role.LOSS else row.signature.grad_norm
            settled = catalogue.settled(row, [run])
            if settled is False or exponents is None or exponents == (0.0, 0.0):
                continue
            if not catalogue.concerns(row, [run]):
                known.unusual.add(bug.id)  # what every release does to unusual trainers is no sign for this run
                if _is_common(row, run, package, release) or _is_of_devices(row, run):
                    known.common.add(exponents)
                continue
            known.bugs[bug.id] = known.bugs.get(bug.id, False) or settled is True
            known.odds[exponents] = max(known.odds.get(exponents, 0.0), SETTLED if settled else OPEN)
    return known


def _evaluate(run: Run, role: Role, covered: Mapping[str, str], known: _Known) -> Evidence:
    known_not = 0.0 if known.odds else -NONE_KNOWN
    # hypotheses of one factor (at GA 1 a sum over GA and ranks is one over ranks) are one to the run
    exponents = (*known.odds, *known.common)
    at = {h: {e for e in exponents if e == (h.ga, h.world) or _is_one(e, h, run)} for h in NAMED}
    likelihood = {h: max((known.odds.get(e, 0.0) for e in same), default=known_not) for h, same in at.items()}
    return Evidence(
        kind=KIND,
        role=role,
        runs=(run.id,),
        log_likelihood=likelihood | {HEALTHY: 0.0, OTHER: 0.0},
        facts={
            "stack": tuple(covered.items()),
            "bugs": tuple(sorted(known.bugs.items())),
            "unusual": tuple(sorted(known.unusual)),
            "common": bool(known.common),
        },
        source="; ".join(run.settings.packages[p].source for p in covered),
        weak=True,
        detail={"bugs": sorted(known.bugs)},
    )
