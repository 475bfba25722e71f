"""What a right trainer would have logged: factors per run, series and segment; the corrected runs in memory."""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ga_audit import __version__
from ga_audit.errors import AuditError
from ga_audit.finding import Diagnosis, Finding, Hypothesis
from ga_audit.logs import formats
from ga_audit.logs.formats import Rescale, Rewrite
from ga_audit.run import FloatArray, IntArray, Role, Run, Series, Source
from ga_audit.stats.epochs import Epochs, dip, first_of_window, fit

# figures that follow from the loss and are wrong with it; an accuracy or an eval loss is not
_FOLLOWS = {
    Role.LOSS: Role.LOSS, Role.SUMMARY_LOSS: Role.LOSS, Role.PERPLEXITY: Role.LOSS, Role.GRAD_NORM: Role.GRAD_NORM,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """The corrections of one run."""

    run: Run
    rescales: Mapping[str, tuple[Rescale, ...]]  # source path -> corrections of the series read from it
    reason: str  # the finding, or what the user assumed

    def of(self, source: Source) -> tuple[Rescale, ...]:
        """Corrections that concern one log of the run."""
        return self.rescales.get(source.path, ())


def plan(run: Run, hypotheses: Mapping[Role, Hypothesis], reason: str) -> Plan | None:
    """The corrections that hypotheses about loss and grad_norm give a run; None where nothing changes.

    Parameters
    ----------
    run : the run as logged.
    hypotheses : by role, LOSS and GRAD_NORM; a missing one stays as logged.
    reason : goes into the provenance.
    """
    rescales: dict[str, list[Rescale]] = {}
    for series in run.series:
        hypothesis = hypotheses.get(_FOLLOWS.get(series.role, series.role))
        if series.role not in _FOLLOWS or hypothesis is None:
            continue
        from_step, factor = _factors(run, series, hypothesis)
        if np.all(factor == 1):
            continue
        root = series.role is Role.PERPLEXITY
        source = _source_of(run, series)
        part = next((s.part for s in run.sources if s.path == source), "")
        rescales.setdefault(source, []).append(
            Rescale(series.name, series.role, from_step, factor, root, part, series.position)
        )
    return Plan(run, {k: tuple(v) for k, v in rescales.items()}, reason) if rescales else None


def _source_of(run: Run, series: Series) -> str:
    """The source that a series belongs to: a run directory's series name the file inside it."""
    for source in run.sources:
        if series.source == source.path or Path(series.source).parent == Path(source.path):
            return source.path
    return run.sources[0].path if run.sources else series.source


def _factors(run: Run, series: Series, hypothesis: Hypothesis) -> tuple[IntArray, FloatArray]:
    """Piecewise factor over optimizer steps: the named integer power of GA in force, never the estimate."""
    schedule = run.settings.gradient_accumulation_steps
    if hypothesis.only is not None and run.id not in hypothesis.only:
        return np.zeros(1, np.int64), np.ones(1)
    if schedule is None and hypothesis.ga:
        raise AuditError(
            "gradient_accumulation_steps is unknown", where=run.name, remedy=f"Give it: --ga '{run.name}=N'."
        )
    constant = float(run.settings.ranks) ** hypothesis.world
    if schedule is None or not hypothesis.ga:
        return np.zeros(1, np.int64), np.array([constant])
    ga = schedule.value.value.astype(float)
    factor = ga**hypothesis.ga * constant
    if not schedule.value.is_constant:
        if series.role is Role.SUMMARY_LOSS:
            # a mean over segments of different GA: no single factor is right, so it stays as logged
            return np.zeros(1, np.int64), np.ones(1)
        return schedule.value.from_step, factor
    share = _share_of_micro_batches(run, series)
    return (schedule.value.from_step, factor) if share is None else _pieces(series.position, factor[0] * share)


def _share_of_micro_batches(run: Run, series: Series) -> FloatArray | None:
    """(n,) micro-batches that went into each point over GA; None where epochs end with a full step or the log is silent.

    A sum over the last micro-batches of an epoch is a sum over few: where the epochs say so and the loss shows it, such a
    step has a factor of its own.
    """
    short = short_steps(run)
    if short is None:
        return None
    before = first_of_window(series.position, series.window)
    if series.role is Role.SUMMARY_LOSS:
        before = np.zeros_like(series.position)  # the mean of the whole run
    elif series.role is Role.GRAD_NORM:
        before = series.position - 1  # the norm of one step, whatever the window of the loss
    share = short.mean_count(before, series.position) / short.gradient_accumulation_steps
    return None if np.all(share == 1) else share


def _pieces(step: IntArray, factor: FloatArray) -> tuple[IntArray, FloatArray]:
    """The same factors, a piece for each stretch of equal ones."""
    starts = np.flatnonzero(np.concatenate([[True], factor[1:] != factor[:-1]]))
    return step[starts], factor[starts]


def short_steps(run: Run) -> Epochs | None:
    """The steps with fewer than GA micro-batches, where the epochs tell them and the logged loss dips there."""
    schedule, epoch, loss = run.settings.gradient_accumulation_steps, run.get(Role.EPOCH), run.get(Role.LOSS)
    if schedule is None or not schedule.value.is_constant or epoch is None or loss is None:
        return None
    epochs = fit(epoch.position, epoch.value, schedule.value.first)
    if epochs is None:
        return None
    depth = dip(loss.position, loss.value, epochs, loss.window)
    return epochs if depth is not None and depth.seen else None


def plans(diagnosis: Diagnosis) -> list[Plan]:
    """The plan of each run that the findings concern."""
    found = []
    for run in diagnosis.runs:
        about = {f.role: f for f in diagnosis.findings if run.id in f.runs}
        made = plan(run, {role: f.hypothesis for role, f in about.items()}, _reason(about.values()))
        if made is not None:
            found.append(made)
    return found


def _reason(findings: Sequence[Finding] | Any) -> str:
    return "; ".join(f"{f.id} (probability {f.probability:.3f})" for f in findings)


def correct(runs: Sequence[Run], diagnosis: Diagnosis) -> tuple[Run, ...]:
    """The runs with the values that a right trainer would have logged; runs without a finding are returned as they are."""
    by_id = {made.run.id: made for made in plans(diagnosis)}
    return tuple(corrected_run(by_id[run.id]) if run.id in by_id else run for run in runs)


def corrected_run(made: Plan) -> Run:
    """One run in memory with its corrections applied."""
    series = []
    for s in made.run.series:
        rescale = next((r for r in made.rescales.get(_source_of(made.run, s), ()) if r.name == s.name), None)
        series.append(s if rescale is None else replace(s, value=rescale.apply(s.position, s.value)))
    return replace(made.run, series=tuple(series), corrected_by=f"ga-audit {__version__}")


# --- writing -----------------------------------------------------------------------------------------------------------


def place_names(made: Sequence[Plan]) -> dict[str, str]:
    """A name for each place that `write_all` writes to: a run's, by its id, or that of a log of several runs, by its path."""
    names = {plan.run.id: plan.run.name for plan in made}
    for (log_format, path), users in _shared(made).items():
        above = users[0][0].run.name.rpartition("/")[0]
        stem = Path(path).stem
        names[_shared_place(log_format, path)] = f"{above}/{stem}" if above else stem
    return names


def write_all(
    made: Sequence[Plan], places: Mapping[str, Path], *, include_original: bool = False
) -> dict[str, list[Path]]:
    """Corrected copies of every log that changes, each in its own format.

    Where a log holds several of the runs, one copy has the corrections of all of them, in a folder named after the log.

    Parameters
    ----------
    made : the corrections.
    places : a folder for each key of `place_names`.
    include_original : keep the logged values as `original/NAME`.

    Returns
    -------
    By run id: the files that hold the corrected run.

    Raises
    ------
    AuditError
        a log cannot be written in its format, or not without changing what must stay.
    """
    written: dict[str, list[Path]] = {plan.run.id: [] for plan in made}
    shared = _shared(made)
    for plan in made:
        if any(plan.of(s) and (s.format, s.path) not in shared for s in plan.run.sources):
            files = write(plan, places[plan.run.id], include_original=include_original, leave_out=shared)
            written[plan.run.id] += files
    for key, users in sorted(shared.items()):
        folder = places[_shared_place(*key)]
        files = _write_log([user for user, _ in users], users[0][1], folder, include_original=include_original)
        for user, _ in users:
            written[user.run.id] += files
    return written


def _shared(made: Sequence[Plan]) -> dict[tuple[str, str], list[tuple[Plan, Source]]]:
    """By format and path: the logs that hold several of the runs, with the runs."""
    users: dict[tuple[str, str], list[tuple[Plan, Source]]] = defaultdict(list)
    for plan in made:
        for source in plan.run.sources:
            if plan.of(source):
                users[source.format, source.path].append((plan, source))
    return {key: of for key, of in users.items() if len(of) > 1 and _holds_several_runs(key[0])}


def _shared_place(log_format: str, path: str) -> str:
    return f"log {log_format} {path}"


def _holds_several_runs(log_format: str) -> bool:
    return formats.load(log_format).several_runs


def write(
    made: Plan,
    destination: Path,
    *,
    include_original: bool = False,
    leave_out: Collection[tuple[str, str]] = (),
) -> list[Path]:
    """Corrected copies of every log of a run that changes, each in its own format, below `destination`.

    Parameters
    ----------
    made : the corrections of one run.
    destination : a folder for the run.
    include_original : keep the logged values as `original/NAME`.
    leave_out : format and path of logs that are written otherwise.

    Raises
    ------
    AuditError
        the log cannot be written in its format.
    """
    written: list[Path] = []
    changing = [source for source in made.run.sources if made.of(source)]
    kinds = Counter(source.format for source in changing)
    for number, source in enumerate(changing, 1):
        if (source.format, source.path) in leave_out:
            continue
        # two logs of one kind may have one file name
        kind = source.format if kinds[source.format] == 1 else f"{source.format}-{number}"
        folder = destination if len(changing) == 1 else destination / kind
        written += _write_log([made], source, folder, include_original=include_original)
    return written


def _write_log(made: Sequence[Plan], source: Source, folder: Path, *, include_original: bool) -> list[Path]:
    """One copy of a log with the corrections of all the given runs."""
    write_log = formats.load(source.format).write
    if write_log is None:
        raise AuditError(
            f"logs of the kind {source.format} cannot be written", where=source.path,
            remedy="Correct a trainer_state.json, JSON, CSV, console, TensorBoard or W&B log of the run.",
        )  # fmt: skip
    if source.path == "-":
        raise AuditError(
            "what came in by standard input is not kept, so no corrected copy of it can be written",
            where="standard input", remedy="Save it to a file, and give that file.",
        )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    rescales = [rescale for plan in made for rescale in plan.of(source)]
    return write_log(source, Rewrite(rescales, _provenance(made, source), include_original), folder)


def provenance(made: Plan, source: Source) -> dict[str, Any]:
    """What is written into a corrected log: by what, from what, by which factors, why."""
    return _provenance([made], source)


def _provenance(made: Sequence[Plan], source: Source) -> dict[str, Any]:
    path = Path(source.path)
    here = path.exists()  # a run on a server is named by its address
    return {
        "version": f"ga-audit {__version__}",
        "source": path.name if here else source.path,
        "sha256": digest(path) if here else None,
        "reason": "; ".join(dict.fromkeys(plan.reason for plan in made)),
        "corrections": [
            ({"run": plan.run.name} if len(made) > 1 else {}) | _as_json(rescale)
            for plan in made
            for rescale in plan.of(source)
        ],
    }


def _as_json(rescale: Rescale) -> dict[str, Any]:
    segments = zip(rescale.from_step, rescale.factor, strict=True)
    return {
        "series": rescale.name,
        "operation": "root" if rescale.root else "divide",
        "segments": [{"from_step": int(at), "factor": float(factor)} for at, factor in segments],
    }


def digest(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of a directory's files."""
    sha = hashlib.sha256()
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        if path.is_dir():
            sha.update(str(file.relative_to(path)).encode())
        with file.open("rb") as f:
            while block := f.read(1 << 20):
                sha.update(block)
    return sha.hexdigest()


def table(made: Plan) -> list[dict[str, Any]]:
    """A row for each series that changes: first and last value, logged and corrected."""
    rows = []
    after = {(s.name, s.source): s for s in corrected_run(made).series}
    for s in made.run.series:
        new = after[(s.name, s.source)]
        if new is s or not len(s):
            continue
        with np.errstate(all="ignore"):  # what is not finite has no factor
            factors = s.value / new.value if s.role is not Role.PERPLEXITY else np.log(s.value) / np.log(new.value)
        finite = factors[np.isfinite(factors)]
        rows.append({
            "run": made.run.name, "series": s.name, "points": len(s),
            "factor": sorted({round(float(f), 9) for f in finite}),
            "first_logged": _finite(s.value[0]), "first_corrected": _finite(new.value[0]),
            "last_logged": _finite(s.value[-1]), "last_corrected": _finite(new.value[-1]),
        })  # fmt: skip
    return rows


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def manifest(written: Mapping[str, Sequence[Path]], made: Sequence[Plan], top: Path) -> dict[str, Any]:
    """What `ga-audit.json` says of the runs: hashes of the inputs, factor of each series and segment, evidence."""
    return {
        "runs": [
            {
                "run": p.run.name, "reason": p.reason,
                "files": [f.relative_to(top).as_posix() for f in written.get(p.run.id, ())],
                "logs": [provenance(p, s) for s in p.run.sources if p.of(s)],
            }
            for p in made
        ],
    }  # fmt: skip
