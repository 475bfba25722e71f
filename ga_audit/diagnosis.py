"""Evidence -> posterior -> findings and verdict.

The posterior over named hypotheses is the prior plus the sum of what each kind of evidence says (natural logs). Pieces
of one kind on single runs share their bias (the same task, the same dropout), so they count once, as their mean. A
verdict is spoken at a posterior of `SPEAK`, and `healthy` needs more than that: where runs were compared, equivalence
within a margin. No verdict on a group is given that does not hold for each of its runs (`odd_runs`), and none is
`healthy` where the GA of a run is unknown.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ga_audit import advice, odd_runs
from ga_audit import clipping as clip_share
from ga_audit.bugs import matching, silent
from ga_audit.finding import (
    HEALTHY,
    NAMED,
    OTHER,
    Diagnosis,
    Evidence,
    Finding,
    Hypothesis,
    Reach,
    Silence,
    Verdict,
)
from ga_audit.grouping import Group
from ga_audit.posterior import (
    SAME,
    by_kind,
    hypotheses_about,
    log_likelihood,
    of_one_kind,
    prior_of,
)
from ga_audit.run import Note, Role, Run
from ga_audit.stats import decision
from ga_audit.stats.constants import SPEAK

ROLES = (Role.LOSS, Role.GRAD_NORM)
MEASURED = "measurement"  # kind of evidence that needs no margin: what was logged, against what is true

_COMPARES = frozenset({"ratio_regression", "version_contrast", "ga_change"})  # kinds that see GA change
_HF = frozenset({"transformers", "trl", "accelerate"})
_NORM_LEANS_HEALTHY = 0.8  # an undecided grad_norm does not overturn a healthy loss from here on


@dataclass(frozen=True, slots=True)
class Reading:
    """What is concluded about one quantity."""

    posterior: dict[Hypothesis, float]
    verdict: Verdict | None  # None: nothing speaks about it
    top: Hypothesis
    tied: tuple[Hypothesis, ...]  # with the top one, as far as this evidence goes
    why: str  # why it is inconclusive


@dataclass(frozen=True, slots=True)
class Settled:
    """What a measurement has settled, whatever the logs say."""

    verdict: Verdict
    reach: Reach
    headline: str  # where the evidence on the logs does not say it


def diagnose_group(group: Group, items: Sequence[Evidence | Silence], settled: Settled | None = None) -> Diagnosis:
    """Verdict, findings, reach and advice for one group of comparable runs.

    Parameters
    ----------
    group : the runs.
    items : all that `pipeline.gather` found on them, and what was measured.
    settled : the outcome of a measurement.
    """
    evidence = tuple(item for item in items if isinstance(item, Evidence))
    silences = tuple(item for item in items if isinstance(item, Silence))
    loss = read_role(Role.LOSS, group, evidence, None)
    norm = read_role(Role.GRAD_NORM, group, evidence, loss)
    readings = {Role.LOSS: loss, Role.GRAD_NORM: norm}
    verdict = _verdict(loss, norm)
    findings = tuple(_findings(group.runs, readings, evidence))
    reach = _reach(verdict, loss, norm)
    agreed = settled is None or (verdict, reach) == (settled.verdict, settled.reach)
    verdict, reach = (settled.verdict, settled.reach) if settled else (verdict, reach)
    bugs = matching.match(group.runs, findings, verdict)
    clipping = tuple(clip_share.shares(group.runs, findings))
    told = advice.Told(group, verdict, reach, findings, evidence, silences, bugs, clipping)
    reasons = {role: reading.why for role, reading in readings.items() if reading.why}
    return Diagnosis(
        runs=tuple(group.runs),
        verdict=verdict,
        reach=reach,
        headline=advice.headline(told, reasons) if settled is None or agreed else settled.headline,
        reasons=advice.reasons(told, reasons),
        posterior={role: reading.posterior for role, reading in readings.items() if reading.verdict is not None},
        findings=findings,
        evidence=evidence,
        silences=silences,
        bugs=bugs,
        clipping=clipping,
        retrain=advice.retrain(told),
        differing=tuple(group.settings_that_differ),
        next_steps=advice.next_steps(told, reasons),
        notes=tuple(_notes(group.runs, readings, findings, evidence)),
        undecided=reasons,
    )


def read_role(role: Role, group: Group, evidence: Iterable[Evidence], loss: Reading | None) -> Reading:
    """Posterior and verdict on one quantity.

    Parameters
    ----------
    role : LOSS or GRAD_NORM.
    group : comparable runs.
    evidence : of any role; pieces of other roles are passed over.
    loss : the reading of the loss, to which that of grad_norm is coupled; None for the loss itself.
    """
    runs = group.runs
    pieces = [piece for piece in evidence if piece.role is role]
    if not pieces:
        return Reading({HEALTHY: 1.0}, None, HEALTHY, (), "")
    hypotheses = hypotheses_about(runs, pieces)
    prior = prior_of(hypotheses, None if loss is None or loss.verdict is None else loss.posterior)
    together = [of_one_kind(kind, hypotheses, runs) for kind in by_kind(pieces).values()]
    posterior = decision.posterior(prior, together)
    top = max(posterior, key=lambda h: posterior[h])
    tied = tuple(h for h in posterior if _untold(h, top, pieces, runs))
    reading = _decide(role, posterior, top, tied, pieces, runs)
    if any(p.kind == MEASURED for p in pieces):
        return reading
    explain = odd_runs.why_undecided if reading.verdict is Verdict.INCONCLUSIVE else odd_runs.why
    if why := explain(role, group, pieces, prior, top):
        return Reading(posterior, Verdict.INCONCLUSIVE, top, tied, why)
    return reading


def _untold(h: Hypothesis, top: Hypothesis, pieces: Sequence[Evidence], runs: Sequence[Run]) -> bool:
    return all(abs(log_likelihood(p, h, runs) - log_likelihood(p, top, runs)) < SAME for p in pieces)


def _decide(
    role: Role,
    posterior: dict[Hypothesis, float],
    top: Hypothesis,
    tied: tuple[Hypothesis, ...],
    pieces: Sequence[Evidence],
    runs: Sequence[Run],
) -> Reading:
    """Speak at `SPEAK`; `healthy` needs equivalence too; weak evidence never convicts alone."""

    def reading(verdict: Verdict, why: str = "") -> Reading:
        return Reading(posterior, verdict, top, tied, why)

    if any(p.kind == MEASURED for p in pieces):
        if top == OTHER:
            return reading(
                Verdict.INCONCLUSIVE, f"the {role} is off by something that no power of GA or world size explains"
            )
        return reading(Verdict.HEALTHY if top == HEALTHY else Verdict.SCALED)
    scaled_together = sum(posterior[h] for h in tied if h not in (HEALTHY, OTHER))
    if top == HEALTHY and posterior[top] >= SPEAK:
        compared = [p for p in pieces if p.equivalent is not None]
        if any(p.equivalent is False for p in compared):
            return reading(Verdict.INCONCLUSIVE, f"the {role} interval is too wide to call the runs equivalent")
        if all(p.weak for p in pieces) and not any(p.equivalent for p in pieces):
            return reading(Verdict.INCONCLUSIVE, f"only weak evidence speaks about the {role}")
        return reading(Verdict.HEALTHY)
    if top not in (HEALTHY, OTHER) and (posterior[top] >= SPEAK or scaled_together >= SPEAK):
        speaking = {p.kind for p in pieces if log_likelihood(p, top, runs) > log_likelihood(p, HEALTHY, runs) + 0.5}
        strong = {p.kind for p in pieces if not p.weak and p.kind in speaking}
        if not strong and len(speaking) < 2:
            return reading(Verdict.INCONCLUSIVE, f"one weak piece of evidence alone does not convict the {role}")
        if look_alike := _look_alike(speaking, runs):
            return reading(Verdict.INCONCLUSIVE, look_alike)
        return reading(Verdict.SCALED)
    return reading(Verdict.INCONCLUSIVE, _undecided(role, posterior, top, tied, runs))


def _look_alike(speaking: set[str], runs: Sequence[Run]) -> str:
    """Another sum of the same size, where nothing but one run's own level speaks and the trainer is not known.

    Hand-written loops add up what they log, or sum over a batch; transformers' Trainer and what is built on it do neither.
    """
    if speaking & _COMPARES or any(_HF & run.settings.packages.keys() for run in runs):
        return ""
    names = ["logging_steps"] if "eval_gap" in speaking else ["logging_steps", "micro_batch_size"]
    for name in names:
        settings = [getattr(run.settings, name) for run in runs]
        if all(s is not None and s.value == run.settings.ga for s, run in zip(settings, runs, strict=True)):
            return f"{name} is {settings[0].value} too, and a sum over it would look the same"
    return ""


def _undecided(
    role: Role,
    posterior: Mapping[Hypothesis, float],
    top: Hypothesis,
    tied: tuple[Hypothesis, ...],
    runs: Sequence[Run],
) -> str:
    if len(tied) > 1 and len(runs) > 1:
        names = " and ".join(h.name for h in sorted(tied, key=lambda h: -posterior[h]))
        return f"these runs cannot tell {names} apart in the {role}"
    if top == OTHER and posterior[top] >= SPEAK:
        where = "is off" if len(runs) == 1 else "differs between the runs"
        return f"the {role} {where} by something that no power of GA or world size explains"
    ranked = sorted(posterior.items(), key=lambda item: -item[1])[:2]
    names = ", ".join(f"{h.name} {p:.0%}" for h, p in ranked)
    if len(runs) == 1:
        return f"one run's own evidence on the {role} does not reach {SPEAK:.0%} for any hypothesis ({names})"
    return f"the evidence on the {role} does not reach {SPEAK:.0%} for any hypothesis ({names})"


def _verdict(loss: Reading, norm: Reading) -> Verdict:
    if Verdict.SCALED in (loss.verdict, norm.verdict):
        return Verdict.SCALED
    if loss.verdict is Verdict.HEALTHY:
        if norm.verdict in (None, Verdict.HEALTHY) or norm.posterior[HEALTHY] >= _NORM_LEANS_HEALTHY:
            return Verdict.HEALTHY
        return Verdict.INCONCLUSIVE
    if loss.verdict is None and norm.verdict is Verdict.HEALTHY:
        return Verdict.HEALTHY
    return Verdict.INCONCLUSIVE


def _reach(verdict: Verdict, loss: Reading, norm: Reading) -> Reach:
    if norm.verdict is Verdict.SCALED:
        return Reach.GRADIENTS
    if loss.verdict is Verdict.SCALED and norm.verdict is Verdict.HEALTHY:
        return Reach.LOG_ONLY
    if verdict is Verdict.HEALTHY and norm.verdict is Verdict.HEALTHY:
        return Reach.NONE
    return Reach.UNKNOWN


def _findings(runs: Sequence[Run], readings: Mapping[Role, Reading], evidence: Sequence[Evidence]) -> Iterable[Finding]:
    for role, reading in readings.items():
        if reading.verdict is not Verdict.SCALED:
            continue
        estimates = [p.estimate for p in evidence if p.role is role and p.estimate is not None]
        about = tuple(run.id for run in runs if reading.top.only is None or run.id in reading.top.only)
        yield Finding(
            id=f"{role.value.replace('_', '-')}-{reading.top.name.partition('@')[0]}",
            role=role,
            hypothesis=reading.top,
            probability=sum(reading.posterior[h] for h in {*reading.tied, reading.top}),
            estimate=estimates[0] if estimates else None,
            runs=about,
        )


def _notes(
    runs: Sequence[Run], readings: Mapping[Role, Reading], findings: Sequence[Finding], evidence: Sequence[Evidence]
) -> Iterable[Note]:
    for f in findings:
        about = [run for run in runs if run.id in f.runs]
        # with one rank a sum over ranks is no other fault
        ranks = any(run.settings.world_size and run.settings.world_size.value > 1 for run in about)
        twins = [h.name for h in NAMED if ranks and h != f.hypothesis and _same_factors(h, f.hypothesis, about)]
        if twins and (f.hypothesis.ga or f.hypothesis.world):
            message = f"in the {f.role} {', '.join(twins)} would be the same factor in these runs"
            yield Note("same-factor", message)
    if readings[Role.LOSS].verdict is Verdict.HEALTHY:  # of a sum it is no news that a sum over few is small
        yield from (note for piece in evidence if piece.kind == "short_accumulation" for note in piece.notes)
    if not findings and readings[Role.GRAD_NORM].verdict is not Verdict.HEALTHY:
        yield from silent.notes(runs)
    if len(runs) > 1 and any(r.verdict is not None for r in readings.values()):
        message = "a factor that is the same in every run (5x too high at each GA) cannot be seen from ratios"
        yield Note("common-factor", message)
    if len(runs) > 1 and any(run.settings.world_size is None for run in runs):
        yield Note("world-size-assumed", "world_size is not in every log and is taken as equal in all runs")


def _same_factors(one: Hypothesis, two: Hypothesis, runs: Sequence[Run]) -> bool:
    return all(math.isclose(one.log_factor(run), two.log_factor(run), abs_tol=1e-9) for run in runs)
