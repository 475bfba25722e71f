"""For machines: JSON of a schema of its own (`schema_v1.json`), written field by field; numbers that are none are null."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ga_audit.conclusion import (
    Audit,
    Diagnosis,
    NextStep,
    Retrain,
    RetrainAnswer,
    Undecided,
)
from ga_audit.finding import BugMatch, Estimate, Evidence, Hypothesis, NotApplicable
from ga_audit.output.wording import advice, bugs, verdict
from ga_audit.output.wording import evidence as wording
from ga_audit.output.wording._sentence import in_backticks
from ga_audit.output.wording.notes import note as note_text
from ga_audit.run import Note, Role, Run, Setting

SCHEMA = "ga-audit/1"


def render(audit: Audit, *, explain: bool = False, shown: Callable[[str], str] | None = None, **_: object) -> str:
    """The audit as JSON; `explain` adds the arithmetic of each piece of evidence, `shown` is applied to every text."""
    content: Any = as_json(audit, explain=explain)
    if shown is not None:
        content = _each_text(content, shown)
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)


def _each_text(value: Any, shown: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, list):
        return [_each_text(v, shown) for v in value]
    if isinstance(value, dict):
        return {(k if k in _OUR_KEYS else shown(k)): _each_text(v, shown) for k, v in value.items()}
    return value


_OUR_KEYS = frozenset({"schema", "loss", "grad_norm"})


def as_json(audit: Audit, *, explain: bool = False) -> dict[str, Any]:
    """The same as Python values."""
    return {
        "schema": SCHEMA,
        "version": audit.version,
        "diagnoses": [_diagnosis(d, explain) for d in audit.diagnoses],
        "set_aside": [
            {**_read(item.run), "why": verdict.set_aside(item), "reason": item.reason.value} for item in audit.set_aside
        ],
        "set_aside_remedy": "" if audit.ask is None else in_backticks(advice.ask(audit.ask)),
        "ask": None if audit.ask is None else _step(audit.ask),
        "failures": [
            {"source": f.source, "message": f.error.message, "where": f.error.where, "remedy": f.error.remedy}
            for f in audit.failures
        ],
        "notes": [_note(n) for n in audit.notes],
    }


def _diagnosis(d: Diagnosis, explain: bool) -> dict[str, Any]:
    return {
        "verdict": d.verdict.value,
        "reach": d.impact.value,
        "impact": d.impact.value,
        "likely": None if d.likely is None else d.likely[0].value,
        "confidence": None if d.confidence is None else _number(d.confidence),
        "headline": verdict.headline(d),
        "reasons": list(verdict.reasons(d)),
        "runs": [_run(d, run) for run in d.runs],
        "findings": [
            {
                "id": f.id, "role": f.role.value, "hypothesis": _hypothesis(f.hypothesis),
                "probability": _number(f.probability), "estimate": _estimate(f.estimate), "runs": list(f.runs),
            }
            for f in d.findings
        ],
        "posterior": {
            role.value: [{**_hypothesis(h), "probability": _number(p)} for h, p in posterior.items()]
            for role, posterior in d.posterior.items()
        },
        "evidence": [_evidence(e, d.runs, explain) for e in d.evidence],
        "silences": [
            _not_applicable(s, d.runs) for s in d.not_applicable
        ],
        "bugs": [_bug(b, d) for b in d.bugs],
        "clipping": [
            {"run": c.run, "max_grad_norm": _number(c.max_grad_norm), "as_logged": _number(c.as_logged),
             "as_corrected": _number(c.as_corrected), "points": c.n_points}
            for c in d.clipping
        ],
        "retrain": in_backticks(advice.retrain(d.retrain)),
        "retrain_facts": _retrain(d.retrain),
        "undecided": [_undecided(why) for why in d.why_inconclusive or d.undecided.values()],
        "settings_that_differ": list(d.group.settings_that_differ),
        "next_steps": list(map(in_backticks, advice.next_steps(d))),
        "actions": [_step(step) for step in d.next_steps],
        "notes": [_note(n) for n in d.notes],
    }  # fmt: skip


def _bug(bug: BugMatch, d: Diagnosis) -> dict[str, Any]:
    return {
        "id": bug.bug, "title": bug.title, "fit": bug.fit.value, "why": verdict.bug_match(bug, d.verdict),
        "fix": bug.fix, "retrain": bugs.RETRAIN[bug.retrain], "links": list(bug.links), "package": bug.package,
        "releases": list(bug.releases_held), "affected": bug.affected, "measured": bug.measured,
        "retrain_code": bug.retrain.value,
        "open": [{"condition": name, "wanted": value} for name, value in bug.open],
    }  # fmt: skip


def _undecided(why: Undecided) -> dict[str, Any]:
    return {
        "reason": why.reason.value,
        "role": why.role.value if why.role else None,
        "runs": list(why.runs),
        "probability_right": [_number(p) for p in why.right],
        "hypotheses": [{"name": name, "probability": _number(p)} for name, p in why.hypotheses],
        "setting": why.setting or None,
        "value": why.value,
        "kind": why.not_applicable.kind if why.not_applicable else None,
    }


def _retrain(answer: Retrain) -> dict[str, Any]:
    rate = answer.effective_rate
    gradients = answer.answer is RetrainAnswer.GRADIENTS
    return {
        "answer": answer.answer.value,
        "clipping": answer.clipping.value if gradients else None,
        "optimizer": answer.optimizer.value if gradients else None,
        "optimizers": list(answer.optimizers),
        "effective_rate": None if rate is None else {
            "run": rate.run, "learning_rate": _number(rate.learning_rate), "factor": _number(rate.factor),
        },
        "weight_decay": None if answer.weight_decay is None else [_number(w) for w in answer.weight_decay],
    }  # fmt: skip


def _step(step: NextStep) -> dict[str, Any]:
    item = step.not_applicable
    return {
        "action": step.action.value,
        "argv": list(step.argv),
        "bug": step.bug.bug if step.bug else None,
        "kind": item.kind if item else None,
    }


def _read(run: Run) -> dict[str, Any]:
    return {
        "id": run.id,
        "name": run.name,
        "sources": [{"format": source.format, "path": source.path} for source in run.sources],
    }


def _run(d: Diagnosis, run: Run) -> dict[str, Any]:
    s = run.settings
    schedule = s.gradient_accumulation_steps
    return {
        **_read(run),
        "gradient_accumulation_steps": None if schedule is None else {
            "value": schedule.value.first, "source": schedule.source,
            "schedule": [
                {"from_step": int(at), "value": int(value)}
                for at, value in zip(schedule.value.from_step, schedule.value.value, strict=True)
            ],
        },
        "micro_batch_size": _setting(s.micro_batch_size),
        "world_size": _setting(s.world_size),
        "max_grad_norm": _setting(s.max_grad_norm),
        "packages": {name: release.value for name, release in sorted(s.packages.items())},
        "series": [
            {"role": x.role.value, "name": x.name, "format": x.format, "points": len(x),
             "first_step": int(x.position[0]) if len(x) else None, "last_step": int(x.position[-1]) if len(x) else None,
             "counted": x.counted.value, "derived": x.derived}
            for x in run.series
        ],
        "factor": {
            role.value: _number(round(math.exp(d.log_factor(run, role)), 9)) for role in (Role.LOSS, Role.GRAD_NORM)
            if any(f.role is role for f in d.findings)
        },
        "notes": [_note(n) for n in run.notes],
    }  # fmt: skip


def _not_applicable(item: NotApplicable, runs: Sequence[Run]) -> dict[str, Any]:
    why, remedy = wording.not_applicable(item, runs)
    role = item.role.value if item.role else None
    return {"kind": item.kind, "role": role, "why": why, "remedy": remedy}


def _evidence(e: Evidence, runs: Sequence[Run], explain: bool) -> dict[str, Any]:
    found = {
        "kind": e.kind,
        "role": e.role.value,
        "runs": list(e.runs),
        "summary": wording.sentence(e, runs),
        "source": e.source,
        "weak": e.weak,
        "log_likelihood": [{**_hypothesis(h), "nats": _number(x)} for h, x in e.log_likelihood.items()],
        "estimate": _estimate(e.estimate),
        "further": [_estimate(other) for other in e.further],
        "notes": [_note(n) for n in e.notes],
    }
    return {**found, "detail": _plain(e.detail)} if explain else found


def _hypothesis(h: Hypothesis) -> dict[str, Any]:
    only = None if h.only is None else sorted(h.only)
    return {"name": h.name, "ga": _number(h.ga), "world": _number(h.world), "only": only}


def _estimate(e: Estimate | None) -> dict[str, Any] | None:
    if e is None:
        return None
    return {
        "value": _number(e.value), "low": _number(e.interval.low), "high": _number(e.interval.high),
        "level": e.interval.level, "driver": e.driver, "axis": e.axis.value, "runs": e.n_runs, "points": e.n_points,
        "method": wording.METHODS[e.method], "window": wording.window(e.window),
    }  # fmt: skip


def _setting(setting: Setting[Any] | None) -> dict[str, Any] | None:
    return None if setting is None else {"value": _plain(setting.value), "source": setting.source}


def _note(note: Note) -> dict[str, Any]:
    return {"code": note.code, "message": note_text(note), "where": note.where, "count": note.count}


def _number(value: float) -> float | None:
    return float(value) + 0.0 if math.isfinite(value) else None


def _plain(value: Any) -> Any:
    """JSON values only; NaN and infinities as null."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return value
    return _number(float(value)) if isinstance(value, float) else str(value)
