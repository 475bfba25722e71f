"""For machines: JSON of a schema of its own (`schema_v1.json`), written field by field; numbers that are none are null."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from ga_audit.finding import Audit, Diagnosis, Estimate, Evidence, Hypothesis
from ga_audit.output.wording.notes import note as note_text
from ga_audit.run import Note, Role, Run, Setting

SUFFIX = ".json"
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
        "set_aside": [{**_read(item.run), "why": item.why} for item in audit.set_aside],
        "set_aside_remedy": audit.set_aside_remedy,
        "failures": [
            {"source": f.source, "message": f.error.message, "where": f.error.where, "remedy": f.error.remedy}
            for f in audit.failures
        ],
        "notes": [_note(n) for n in audit.notes],
    }


def _diagnosis(d: Diagnosis, explain: bool) -> dict[str, Any]:
    return {
        "verdict": d.verdict.value,
        "reach": d.reach.value,
        "headline": d.headline,
        "reasons": list(d.reasons),
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
        "evidence": [_evidence(e, explain) for e in d.evidence],
        "silences": [
            {"kind": s.kind, "role": s.role.value if s.role else None, "why": s.why, "remedy": s.remedy} for s in d.silences
        ],
        "bugs": [
            {"id": b.bug, "title": b.title, "fit": b.fit, "why": b.why, "fix": b.fix, "retrain": b.retrain,
             "links": list(b.links)}
            for b in d.bugs
        ],
        "clipping": [
            {"run": c.run, "max_grad_norm": _number(c.max_grad_norm), "as_logged": _number(c.as_logged),
             "as_corrected": _number(c.as_corrected), "points": c.n_points}
            for c in d.clipping
        ],
        "retrain": d.retrain,
        "settings_that_differ": list(d.differing),
        "next_steps": list(d.next_steps),
        "notes": [_note(n) for n in d.notes],
    }  # fmt: skip


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


def _evidence(e: Evidence, explain: bool) -> dict[str, Any]:
    found = {
        "kind": e.kind,
        "role": e.role.value,
        "runs": list(e.runs),
        "summary": e.summary,
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
        "method": e.method, "window": e.window,
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
