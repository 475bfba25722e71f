"""What was read, how, and what was left out: the text of `inspect --show-series`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields

import numpy as np

from ga_audit.output._safe import plain
from ga_audit.output.wording.notes import note as note_text
from ga_audit.run import Counted, Run, RunSettings, Series, Setting

_SHOWN_OTHER = (
    "trainer", "label_smoothing_factor", "average_tokens_across_devices", "deepspeed", "model_type",
    "architectures", "base_architectures", "num_labels", "problem_type",
)  # fmt: skip


def render_series(runs: Sequence[Run]) -> str:
    """One block for each run: logs, settings with their source, series, what was not used, notes."""
    if not runs:
        return "no run was read"
    return "\n\n".join("\n".join(plain(line) for line in _run_lines(run)) for run in runs)


def _run_lines(run: Run) -> Iterator[str]:
    yield run.name
    for source in run.sources:
        yield f"  read    {source.path}  ({source.format})"
    if run.corrected_by:
        yield f"  made    by {run.corrected_by}: already corrected"
    for line in _setting_lines(run.settings):
        yield f"  setting {line}"
    if run.settings.gradient_accumulation_steps is None:
        yield "  setting gradient_accumulation_steps is not recorded: give it with --ga NAME=N"
    for series in run.series:
        yield f"  series  {_series_line(series)}"
        for note in series.notes:
            yield f"            note: {note_text(note)}"
    if not run.series:
        yield "  series  none"
    for note in run.left_out:
        yield f"  unused  {note_text(note)}"
    for note in run.notes:
        yield f"  note    {note_text(note)}{f' ({note.where})' if note.where else ''}"


def _setting_lines(settings: RunSettings) -> Iterator[str]:
    for field in fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, Setting):
            yield f"{field.name} = {value.value}  [{value.source}]"
    for package, release in sorted(settings.packages.items()):
        yield f"{package} == {release.value}  [{release.source}]"
    for name in _SHOWN_OTHER:
        if name in settings.other:
            yield f"{name} = {settings.other[name].value}  [{settings.other[name].source}]"
    for name, believed, contradicted in settings.conflicts:
        yield (
            f"{name}: {believed.value} [{believed.source}] believed over {contradicted.value} [{contradicted.source}]"
        )


_COUNTERS = {
    Counted.OPTIMIZER_STEP: "steps",
    Counted.MICRO_BATCH: "micro-batches",
    Counted.SAMPLES: "samples",
    Counted.TOKENS: "tokens",
    Counted.EPOCH: "epochs",
    Counted.ORDER: "no step, numbered",
}


def _counter(series: Series) -> str:
    """What the positions count."""
    return _COUNTERS[series.counted] + (" (derived)" if series.derived else "")


def _series_line(series: Series) -> str:
    if not len(series):
        return f"{series.role.value:<14} {series.name!r}: no points ({series.format})"
    finite = series.value[np.isfinite(series.value)]
    span = f"{finite[0]:.4g} .. {finite[-1]:.4g}" if len(finite) else "no finite value"
    window = f", a point every {series.window} steps" if series.window else ""
    lost = f", {len(series) - len(finite)} not finite" if len(finite) < len(series) else ""
    return (
        f"{series.role.value:<14} {series.name!r}: {len(series)} points, {_counter(series)} "
        f"{series.position[0]}..{series.position[-1]}"
        f"{window}, {span}{lost} ({series.format})"
    )
