"""What all guards share: when to measure, what to say, and that nothing breaks a training."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, Literal, ParamSpec, TypeVar

from ga_audit.errors import WrongUsage
from ga_audit.guards import _known, _reading, _words
from ga_audit.guards._result import CannotMeasure, Fault, GradientFault, Measurement, Reading, Reason

OnFault = Literal["warn", "raise", "ignore"]
SURE = frozenset({Fault.SUMMED, Fault.DIVIDED_TWICE, Fault.WORLD_SIZE})  # named at the first step that shows them
TRIES = 8  # steps that may be passed over, because their gradient is not finite
logger = logging.getLogger("ga_audit")
P = ParamSpec("P")
T = TypeVar("T")


class Watch:
    """The state of a guard: its schedule, its measurements, its reading.

    Attributes
    ----------
    measurements : of each measured step.
    reading : of the latest one; None before.
    reason : why nothing is measured, if so.
    """

    def __init__(self, *, steps: int, on_fault: OnFault) -> None:
        if on_fault not in ("warn", "raise", "ignore"):
            raise WrongUsage(f"on_fault={on_fault!r} is none of 'warn', 'raise', 'ignore'")
        if steps < 1:
            raise WrongUsage(f"steps={steps}: at least one step is measured")
        self.steps, self.on_fault = steps, on_fault
        self.measurements: list[Measurement] = []
        self.reading: Reading | None = None
        self.reason: Reason | None = None
        self.bugs: list[_known.KnownBug] = []
        self.message: str | None = None
        self.left = steps
        self.tries = TRIES
        self._said: set[str] = set()
        self._previous: Fault | None = None

    @property
    def due(self) -> bool:
        """Whether the next optimizer step is to be measured."""
        return self.left > 0 and self.reason is None

    def again(self) -> None:
        """Measure the next steps too: after a resume, or another number of micro-batches."""
        if self.reason in (None, Reason.NOTHING_ACCUMULATED, Reason.NO_MICRO_BATCH, Reason.NOT_FINITE):
            self.reason, self.left, self.tries, self._previous = None, self.steps, TRIES, None

    def take(self, measurement: Measurement, stack: Callable[[], _known.Stack]) -> None:
        """Keep a measurement, and say what it shows.

        Raises
        ------
        GradientFault
            with on_fault="raise".
        """
        self.measurements.append(measurement)
        self.left -= 1
        self.reading = reading = _reading.read(measurement)
        fault, before = reading.fault, self._previous
        self._previous = fault
        if fault is None:
            if before is not None and before not in SURE and not self.left:
                self.left = 1  # one step shows it and one does not: a third decides
            return
        if fault not in SURE and before is not fault:
            self.left = max(self.left, 1)
            return
        self.announce(measurement, reading, stack)

    def revise(self, measurement: Measurement, stack: Callable[[], _known.Stack]) -> None:
        """Replace the latest measurement by one that knows what was logged, and say what that changes."""
        self.measurements[-1] = measurement
        before, self.reading = self.reading, _reading.read(measurement)
        if self.reading.fault is not None and before is not None and self.reading.fault is not before.fault:
            self.announce(measurement, self.reading, stack)

    def announce(self, measurement: Measurement, reading: Reading, stack: Callable[[], _known.Stack]) -> None:
        """Say a fault, once."""
        if str(reading.fault) in self._said:
            return
        self._said.add(str(reading.fault))
        try:
            self.bugs = _known.find(stack(), reading)
        except Exception:
            logger.debug("the known bugs could not be looked up", exc_info=True)
        self.message = _words.finding(measurement, reading, self.bugs)
        if self.on_fault == "raise":
            raise GradientFault(self.message)
        if self.on_fault == "warn" and is_first_rank():
            logger.warning(self.message)

    def step_aside(self, error: CannotMeasure) -> None:
        """Say why there is no measurement, once, and measure no more."""
        if error.reason is Reason.NOT_FINITE and self.tries > 1:
            self.tries -= 1  # a GradScaler that looks for its scale, a first step without a gradient
            return
        self.reason = error.reason
        if error.reason is Reason.NOTHING_ACCUMULATED or self.on_fault == "ignore" or not is_first_rank():
            return
        logger.warning(_words.cannot(error))


def is_first_rank() -> bool:
    """Whether this process speaks for all."""
    import torch

    dist = torch.distributed
    return not (dist.is_available() and dist.is_initialized()) or bool(dist.get_rank() == 0)


def as_reason(error: BaseException) -> CannotMeasure:
    """An exception inside a guard as the reason why it steps aside."""
    import torch

    if isinstance(error, CannotMeasure):
        return error
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "out of memory" in str(error).lower():
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        return CannotMeasure(Reason.OUT_OF_MEMORY)
    return CannotMeasure(Reason.ERROR, f"{type(error).__name__}: {str(error)[:200]}")


def harmless(watch_of: Callable[[Any], Watch]) -> Callable[[Callable[P, T]], Callable[P, T | None]]:
    """Decorate a method so that no exception of its own leaves it, except `GradientFault`."""

    def decorate(method: Callable[P, T]) -> Callable[P, T | None]:
        @functools.wraps(method)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> T | None:
            try:
                return method(*args, **kwargs)
            except GradientFault:
                raise
            except Exception as error:
                logger.debug("the guard failed", exc_info=True)
                try:
                    watch_of(args[0]).step_aside(as_reason(error))
                except Exception:
                    logger.debug("the guard could not say so", exc_info=True)
                return None

        return guarded

    return decorate
