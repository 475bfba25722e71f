"""An audit of the engine's logs, with what was measured in place of what logs leave open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ga_audit.bugs import matching
from ga_audit.conclusion import Audit, Diagnosis, MeasuredOutcome, Outcome
from ga_audit.diagnosis import MEASURED, diagnose_group
from ga_audit.finding import HEALTHY, NAMED, OTHER, BugMatch, Evidence, Impact
from ga_audit.grouping import Group
from ga_audit.logs import settings
from ga_audit.repro import scenarios
from ga_audit.repro.measurement import deviates
from ga_audit.repro.verdict import Judgement, MatrixVerdict, Scale, is_about
from ga_audit.run import Note, Role, Run, RunSettings, Setting, Trust

_IMPOSSIBLE = -60.0  # nats: what was measured to be otherwise


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measurement(MeasuredOutcome):
    """A measured outcome with all that was measured."""

    judgement: Judgement


def with_truth(audit: Audit, found: Judgement, *, variant: str = "", command: tuple[str, ...] | None = None) -> Audit:
    """The audit with the measurement as its strongest evidence: verdict, impact, findings, releases, known bugs.

    Where the logs alone say otherwise, or leave something open, a note says so.

    Parameters
    ----------
    audit : of the engine's logs.
    found : the measurement.
    variant : of the engine, or the stock model, that was trained.
    command : what measured it.
    """
    return replace(audit, diagnoses=tuple(_diagnose(d, found, variant) for d in audit.diagnoses), command=command)


def comparison(diagnosis: Diagnosis, found: Judgement) -> tuple[Note, ...]:
    """Whether the reading of the logs and the measurement agree, quantity by quantity; nothing if nothing was measured."""
    if found.verdict == "not measured":
        return ()
    against = list(filter(None, (
        _against(role, diagnosis, scale)
        for role, scale in ((Role.LOSS, found.on_loss), (Role.GRAD_NORM, found.on_grad_norm))
    )))  # fmt: skip
    affected = {Impact.LOG_ONLY: "only the log", Impact.GRADIENTS: "the gradients too", Impact.NONE: "nothing"}
    measured = Outcome(found.verdict).impact
    some_steps = any(note.code == "short-steps" for note in diagnosis.notes)
    scales = (found.on_loss, found.on_grad_norm, found.on_gradient)
    shared = any(scale.rest is not None and deviates(scale.rest) for scale in scales) and not some_steps
    differs = diagnosis.impact in affected and diagnosis.impact is not measured
    unequal = found.verdict is MatrixVerdict.UNEQUAL_WEIGHTS
    invisible = some_steps or shared or unequal  # the impact does not show in logs
    if not against and differs and not invisible:
        against = [f"affected by the logs: {affected[diagnosis.impact]}, measured: {affected[measured]}"]
    if against:
        message = f"measurement and logs contradict each other ({'; '.join(against)}); the measurement decides"
        return (Note("measurement-disagrees", message),)
    open_roles = [role for role in (Role.LOSS, Role.GRAD_NORM) if _is_open(role, diagnosis)]
    if open_roles:
        names = " and ".join(open_roles)
        return (Note("measurement-decides", f"the logs alone leave the {names} open; the measurement decides"),)
    if unequal:
        message = "logs do not show how micro-batches are weighted; the measurement decides"
        return (Note("measurement-decides", message),)
    if shared:
        message = "a factor that every run shares does not show in ratios of logs; the measurement decides"
        return (Note("measurement-decides", message),)
    return (Note("measurement-agrees", "measurement and logs agree"),)


def _against(role: Role, diagnosis: Diagnosis, measured: Scale) -> str:
    """In which exponents the logs' reading of a quantity is not the measured one; empty where it is, or is open."""
    if _is_open(role, diagnosis):
        return ""
    read = next((f.hypothesis for f in diagnosis.findings if f.role is role), HEALTHY)
    pairs = (("GA", read.ga, measured.ga), ("world size", read.world, measured.world))
    return "; ".join(
        f"{role} by the logs {driver}^{wanted:g}, measured {driver}^{exponent:.2f}"
        for driver, wanted, exponent in pairs
        if exponent is not None and not is_about(exponent, wanted)
    )


def _is_open(role: Role, diagnosis: Diagnosis) -> bool:
    return role in diagnosis.undecided or role not in diagnosis.posterior


def _diagnose(diagnosis: Diagnosis, found: Judgement, variant: str) -> Diagnosis:
    if found.verdict == "not measured":
        note = Note("not-measured", "the real gradient was not measured in every cell: these are the logs alone")
        return diagnose_group(diagnosis.group, (*diagnosis.evidence, *diagnosis.not_applicable), notes=(note,))
    measured = Measurement(
        outcome=Outcome(found.verdict),
        bugs=_bugs(found, variant),
        logs_alone=diagnosis,
        notes=(*(n for n in diagnosis.notes if n.code != "common-factor"), *comparison(diagnosis, found)),
        judgement=found,
    )
    members = Group(tuple(_with_packages(run, found) for run in diagnosis.runs))
    evidence = (*_measured(members.runs, found), *diagnosis.evidence)
    return diagnose_group(members, (*evidence, *diagnosis.not_applicable), measured)


def _measured(runs: Sequence[Run], found: Judgement) -> Iterator[Evidence]:
    """The logged loss and grad_norm against those of the whole batch, as evidence that decides."""
    for role, scale, name in ((Role.LOSS, found.on_loss, "loss"), (Role.GRAD_NORM, found.on_grad_norm, "grad_norm")):
        if not scale.ratios:
            continue
        on_ga, on_world = found.exponents(scale)
        pairs = {h: ((on_ga, h.ga), (on_world, h.world)) for h in NAMED}
        fitting = [h for h, p in pairs.items() if all(e is None or is_about(e, wanted) for e, wanted in p)]
        known = scale.rest is not None or not scale.is_off
        likelihood = {h: 0.0 if known and h in fitting else _IMPOSSIBLE for h in NAMED}
        likelihood[OTHER] = _IMPOSSIBLE if known and fitting else 0.0
        base = likelihood[HEALTHY]
        cells = tuple((c.name, getattr(c, name)) for c in found.cells if getattr(c, name) is not None)
        yield Evidence(
            kind=MEASURED,
            role=role,
            runs=tuple(run.id for run in runs),
            log_likelihood={h: value - base for h, value in likelihood.items()},
            facts={"cells": cells},
            source="truth.json",
        )


def _bugs(found: Judgement, variant: str) -> tuple[BugMatch, ...]:
    seen = scenarios.Seen(
        found.exponents(found.on_loss),
        found.exponents(found.on_grad_norm),
        found.exponents(found.on_gradient),
        found.verdict,
        found.cosine,
        multi_rank=max(found.world_sizes) > 1,
        average_tokens=found.training.average_tokens,
        data_parallel=bool(found.data_parallel),
    )
    ids = scenarios.known_bugs(variant, found.training.packages, seen)
    return tuple(matching.match_measured(name, found.training.packages) for name in ids)


def _with_packages(run: Run, found: Judgement) -> Run:
    """The releases that trained, which the engine's own logs need not name."""
    packages = {
        name: Setting(release, "truth.json: packages", Trust.RECORDED)
        for name, release in found.training.packages.items()
    }
    return replace(run, settings=settings.merge(run.settings, RunSettings(packages=packages)))
