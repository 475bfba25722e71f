"""The known bug of the installed releases that does what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ga_audit.guards._result import Reading

PACKAGES = ("transformers", "trl", "accelerate", "deepspeed", "lightning", "axolotl", "llamafactory", "liger-kernel")


@dataclass(frozen=True, slots=True)
class KnownBug:
    """An entry of the catalogue that explains a measurement."""

    id: str
    title: str
    package: str
    release: str
    fix: str
    open: tuple[str, ...]  # conditions that are not settled


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """What is known of a training before its logs are."""

    ga: int
    world_size: int
    architecture: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)  # condition of the catalogue -> its value here


def find(stack: Stack, reading: Reading) -> list[KnownBug]:
    """The bugs with the measured exponents, those with the fewest open conditions first; none if nothing is known."""
    from ga_audit.bugs import catalogue, remedies
    from ga_audit.run import RunSettings, Schedule, Setting, Trust

    def setting(value: Any) -> Setting[Any]:
        return Setting(value, "the running training", Trust.RECORDED)

    releases = installed()
    other = {} if stack.architecture is None else {"architectures": setting([stack.architecture])}
    settings = RunSettings(
        gradient_accumulation_steps=setting(Schedule.constant(stack.ga)), world_size=setting(stack.world_size),
        packages={name: setting(release) for name, release in releases.items()}, other=other,
    )  # fmt: skip
    runs = [catalogue.stack(settings)]
    found: dict[str, tuple[int, KnownBug]] = {}
    for name, release in releases.items():
        for bug, row in catalogue.of_release(name, release):
            if not _fits(row.signature, reading):
                continue
            answers = {key: _holds(key, wanted, stack, runs) for key, wanted in row.when.items()}
            if False in answers.values():
                continue
            left = tuple(key for key, answer in answers.items() if answer is None)
            settled = sum(answer is True for answer in answers.values())
            rank = 10 * len(left) - settled
            if bug.id not in found or rank < found[bug.id][0]:
                found[bug.id] = (rank, KnownBug(bug.id, bug.title, bug.package, release, remedies.advice(bug), left))
    return [bug for _, bug in sorted(found.values(), key=lambda pair: (pair[0], pair[1].id))]


def _holds(name: str, wanted: Any, stack: Stack, runs: list[Any]) -> bool | None:
    from ga_audit.bugs.conditions import condition

    if name in stack.facts:
        return bool(stack.facts[name] == wanted)
    return condition(name, wanted, runs)


def _fits(signature: Any, reading: Reading) -> bool:
    gradient = reading.gradient
    if gradient is None:  # what has no exponent is no bug of the catalogue
        return False
    pairs = ((signature.gradient, gradient), (signature.loss, reading.loss))
    known = [(expected, found) for expected, found in pairs if found is not None]
    return all(expected is not None and tuple(expected) == found for expected, found in known)


def installed() -> dict[str, str]:
    """Releases of the packages that the catalogue has entries about."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
