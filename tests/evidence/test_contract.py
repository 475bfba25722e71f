"""What holds for every kind of evidence, on the logs of every golden case."""

from __future__ import annotations

import inspect
import json
import math
import warnings
from functools import cache

import pytest
import snapshots
from mypy import api

from ga_audit import evidence, pipeline
from ga_audit.diagnosis import read_role
from ga_audit.finding import HEALTHY, Evidence, NotApplicable, Verdict
from ga_audit.grouping import Group, group
from ga_audit.output.wording import evidence as wording
from ga_audit.run import Role

KINDS = evidence.kinds()
HEADINGS = ["What it looks at", "Why it is evidence", "When it does not apply", "Calibration", "References"]
CASES = [case for case in snapshots.cases() if "commands" not in snapshots.settings(case)]


@cache
def groups(case) -> tuple[Group, ...]:
    known = snapshots.settings(case)
    runs, _ = pipeline.read_runs(snapshots.ROOT / known["from"] if "from" in known else case)
    return tuple(group(runs))


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def golden(request) -> tuple[Group, ...]:
    return groups(request.param)


def gather(kind: str, members: Group) -> list[Evidence | NotApplicable]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return list(KINDS[kind].gather(members))


def is_plain(value: object) -> bool:
    if isinstance(value, tuple):
        return all(is_plain(inner) for inner in value)
    return value is None or type(value) in (str, int, float, bool)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_what_it_yields_is_sound(kind, golden):
    for members in golden:
        ids = {run.id for run in members.runs}
        for item in gather(kind, members):
            assert item.kind == KINDS[kind].KIND == kind
            assert item.role in (Role.LOSS, Role.GRAD_NORM, None)
            assert set(item.runs) <= ids
            assert all(is_plain(value) for value in item.facts.values()), item.facts
            if isinstance(item, NotApplicable):
                why, _ = wording.not_applicable(item, members.runs)
                assert why
                continue
            assert item.runs
            assert item.source
            assert item.log_likelihood[HEALTHY] == 0
            assert all(math.isfinite(nats) for nats in item.log_likelihood.values())
            assert wording.sentence(item, members.runs)
            json.dumps(item.detail, allow_nan=False)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_weak_evidence_alone_decides_nothing(kind, golden):
    for members in golden:
        for item in gather(kind, members):
            if isinstance(item, Evidence) and item.weak:
                verdict = read_role(item.role, members, [item], None).verdict
                assert verdict is Verdict.INCONCLUSIVE or (verdict is Verdict.HEALTHY and item.equivalent)


def test_the_golden_cases_have_evidence_of_most_kinds():
    found = {
        item.kind
        for case in CASES
        for members in groups(case)
        for kind in KINDS
        for item in gather(kind, members)
        if isinstance(item, Evidence)
    }
    assert found >= {"eval_gap", "first_loss_anchor", "known_release", "ratio_regression"}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_docstring_has_the_fixed_headings(kind):
    lines = inspect.getdoc(KINDS[kind]).splitlines()
    assert [line for line in lines if line in HEADINGS] == HEADINGS


def check_types(lines: list[str]) -> tuple[str, str, int]:
    options = ["--config-file=", "--strict", "--ignore-missing-imports", "--follow-imports=silent"]
    return api.run([*options, "-c", "\n".join(["from ga_audit.evidence import EvidenceKind", *lines])])


def test_mypy_holds_each_leaf_to_the_protocol(monkeypatch):
    monkeypatch.chdir(snapshots.ROOT)
    lines = []
    for kind in KINDS:
        lines += [f"from ga_audit.evidence import {kind}", f"_{kind}: EvidenceKind = {kind}"]
    out, err, status = check_types(lines)
    assert status == 0, out + err
    _, _, wrong = check_types(["from ga_audit.evidence import _single", "_: EvidenceKind = _single"])
    assert wrong == 1
