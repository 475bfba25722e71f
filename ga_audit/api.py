"""The functions and results of `import ga_audit`, with methods that show them.

`conclusion.Audit` and `conclusion.Diagnosis` are facts and know nothing of figures, tables and HTML. The
classes of the same names here add the methods that need those, so that no lower module imports a
higher one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, TypeAlias

from ga_audit import _display, conclusion, pipeline, plots
from ga_audit._columns import count
from ga_audit.errors import WrongUsage
from ga_audit.options import Options
from ga_audit.output import _notebook
from ga_audit.pipeline import Given, Targets
from ga_audit.run import Run, Schedule

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_SHOWN = 6  # runs, findings and groups in a repr
Inputs: TypeAlias = Targets | Run | Iterable[Run]


class Diagnosis(conclusion.Diagnosis):
    """The verdict on one group of comparable runs, and all that led to it."""

    __slots__ = ()

    @classmethod
    def of(cls, facts: conclusion.Diagnosis) -> Diagnosis:
        """The same facts with the methods of this class."""
        return cls(**{field.name: getattr(facts, field.name) for field in fields(facts)})

    def __repr__(self) -> str:
        lines = [f"<Diagnosis {self.verdict.value}, {count(len(self.runs), 'run')}: {_names(self.runs)}"]
        lines += [f"  {found!r}" for found in self.findings[:_SHOWN]]
        return "\n".join(lines) + ">"

    def plot(self, kind: str = "curves", *, dark: bool = False, style: str | None = None) -> Figure:
        """One figure; `plots.KINDS` are curves, regression, ratio, clipping and evidence.

        Raises
        ------
        AuditError
            No such kind or style.
        """
        return plots.draw(self, kind, dark=dark, style=style)

    def _repr_markdown_(self) -> str:
        return _notebook.markdown(self)

    def _repr_html_(self) -> str:
        return _notebook.html_fragment(self)


class Audit(conclusion.Audit):
    """All diagnoses of one call, the runs that were set aside, and what could not be read."""

    __slots__ = ()
    diagnoses: tuple[Diagnosis, ...]

    @classmethod
    def of(cls, facts: conclusion.Audit) -> Audit:
        """The same facts with the methods of this class."""
        values = {field.name: getattr(facts, field.name) for field in fields(facts)}
        return cls(**{**values, "diagnoses": tuple(Diagnosis.of(found) for found in facts.diagnoses)})

    def __repr__(self) -> str:
        groups = count(len(self.diagnoses), "group")
        lines = [f"<Audit: {groups}, {len(self.set_aside)} set aside, {len(self.failures)} not read"]
        for diagnosis in self.diagnoses[:_SHOWN]:
            found = ", ".join(f.id for f in diagnosis.findings)
            lines.append(f"  {diagnosis.verdict.value}: {_names(diagnosis.runs)}" + (f" ({found})" if found else ""))
        if len(self.diagnoses) > _SHOWN:
            lines.append(f"  ... and {len(self.diagnoses) - _SHOWN} more")
        return "\n".join(lines) + ">"

    def to_frame(self) -> pd.DataFrame:
        """One row per run: group, verdict, settings, factors of loss and grad_norm (NaN: no claim)."""
        return _display.frame(self)

    def to_json(self, *, explain: bool = False) -> str:
        """JSON of the schema `ga-audit/1`; `explain` adds the arithmetic of each piece of evidence."""
        return _display.json(self, explain=explain)

    def plot(
        self, kind: str = "curves", *, group: int | None = None, dark: bool = False, style: str | None = None
    ) -> Figure:
        """One figure of one group; `group` is its place in `diagnoses`.

        Raises
        ------
        WrongUsage
            There is no such group, or several and none is chosen.
        AuditError
            No such kind or style.
        """
        if group is None and len(self.diagnoses) != 1:
            raise WrongUsage(f"the audit has {len(self.diagnoses)} groups", remedy="Choose one with group=0, 1, ...")
        number = group or 0
        if not 0 <= number < len(self.diagnoses):
            raise WrongUsage(f"there is no group {number}", remedy=f"There are {len(self.diagnoses)}, from 0.")
        return self.diagnoses[number].plot(kind, dark=dark, style=style)

    def _repr_html_(self) -> str:
        return _display.html(self)


def _names(runs: Sequence[Run]) -> str:
    more = f" and {len(runs) - _SHOWN} more" if len(runs) > _SHOWN else ""
    return ", ".join(repr(run.name) for run in runs[:_SHOWN]) + more


def audit(
    *targets: Inputs | Options,
    ga: Given[int | str | Schedule] = None,
    world_size: Given[int] = None,
    micro_batch_size: Given[int] = None,
    loss_key: str | None = None,
    grad_norm_key: str | None = None,
    stack: str | Iterable[str] = (),
    options: Options | None = None,
    progress: Callable[[str], None] | None = None,
) -> Audit:
    """Read the targets, group comparable runs, and diagnose each group.

    Parameters
    ----------
    *targets : str, path, Run, or an iterable of them
        Files, directories, addresses of W&B runs, "-" for standard input; or runs in memory.
    ga : int, str, Schedule, or a mapping, optional
        gradient_accumulation_steps of every run (8, or "2,8@500"), or of each by its name or a
        glob.
    world_size, micro_batch_size : int or a mapping, optional
        Of every run, or of each by its name or a glob.
    loss_key, grad_norm_key : str, optional
        Names of the series, where they are not the usual ones.
    stack : str or iterable of str
        Releases, as in "transformers==4.46.1".
    options : Options, optional
        All of the above in one value, in place of them.
    progress : callable, optional
        Called with the path of each log before it is read.

    Returns
    -------
    Audit
        What could not be read is in `failures`, runs without a known GA are in `set_aside`.

    Raises
    ------
    TypeError
        A target of another type, or an option beside `options`.
    ValueError
        GA, world size or micro-batch size is not a positive whole number.
    WrongUsage
        An option fits nothing that was read, or two runs in memory have one name.

    Examples
    --------
    >>> two = Run.from_arrays(loss=[2.5, 2.1, 1.9], ga=2, name="ga2")
    >>> eight = Run.from_arrays(loss=[10.0, 8.4, 7.6], ga=8, name="ga8")
    >>> audit(two, eight)
    <Audit: 1 group, 0 set aside, 0 not read
      scaled: 'ga2', 'ga8' (loss-summed-over-ga)>
    """
    runs, others = _split(targets)
    read, failures = pipeline.read_runs(
        *others, ga=ga, world_size=world_size, micro_batch_size=micro_batch_size, loss_key=loss_key,
        grad_norm_key=grad_norm_key, stack=stack, options=options, progress=progress, runs=runs,
    )  # fmt: skip
    logs = [other for other in others if not isinstance(other, Options)]
    return Audit.of(pipeline.audit_runs(read, failures, pipeline.target_texts(*logs)))


def diagnose(runs: Iterable[Run]) -> Iterator[Diagnosis]:
    """One diagnosis for each set of comparable runs in memory, as it is ready.

    Raises
    ------
    WrongUsage
        Two runs have one name.
    """
    chosen, others = _split((runs,))
    if others:
        raise TypeError("diagnose takes runs; audit takes places of logs too")
    yield from (Diagnosis.of(found) for found in pipeline.diagnose(chosen))


def plot(
    result: conclusion.Audit | conclusion.Diagnosis,
    kind: str = "curves",
    *,
    group: int | None = None,
    dark: bool = False,
    style: str | None = None,
) -> Figure:
    """One figure of a diagnosis, or of one group of an audit.

    Parameters
    ----------
    result : Audit or Diagnosis
        What is drawn.
    kind : str
        curves, regression, ratio, clipping or evidence.
    group : int, optional
        Place in `Audit.diagnoses`, needed where there are several.
    dark : bool
        Light text on a dark ground.
    style : str, optional
        A matplotlib style name or file, laid over the default.

    Raises
    ------
    WrongUsage
        An audit of several groups, and none is chosen.
    AuditError
        No such kind or style.
    """
    if isinstance(result, conclusion.Audit):
        return Audit.of(result).plot(kind, group=group, dark=dark, style=style)
    if isinstance(result, conclusion.Diagnosis):
        return plots.draw(result, kind, dark=dark, style=style)
    raise TypeError(f"an Audit or a Diagnosis is needed, not {type(result).__name__}")


def _split(inputs: Iterable[Inputs | Options]) -> tuple[list[Run], list[Targets | Options]]:
    """Runs in memory, and everything else as it was given."""
    runs: list[Run] = []
    others: list[Targets | Options] = []
    for item in inputs:
        if isinstance(item, Iterable) and not isinstance(item, str | bytes | bytearray | memoryview | Mapping):
            several: list[Run | str | os.PathLike[str]] = list(item)
            runs += [inner for inner in several if isinstance(inner, Run)]
            rest = [inner for inner in several if not isinstance(inner, Run)]
            others += [rest] if rest else []
        elif isinstance(item, Run):
            runs.append(item)
        else:
            others.append(item)
    repeated = sorted({run.name for run in runs if sum(run.id == other.id for other in runs) > 1})
    if repeated:
        raise WrongUsage(f"two runs are named {repeated[0]!r}", remedy="Give each run its own: name=...")
    return runs, others
