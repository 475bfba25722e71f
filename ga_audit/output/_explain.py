"""The arithmetic of a verdict, to be checked by hand: levels, covariance, prior, likelihood of each hypothesis."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ga_audit.conclusion import Diagnosis
from ga_audit.finding import Evidence
from ga_audit.output.wording import evidence as wording


def explanation(diagnosis: Diagnosis) -> Iterator[str]:
    """Lines of text: posterior per quantity, then each piece of evidence with its numbers, then what was silent."""
    yield "How this was decided"
    for role, posterior in diagnosis.posterior.items():
        yield f"  {role.value}: posterior = prior x exp(sum of log-likelihoods), normalised"
        for hypothesis, probability in sorted(posterior.items(), key=lambda item: -item[1]):
            about = f" in {', '.join(sorted(hypothesis.only))}" if hypothesis.only else ""
            yield f"    {hypothesis.name + about:<44} {probability:.6f}"
    for piece in diagnosis.evidence:
        yield from _piece(piece)
    for item in diagnosis.not_applicable:
        about = f" ({item.role.value})" if item.role else ""
        why, _ = wording.not_applicable(item, diagnosis.runs)
        yield f"  silent: {item.kind}{about}: {why}"


def _piece(piece: Evidence) -> Iterator[str]:
    weak = ", weak: never convicts alone" if piece.weak else ""
    yield f"  {piece.kind} on {piece.role.value}{weak}"
    yield f"    read from {piece.source}"
    yield "    log-likelihood (nats, healthy = 0)"
    for hypothesis, value in sorted(piece.log_likelihood.items(), key=lambda item: -item[1]):
        about = f" in {', '.join(sorted(hypothesis.only))}" if hypothesis.only else ""
        yield f"      {hypothesis.name + about:<42} {value:+.3f}"
    if piece.estimate is not None:
        window = wording.window(piece.estimate.window)
        yield f"    method: {wording.METHODS[piece.estimate.method]}{'; ' + window if window else ''}"
    if check := wording.cross_check(piece):
        yield f"    cross-check: {check}"
    spelled = _spelled(piece)
    for key, value in piece.detail.items():
        yield from _value(key, spelled.get(key, value), 4)


def _spelled(piece: Evidence) -> dict[str, str]:
    """The codes among the details of a piece of evidence, in words."""
    found = {}
    if piece.comparison is not None:
        found["why_axis"] = wording.axis_reason(piece.comparison)
        found["window"] = wording.window(piece.comparison.window)
    if "objective" in piece.detail:
        found["objective"] = wording.objective(piece.detail["objective"])
    return found


def _value(key: str, value: Any, indent: int) -> Iterator[str]:
    pad = " " * indent
    if isinstance(value, Mapping):
        yield f"{pad}{key}:"
        for name, inner in value.items():
            yield from _value(str(name), inner, indent + 2)
    elif isinstance(value, Sequence) and not isinstance(value, str) and value and _is_matrix(value):
        yield f"{pad}{key}:"
        for row in value:
            yield f"{pad}  [{', '.join(_number(x) for x in row)}]"
    elif isinstance(value, Sequence) and not isinstance(value, str):
        yield f"{pad}{key}: [{', '.join(_number(x) for x in value)}]"
    else:
        yield f"{pad}{key}: {_number(value)}"


def _is_matrix(value: Sequence[Any]) -> bool:
    return isinstance(value[0], Sequence) and not isinstance(value[0], str)


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, default=str)
