"""Checks of every kind, with hostile names, for the forms of output."""

from __future__ import annotations

import dataclasses
from datetime import date

from factories import make_run, twins

from ga_audit import pipeline
from ga_audit.check.before_train import check_stack
from ga_audit.check.concerns import check_audit
from ga_audit.check.policy import Level, Policy, Waiver
from ga_audit.errors import UnreadableLog
from ga_audit.run import ReadFailure, Source

HOSTILE = 'a"<b>&\n::error::x\r\x1b[31m%0A\x00\ufffe\udcff]]>|`,:..\u202e'
DAY = date(2026, 11, 27)


def hostile_check():
    runs = [
        dataclasses.replace(run, name=HOSTILE + run.name, sources=(Source("memory", f"runs/{HOSTILE}{run.name}"),))
        for run in twins(1)
    ]
    unknown = make_run(HOSTILE, loss=[3.0] * 9)
    failure = ReadFailure(HOSTILE, UnreadableLog(HOSTILE, where=HOSTILE, remedy=HOSTILE))
    policy = Policy(exceptions=(Waiver(finding="loss-*", reason=HOSTILE, until=date(2026, 1, 1)),))
    return check_audit(pipeline.audit_runs([*runs, unknown], [failure]), policy, today=DAY)


def every_check():
    """Name -> check."""
    scaled = pipeline.audit_runs(twins(1))
    known = Policy(exceptions=(Waiver(finding="*", reason="known", until=DAY),))
    entries = [entry for c in check_audit(scaled).concerns for entry in c.entries]
    return {
        "hostile": hostile_check(),
        "healthy": check_audit(pipeline.audit_runs(twins(0))),
        "scaled": check_audit(scaled),
        "warning": check_audit(scaled, Policy(levels={"scaled": Level.WARNING})),
        "accepted": check_audit(scaled, known, today=DAY),
        "baseline": check_audit(scaled, baseline=entries),
        "inconclusive": check_audit(pipeline.audit_runs([make_run("a", ga=8, loss=[3.0])])),
        "nothing": check_audit(pipeline.audit_runs([])),
        "stack": check_stack(Policy(stack={"model": "GPT2LMHeadModel"}), [("transformers", "4.46.1")]),
    }
