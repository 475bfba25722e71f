"""Evidence -> posterior -> findings and verdict.

The posterior over named hypotheses is the prior plus the sum of what each kind of evidence says (natural logs). Pieces
of one kind on single runs share their bias (the same task, the same dropout), so they count once, as their mean. A
verdict is spoken at a posterior of `DECIDE_AT`, and `healthy` needs more than that: where runs were compared, equivalence
within a margin. No verdict on a group is given that does not hold for each of its runs (`odd_runs`), and none is
`healthy` where the GA of a run is unknown.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ga_audit import clipping as clip_share
from ga_audit import next_steps, odd_runs, retrain
from ga_audit.bugs import matching, silent
from ga_audit.conclusion import Diagnosis, MeasuredOutcome, Undecided, UndecidedReason
from ga_audit.finding import (
    HEALTHY,
    NAMED,
    OTHER,
    Evidence,
    Finding,
    Hypothesis,
    Impact,
    NotApplicable,
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
from ga_audit.stats.constants import DECIDE_AT, LIKELY_AT

MEASURED = "measurement"  # kind of evidence that needs no margin: what was logged, against what is true

_COMPARES = frozenset({"ratio_regression", "version_contrast", "ga_change"})  # kinds that see GA change
_HF = frozenset({"transformers", "trl", "accelerate"})
_RELEASE = "known_release"  # odds of what a release is known for, no observation
_MAX_DECIDING = 3
_NORM_LEANS_HEALTHY = 0.8  # an undecided grad_norm does not overturn a healthy loss from here on


@dataclass(frozen=True, slots=True)
class Reading:
    """What is concluded about one quantity."""

    posterior: dict[Hypothesis, float]
    verdict: Verdict | None  # None: no evidence on it
    top: Hypothesis
    tied: tuple[Hypothesis, ...]  # with the top one, as far as this evidence goes
    why: Undecided | None  # why it is inconclusive


def diagnose_group(
    group: Group,
    items: Sequence[Evidence | NotApplicable],
    measured: MeasuredOutcome | None = None,
    notes: Sequence[Note] = (),
) -> Diagnosis:
    """Verdict, findings, impact and next steps for one group of comparable runs.

    Parameters
    ----------
    group : the runs.
    items : all that `pipeline.gather` found on them, and what was measured of the logged values.
    measured : a measurement of the real gradient, which decides verdict, impact and known bugs.
    notes : further notes of the caller.
    """
    evidence = tuple(item for item in items if isinstance(item, Evidence))
    not_applicable = tuple(item for item in items if isinstance(item, NotApplicable))
    loss = read_role(Role.LOSS, group, evidence, None)
    norm = read_role(Role.GRAD_NORM, group, evidence, loss)
    readings = {Role.LOSS: loss, Role.GRAD_NORM: norm}
    findings = tuple(_findings(group.runs, readings, evidence))
    by_evidence = _verdict(loss, norm), _impact(loss, norm)
    if measured is None:
        verdict, impact = by_evidence
        bugs = matching.match(group.runs, findings, verdict)
    else:
        verdict, impact, bugs = measured.outcome.verdict, measured.outcome.impact, measured.bugs
    clipping = tuple(clip_share.shares(group.runs, findings))
    undecided = {role: reading.why for role, reading in readings.items() if reading.why is not None}
    found_norm = next((f.hypothesis for f in findings if f.role is Role.GRAD_NORM), None)
    situation = next_steps.Situation(
        group=group, verdict=verdict, impact=impact, findings=findings, evidence=evidence, not_applicable=not_applicable,
        undecided=undecided, bugs=bugs, measured=measured is not None,
    )  # fmt: skip
    return Diagnosis(
        group=group,
        verdict=verdict,
        impact=impact,
        posterior={role: r.posterior for role, r in readings.items() if r.verdict is not None},
        findings=findings,
        evidence=evidence,
        not_applicable=not_applicable,
        deciding=_deciding(evidence),
        undecided=undecided,
        why_inconclusive=_why_inconclusive(group, verdict, undecided, not_applicable),
        bugs=bugs,
        clipping=clipping,
        retrain=retrain.answer(group.runs, verdict, impact, found_norm, clipping),
        next_steps=next_steps.next_steps(situation),
        notes=(*(_notes(group.runs, readings, findings, evidence) if measured is None else measured.notes), *notes),
        measured=measured,
        only_measured=(verdict, impact) != by_evidence,
    )


def _deciding(evidence: Sequence[Evidence]) -> tuple[Evidence, ...]:
    """The strongest evidence, one piece a kind and quantity."""

    def strength(piece: Evidence) -> float:
        values = list(piece.log_likelihood.values())
        return max(values) - min(values) if values else 0.0

    strongest: dict[tuple[str, Role], Evidence] = {}
    for piece in sorted(evidence, key=strength, reverse=True):
        strongest.setdefault((piece.kind, piece.role), piece)
    return tuple(strongest.values())[:_MAX_DECIDING]


def _why_inconclusive(
    group: Group, verdict: Verdict, undecided: Mapping[Role, Undecided], not_applicable: Sequence[NotApplicable]
) -> tuple[Undecided, ...]:
    if verdict is not Verdict.INCONCLUSIVE:
        return ()
    if undecided:
        return tuple(undecided.values())
    if len(group.runs) == 1 and (run := group.runs[0]).settings.ga == 1 and run.settings.ranks == 1:
        return (Undecided(reason=UndecidedReason.NOTHING_SCALES),)
    for item in next_steps.deciding(not_applicable):
        return (Undecided(reason=UndecidedReason.NOT_APPLICABLE, role=item.role, not_applicable=item),)
    return (Undecided(reason=UndecidedReason.NOTHING_TO_COMPARE),)


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
        return Reading({HEALTHY: 1.0}, None, HEALTHY, (), None)
    hypotheses = hypotheses_about(runs, pieces)
    prior = prior_of(hypotheses, None if loss is None or loss.verdict is None else loss.posterior)
    together = [of_one_kind(kind, hypotheses, runs) for kind in by_kind(pieces).values()]
    posterior = decision.posterior(prior, together)
    top = max(posterior, key=lambda h: posterior[h])
    tied = tuple(h for h in posterior if _untold(h, top, pieces, runs))
    seen = _Seen(role, posterior, top, tied, pieces, runs)
    if any(piece.kind == MEASURED for piece in pieces):
        return seen.conclude(_why_open_if_measured(seen))
    explain = odd_runs.why_undecided if (why := _why_open(seen)) is not None else odd_runs.why
    return seen.conclude(explain(role, group, pieces, prior, top) or why)


def _untold(h: Hypothesis, top: Hypothesis, pieces: Sequence[Evidence], runs: Sequence[Run]) -> bool:
    return all(abs(log_likelihood(p, h, runs) - log_likelihood(p, top, runs)) < SAME for p in pieces)


@dataclass(frozen=True, slots=True)
class _Seen:
    """The posterior over one quantity, and what led to it."""

    role: Role
    posterior: dict[Hypothesis, float]
    top: Hypothesis
    tied: tuple[Hypothesis, ...]
    pieces: Sequence[Evidence]
    runs: Sequence[Run]

    def conclude(self, why: Undecided | None) -> Reading:
        """The likeliest hypothesis, unless there is a reason why it is open."""
        scaled = Verdict.HEALTHY if self.top == HEALTHY else Verdict.SCALED
        verdict = scaled if why is None else Verdict.INCONCLUSIVE
        return Reading(self.posterior, verdict, self.top, self.tied, why)

    def because(self, reason: UndecidedReason) -> Undecided:
        """A reason without parameters."""
        return Undecided(reason=reason, role=self.role)

    def graded(self, reason: UndecidedReason, **parameters: Any) -> Undecided:
        """A reason with what the quantity likely is, unless its release alone says so."""
        scaled = sum(p for h, p in self.posterior.items() if h not in (HEALTHY, OTHER))
        shares = {Verdict.HEALTHY: self.posterior[HEALTHY], Verdict.SCALED: scaled}
        leaning = max(shares, key=lambda verdict: shares[verdict])
        if shares[leaning] >= LIKELY_AT and any(piece.kind != _RELEASE for piece in self.pieces):
            parameters |= {"leaning": leaning, "confidence": shares[leaning]}
        return Undecided(reason=reason, role=self.role, **parameters)


def _why_open_if_measured(seen: _Seen) -> Undecided | None:
    return seen.because(UndecidedReason.UNEXPLAINED_FACTOR) if seen.top == OTHER else None


def _why_open(seen: _Seen) -> Undecided | None:
    """Why the evidence does not decide: a verdict needs `DECIDE_AT`, and more than the posterior."""
    posterior, top = seen.posterior, seen.top
    if top == HEALTHY and posterior[top] >= DECIDE_AT:
        return _why_not_healthy(seen)
    scaled_together = sum(posterior[h] for h in seen.tied if h not in (HEALTHY, OTHER))
    if top not in (HEALTHY, OTHER) and (posterior[top] >= DECIDE_AT or scaled_together >= DECIDE_AT):
        return _why_not_scaled(seen)
    return _why_below_threshold(seen)


def _why_not_healthy(seen: _Seen) -> Undecided | None:
    """`healthy` needs equivalence where runs were compared, and one piece that is not weak."""
    if any(p.equivalent is False for p in seen.pieces):
        return seen.graded(UndecidedReason.WIDE_INTERVAL)
    if all(p.weak for p in seen.pieces) and not any(p.equivalent for p in seen.pieces):
        return seen.because(UndecidedReason.ONLY_WEAK_EVIDENCE)
    return None


def _why_not_scaled(seen: _Seen) -> Undecided | None:
    """`scaled` needs a piece that is not weak, or two kinds, and no look-alike."""

    def supports(piece: Evidence) -> bool:
        return log_likelihood(piece, seen.top, seen.runs) > log_likelihood(piece, HEALTHY, seen.runs) + 0.5

    supporting = {p.kind for p in seen.pieces if supports(p)}
    strong = {p.kind for p in seen.pieces if not p.weak and p.kind in supporting}
    if not strong and len(supporting) < 2:
        return seen.because(UndecidedReason.ONE_WEAK_EVIDENCE)
    return _look_alike(seen.role, supporting, seen.runs)


def _look_alike(role: Role, supporting: set[str], runs: Sequence[Run]) -> Undecided | None:
    """Another sum of the same size, where one run's own level is all there is and the trainer is unknown.

    Hand-written loops add up what they log, or sum over a batch; transformers' Trainer and what is built on it do neither.
    """
    if supporting & _COMPARES or any(_HF & run.settings.packages.keys() for run in runs):
        return None
    names = ["logging_steps"] if "eval_gap" in supporting else ["logging_steps", "micro_batch_size"]
    for name in names:
        settings = [getattr(run.settings, name) for run in runs]
        if all(s is not None and s.value == run.settings.ga for s, run in zip(settings, runs, strict=True)):
            value = int(settings[0].value)
            return Undecided(reason=UndecidedReason.LOOK_ALIKE, role=role, setting=name, value=value)
    return None


def _why_below_threshold(seen: _Seen) -> Undecided:
    ranked = sorted(seen.posterior.items(), key=lambda item: -item[1])
    single = len(seen.runs) == 1
    if len(seen.tied) > 1 and not single:
        tied = tuple((h.name, p) for h, p in ranked if h in seen.tied)
        return seen.graded(UndecidedReason.TIED, hypotheses=tied)
    if seen.top == OTHER and seen.posterior[OTHER] >= DECIDE_AT:
        return seen.because(UndecidedReason.UNEXPLAINED_FACTOR if single else UndecidedReason.UNEXPLAINED_DIFFERENCE)
    leading = tuple((h.name, p) for h, p in ranked[:2])
    return seen.graded(UndecidedReason.BELOW_THRESHOLD, hypotheses=leading, single_run=single)


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


def _impact(loss: Reading, norm: Reading) -> Impact:
    if norm.verdict is Verdict.SCALED:
        return Impact.GRADIENTS
    if loss.verdict is Verdict.SCALED and norm.verdict is Verdict.HEALTHY:
        return Impact.LOG_ONLY
    if _verdict(loss, norm) is Verdict.HEALTHY and norm.verdict is Verdict.HEALTHY:
        return Impact.NONE
    return Impact.UNKNOWN


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
    for f in findings:
        yield from _also_possible(f, readings[f.role], [run for run in runs if run.id in f.runs])
    if readings[Role.LOSS].verdict is Verdict.HEALTHY:  # of a sum it is no news that a sum over few is small
        yield from (note for piece in evidence if piece.kind == "short_accumulation" for note in piece.notes)
    if not findings and readings[Role.GRAD_NORM].verdict is not Verdict.HEALTHY:
        yield from silent.notes(runs)
    if len(runs) > 1 and any(r.verdict is not None for r in readings.values()):
        message = "a factor that is the same in every run (5x too high at each GA) cannot be seen from ratios"
        yield Note("common-factor", message)
    if len(runs) > 1 and any(run.settings.world_size is None for run in runs):
        yield Note("world-size-assumed", "world_size is not in every log and is taken as equal in all runs")


def _also_possible(found: Finding, reading: Reading, about: Sequence[Run]) -> Iterable[Note]:
    """Other faults that ratios between these runs do not tell from the one found, with what all runs share."""
    for h in reading.tied:
        if h in (found.hypothesis, HEALTHY, OTHER) or _same_factors(h, found.hypothesis, about):
            continue
        shared = {run.settings.ga for run in about}
        why = f", since all runs have GA {shared.pop()}" if h.ga != found.hypothesis.ga and len(shared) == 1 else ""
        yield Note("also-possible", f"the {found.role} may also be {h.name}: these runs do not exclude it{why}")


def _same_factors(one: Hypothesis, two: Hypothesis, runs: Sequence[Run]) -> bool:
    return all(math.isclose(one.log_factor(run), two.log_factor(run), abs_tol=1e-9) for run in runs)
