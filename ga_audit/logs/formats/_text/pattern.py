"""A form of line that the user gives: `Epoch {epoch} it {step} | loss {loss}`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ga_audit.errors import WrongUsage
from ga_audit.logs.formats._text.names import Kind
from ga_audit.logs.formats._text.numbers import NUMBER, parse
from ga_audit.logs.formats._text.pieces import Clean
from ga_audit.logs.formats._text.record import Record

_COUNTERS = {
    "step": Kind.STEP, "iter": Kind.MICRO, "micro": Kind.MICRO, "epoch": Kind.EPOCH, "samples": Kind.SAMPLES,
    "tokens": Kind.TOKENS,
}  # fmt: skip
_VALUES = {
    "loss": "loss", "eval_loss": "eval_loss", "grad_norm": "grad_norm", "lr": "learning_rate",
    "learning_rate": "learning_rate", "ga": "gradient_accumulation_steps",
}  # fmt: skip
_ANYTHING = "_"
_PLACE = re.compile(r"\{([^{}]{0,40})\}")
_A_NUMBER = r"([-+]?(?:\d[\d,.]{0,40}(?:[eE][-+]?\d{1,4})?[KMBGT]?|\.\d{1,40}|nan|inf))"


@dataclass(frozen=True, slots=True)
class Pattern:
    """A form of line: the text between its places, and what stands at each."""

    line: re.Pattern[str]
    places: tuple[str, ...]

    def record_of(self, clean: Clean) -> Record | None:
        """The record of a line that has the form."""
        match = self.line.search(clean.text)
        if match is None:
            return None
        found = Record({}, {}, clean=clean)
        for group, name in enumerate(self.places, 1):
            number = NUMBER.fullmatch(match[group])
            if number is None:
                return None
            value = parse(number).value
            if name in _COUNTERS:
                found.counters[_COUNTERS[name]] = value
            else:
                found.values[_VALUES[name]] = value
                found.spans[_VALUES[name]] = match.span(group)
        return found


def compiled(text: str) -> Pattern:
    """The pattern of a text with places in braces; blanks stand for any number of blanks, `{_}` for anything.

    Raises
    ------
    WrongUsage
        a place that is not known, or no place for a loss or a gradient norm.
    """
    places: list[str] = []
    parts: list[str] = []
    at = 0
    for match in _PLACE.finditer(text):
        parts.append(_literal(text[at : match.start()]))
        at = match.end()
        name = match[1].strip()
        if name == _ANYTHING:
            parts.append(r"[^\n]{0,200}?")
        elif name in _COUNTERS or name in _VALUES:
            places.append(name)
            parts.append(_A_NUMBER)
        else:
            known = ", ".join(f"{{{one}}}" for one in (*_COUNTERS, *_VALUES, _ANYTHING))
            raise WrongUsage(f"--line: {{{name}}} is not a place that is known", remedy=f"The places are: {known}.")
    parts.append(_literal(text[at:]))
    if not {"loss", "grad_norm", "eval_loss"} & set(places):
        raise WrongUsage("--line: no place for a value", remedy="Write e.g. --line 'step {step} loss {loss}'.")
    return Pattern(re.compile("".join(parts), re.IGNORECASE), tuple(places))


def _literal(text: str) -> str:
    return re.sub(r"(?:\\?\s)+", lambda _: r"\\s{1,80}".replace("\\\\", "\\"), re.escape(text))
