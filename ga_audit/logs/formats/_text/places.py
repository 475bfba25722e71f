"""Where in a text each value was read, and a copy of the text with corrected numbers at those places only."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ga_audit.errors import AuditError
from ga_audit.logs.formats import Rescale, Rewrite
from ga_audit.logs.formats._points import numbered
from ga_audit.run import Role

FEWEST_DIGITS = 4  # significant digits that a corrected number is printed with at least
Edit = tuple[int, int, str]  # start, end, new text; start == end inserts


@dataclass(frozen=True, slots=True)
class Place:
    """One value that the reader took into a series."""

    part: str  # which of several runs of the file; "" where there is one
    name: str  # of the series
    step: int | None
    value: float
    span: tuple[int, int] | None  # start and end in the text; None = not known
    key: str = ""  # as it stands in the text, where the series has another name


@dataclass(frozen=True, slots=True)
class Correction:
    """The number that belongs at a place."""

    place: Place
    span: tuple[int, int]
    number: float


def corrections(places: Sequence[Place], rewrite: Rewrite, where: str, window: int = 1) -> dict[int, Correction]:
    """The corrections by index into `places`; values that no factor changes have none.

    Raises
    ------
    AuditError
        a value is to be corrected whose place in the text is not known.
    """
    of_series: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, place in enumerate(places):
        of_series[place.part, place.name].append(i)
    found: dict[int, Correction] = {}
    for (part, name), indices in of_series.items():
        rescale = rewrite.for_name(name, part)
        if rescale is None:
            continue
        every = window if rescale.role in (Role.LOSS, Role.GRAD_NORM) else 1
        known = numbered([places[i].step for i in indices], every)
        indices = [i for i, step in zip(indices, known, strict=True) if step is not None]
        steps = _as_joined([step for step in known if step is not None], rescale, where)
        for i, step in zip(indices, steps, strict=True):
            place, number = places[i], _corrected(places[i].value, rescale, step, where)
            if number is None:
                continue
            if place.span is None:
                raise not_writable(where, f"{name!r} at step {step} is not one piece of text")
            found[i] = Correction(place, place.span, number)
    if rewrite.rescales and not found:
        names = ", ".join(sorted({repr(r.name) for r in rewrite.rescales}))
        raise not_writable(where, f"no value of {names} was found again")
    return found


def _as_joined(steps: list[int], rescale: Rescale, where: str) -> list[int]:
    """The steps that the factors are given for: a log without steps may have taken those of another view of the run."""
    own = sorted(set(steps))
    if len(rescale.from_step) < 2 or rescale.steps is None or rescale.role is Role.SUMMARY_LOSS:
        return steps
    if len(own) != len(rescale.steps):
        raise not_writable(where, f"{rescale.name!r} has {len(own)} steps here and {len(rescale.steps)} in the run")
    joined = dict(zip(own, rescale.steps.tolist(), strict=True))
    return [joined[step] for step in steps]


def _corrected(value: float, rescale: Rescale, step: int, where: str) -> float | None:
    if not math.isfinite(value) or (rescale.root and value < 0):
        return None
    try:
        number = rescale.at(step, value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise not_writable(where, f"{rescale.name!r} at step {step} would be no finite number")
    return None if number == value else number


def edited(text: str, edits: Sequence[Edit], where: str) -> str:
    """The text with the edits made and all else as it is.

    Raises
    ------
    AuditError
        two edits overlap: one piece of text was read as two values.
    """
    out, at = [], 0
    for start, end, new in sorted(edits, key=lambda edit: edit[:2]):
        if start < at:
            raise not_writable(where, f"one piece of text was read as two values: {text[start:end]!r}")
        out += [text[at:start], new]
        at = end
    return "".join([*out, text[at:]])


def check(before: Sequence[Place], made: dict[int, Correction], after: Sequence[Place], text: str, where: str) -> None:
    """Compare what the corrected text reads as with what was wanted.

    Raises
    ------
    AuditError
        a corrected value differs by more than its last digit, or any other value differs at all.
    """
    if [(p.part, p.name, p.step) for p in before] != [(p.part, p.name, p.step) for p in after]:
        raise not_writable(where, "the corrected text would not be read as the same series")
    for i, (old, new) in enumerate(zip(before, after, strict=True)):
        if i in made:
            wanted, (start, end) = made[i].number, made[i].span
            same = math.isclose(new.value, wanted, rel_tol=0.501 * 10.0 ** (1 - min(significant(text[start:end]), 12)))
        else:
            same = new.value == old.value or (math.isnan(new.value) and math.isnan(old.value))
        if not same:
            raise not_writable(where, f"{old.name!r} at step {old.step} would be read as {new.value:g}")


def not_writable(where: str, why: str) -> AuditError:
    """The refusal to write a copy that would not be right."""
    return AuditError(
        f"cannot be written back: {why}", where=where,
        remedy="Correct another log of the run: its trainer_state.json, JSON, CSV, TensorBoard or W&B log.",
    )  # fmt: skip


def significant(text: str) -> int:
    """Significant digits to print in place of a number: those that it has, and no fewer than four."""
    mantissa = text.strip().lower().partition("e")[0]
    digits = "".join(c for c in mantissa if c.isdigit()).lstrip("0")
    return max(len(digits), FEWEST_DIGITS)


def text_like(text: str, number: float) -> str:
    """A number printed as the text that it replaces was: sign, exponent, decimal point, at least as many digits."""
    plain, digits = text.strip(), significant(text)
    sign = "+" if plain.startswith("+") and number >= 0 else ""
    exponent = next((c for c in plain if c in "eE"), None)
    if exponent is not None:
        return f"{sign}{number:.{digits - 1}{exponent}}"
    magnitude = math.floor(math.log10(abs(number))) if number else 0
    decimals = digits - 1 - magnitude
    if "." not in plain or decimals > digits + 20:
        return f"{sign}{number:.{digits}g}"
    return f"{sign}{number:.{max(decimals, 1)}f}"
