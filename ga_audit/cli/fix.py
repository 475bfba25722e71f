"""Write corrected copies of the logs, beside the originals, in the format they came in."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import click

from ga_audit.cli._choices import complete_bug, nearest_bug
from ga_audit.cli._terminal import confirm, quiet_option
from ga_audit.cli.options import errors_to_status, leave, reading_options, show_error
from ga_audit.errors import AuditError, ExitCode, WrongUsage

if TYPE_CHECKING:
    from ga_audit.conclusion import Audit, Diagnosis
    from ga_audit.correction.curves import Plan
    from ga_audit.finding import Hypothesis
    from ga_audit.pipeline import Options
    from ga_audit.run import Role, Run

_MAX_SYNCED = 4  # W&B runs that are named in a command


@click.command(
    name="fix", epilog="Exit status: 0 written, or nothing to correct; 2 usage; 3 no evidence, or not written."
)
@reading_options
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Directory of the output [PATH-ga-audit].")
@click.option("--force", is_flag=True, help="Replace an earlier output of ga-audit.")
@click.option("--dry-run", is_flag=True, help="Show what would change, write nothing.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="Form of the output.")
@click.option(
    "--include-original", is_flag=True, help="Keep the logged values as original/NAME beside the corrected ones."
)
@click.option("--assume", metavar="loss=1,grad_norm=0", help="Known exponents on GA; needs no evidence.")
@click.option(
    "--bug",
    metavar="GAnnn",
    shell_complete=complete_bug,
    help="Assume the effect of a known bug (see `ga-audit bugs`).",
)
@click.option(
    "--upload", is_flag=True, help="Upload the corrected W&B runs as new runs, in the group of the originals."
)
@click.option("--annotate", is_flag=True, help="Write the findings into summary and notes of the original W&B runs.")
@quiet_option
@errors_to_status
def command(
    targets: tuple[str, ...],
    reading: Options,
    output: Path | None,
    force: bool,
    dry_run: bool,
    form: str,
    include_original: bool,
    assume: str | None,
    bug: str | None,
    upload: bool,
    annotate: bool,
) -> None:
    """Write logs with the curves that a correct trainer would have logged.

    Only runs found scaled are corrected, by the named power of GA or world size, loss and grad_norm separately.
    Originals are never opened for writing. A W&B run becomes a new offline run; nothing is sent without --upload.

    \b
    ga-audit fix runs/                       -> runs-ga-audit/
    ga-audit fix runs/ --dry-run
    ga-audit fix run.json --ga 8 --assume loss=1,grad_norm=0
    """  # noqa: D301 (\b is Click's)
    from ga_audit import pipeline
    from ga_audit.files.atomic import check_directory
    from ga_audit.options import contradictions

    as_json = form == "json"
    if assume and bug:
        raise click.UsageError("--assume and --bug exclude each other")
    if output is not None and not dry_run:
        check_directory(output, force=force, inputs=targets)
    runs, failures = pipeline.read_runs(targets, reading)
    own = [run for run in runs if run.corrected_by]
    for failure in failures:
        show_error(failure.error)
    rest = [run for run in runs if not run.corrected_by]
    if own and not as_json:
        click.echo(f"already corrected, unchanged: {', '.join(run.name for run in own)}")
    for line in contradictions(rest):
        click.echo(line, err=as_json)
    if own and not rest:
        leave(ExitCode.HEALTHY)
    if assume or bug:
        hypotheses = _assumed(assume) if assume else _of_bug(bug or "")
        made = [p for run in rest if (p := _plan(run, hypotheses, assume or bug or "")) is not None]
        audit = None
    else:
        audit = pipeline.audit_runs(rest)
        made = _plans(audit)
    _finish(targets, made, audit, rest, output, force=force, dry_run=dry_run, as_json=as_json, keep=include_original,
            failed=bool(failures), upload=upload, annotate=annotate,
            timeout=int(reading.fetch.get("timeout", "60")))  # fmt: skip


def _plan(run: Run, hypotheses: dict[Role, Hypothesis], reason: str) -> Plan | None:
    from ga_audit.correction.curves import plan

    return plan(run, hypotheses, f"assumed by the user: {reason}")


def _plans(audit: Audit) -> list[Plan]:
    from ga_audit.correction.curves import plans

    return [p for diagnosis in audit.diagnoses for p in plans(diagnosis)]


def _assumed(text: str) -> dict[Role, Hypothesis]:
    from ga_audit.finding import Hypothesis
    from ga_audit.run import Role

    found: dict[Role, Hypothesis] = {}
    for part in text.split(","):
        name, _, number = part.partition("=")
        try:
            role, exponent = Role(name.strip()), int(number)
        except ValueError:
            raise click.BadParameter(f"{part!r} is not loss=N or grad_norm=N", param_hint="--assume") from None
        if role not in (Role.LOSS, Role.GRAD_NORM):
            raise click.BadParameter(f"{part!r}: only loss and grad_norm are corrected", param_hint="--assume")
        found[role] = Hypothesis(f"assumed GA^{exponent}", exponent, 0)
    return found


def _of_bug(name: str) -> dict[Role, Hypothesis]:
    from ga_audit.bugs import catalogue
    from ga_audit.finding import Hypothesis
    from ga_audit.run import Role

    bug = next((b for b in catalogue.load() if b.id == name.upper()), None)
    if bug is None:
        raise WrongUsage(f"no bug {name}", remedy=nearest_bug(name))
    signatures = {(row.signature.loss, row.signature.grad_norm) for row in bug.affected}
    if len(signatures) > 1:
        raise AuditError(
            f"{bug.id} does different things under different conditions",
            remedy=f"See `ga-audit bugs {bug.id}`, then --assume.",
        )
    loss, norm = signatures.pop()
    pairs = ((Role.LOSS, loss), (Role.GRAD_NORM, norm))
    return {role: Hypothesis(bug.id, *exponents) for role, exponents in pairs if exponents and any(exponents)}


def _finish(
    targets: Sequence[str], made: list[Plan], audit: Audit | None, runs: Sequence[Run], output: Path | None, *,
    force: bool, dry_run: bool, as_json: bool, keep: bool, failed: bool, upload: bool, annotate: bool, timeout: int,
) -> None:  # fmt: skip
    from ga_audit.correction import curves as correction
    from ga_audit.output.wording.verdict import headline

    rows = [row for p in made for row in correction.table(p)]
    changed = {p.run.id for p in made}
    alone = [run.name for run in runs if run.id not in changed]
    undecided = audit is not None and (
        bool(audit.set_aside) or any(d.verdict.value == "inconclusive" for d in audit.diagnoses)
    )
    result: dict[str, Any] = {"changes": rows, "left_alone": alone, "written": [], "output": None}
    if not as_json:
        click.echo(_table(rows))
        if alone:
            click.echo(f"unchanged: {', '.join(alone)}")
        if audit is not None:
            for diagnosis in audit.diagnoses:
                click.echo(headline(diagnosis))
                _say_what_it_is_not(diagnosis)
    if made and not dry_run:
        top = output or Path(_default_output(targets))
        places = _places(made)
        files = _write(made, audit, top, places, force=force, keep=keep, inputs=_inputs(targets, runs))
        result |= {"written": files, "output": str(top)}
        if not as_json:
            confirm(f"written: {top} ({len(files)} files; DIAGNOSIS.md lists the changes)")
            for line in _open_both(targets, made, top):
                confirm(f"  {line}")
        result |= _publish(made, top, places, upload=upload, annotate=annotate, timeout=timeout, quiet=as_json)
    if as_json:
        click.echo(json.dumps(result, indent=2))
    if not runs or failed or (undecided and not made):
        if undecided and not made and not as_json:
            click.echo(
                "Nothing written: give known exponents with --assume or --bug, or see `ga-audit inspect`.", err=True
            )
        leave(ExitCode.UNDECIDED)
    leave(ExitCode.HEALTHY)


def _open_both(targets: Sequence[str], made: Sequence[Plan], top: Path) -> Iterator[str]:
    """The commands that show the originals and the corrected logs side by side."""
    formats = {source.format for p in made for source in p.run.sources}
    if "tensorboard" in formats and Path(targets[0]).exists():
        logs = Path(targets[0])
        spec = f"original:{logs if logs.is_dir() else logs.parent},corrected:{top}"
        yield shlex.join(["tensorboard", "--logdir_spec", spec])
    if formats & {"wandb_file", "wandb_cloud"}:
        runs = sorted(str(run) for run in top.rglob("offline-run-*") if run.is_dir())
        many = f"$(find {shlex.quote(str(top))} -type d -name 'offline-run-*')"
        yield f"wandb sync {shlex.join(runs) if len(runs) <= _MAX_SYNCED else many}"


def _places(made: Sequence[Plan]) -> dict[str, PurePosixPath]:
    """By run id: the folder of the run in the output; what is written there is what is sent."""
    from ga_audit.correction import curves as correction
    from ga_audit.files.folders import folders

    return folders(correction.place_names(made))


def _inputs(targets: Sequence[str], runs: Sequence[Run]) -> list[str]:
    """What the user named, and what was read of it."""
    return [*targets, *(source.path for run in runs for source in run.sources)]


def _publish(
    made: list[Plan],
    top: Path,
    places: Mapping[str, PurePosixPath],
    *,
    upload: bool,
    annotate: bool,
    timeout: int,
    quiet: bool,
) -> dict[str, Any]:
    """What the user asked for on the server, and nothing else."""
    from ga_audit.correction import publishing
    from ga_audit.files.manifest import add_to_manifest

    result: dict[str, Any] = {}
    if upload:
        folders = {key: top / place for key, place in places.items()}
        try:
            result["uploaded"] = publishing.upload(made, folders, timeout=timeout)
        finally:
            add_to_manifest(top, [offline for each in folders.values() for offline in each.rglob("offline-run-*")])
    if annotate:
        result["annotated"] = publishing.annotate(made, result.get("uploaded", {}), timeout=timeout)
    for word, done in result.items() if not quiet else ():
        click.echo(f"{word}: {', '.join(done.values() if isinstance(done, dict) else done)}")
    return result


def _say_what_it_is_not(diagnosis: Diagnosis) -> None:
    """A corrected log is not a repaired run, where the gradients were affected."""
    if not any(finding.role.value == "grad_norm" for finding in diagnosis.findings):
        return
    click.echo("The corrected grad_norm is what a mean would have given at those parameters; the run is not repaired.")
    for share in diagnosis.clipping:
        if share.as_logged != share.as_corrected:
            logged, corrected = (round(x * share.n_points) for x in (share.as_logged, share.as_corrected))
            click.echo(
                f"  {share.run}: {logged} of {share.n_points} logged steps above max_grad_norm {share.max_grad_norm:g}, "
                f"{corrected} as corrected"
            )


def _default_output(targets: Sequence[str]) -> str:
    first = targets[0].rstrip("/")
    if first in {"-", ""} or Path(first).name in {"", ".."}:
        return "ga-audit-fixed"
    if not Path(first).exists():  # an address: beside us, under the name of the run
        first = Path(first.partition("?")[0]).name
    return f"{first}-ga-audit"


def _write(
    made: list[Plan], audit: Audit | None, top: Path, places: Mapping[str, PurePosixPath], *, force: bool, keep: bool,
    inputs: Sequence[str],
) -> list[str]:  # fmt: skip
    """The corrected logs with manifest and diagnosis, whole or not at all; returns the files that are on disk."""
    from ga_audit import registry
    from ga_audit.correction import curves as correction
    from ga_audit.files.atomic import new_directory

    with new_directory(top, schema="ga-audit-fix/1", force=force, inputs=inputs) as draft:
        folders = {key: draft.path / place for key, place in places.items()}
        written = correction.write_all(made, folders, include_original=keep)
        draft.facts.update(correction.manifest(written, made, draft.path))
        rows = [row for p in made for row in correction.table(p)]
        text = registry.load("ga_audit.output", "markdown").corrections(rows, audit, [p.reason for p in made])
        (draft.path / "DIAGNOSIS.md").write_text(text, "utf-8")
        return draft.files()


def _table(rows: Sequence[dict[str, Any]]) -> str:
    if not rows:
        return "nothing to correct"
    from ga_audit.output._table import table
    from ga_audit.output.markdown import factors_text

    lines = []
    for row in rows:
        factor = factors_text(row["factor"])
        values = [f"{v:.4g}" if v is not None else "nan" for v in
                  (row["first_logged"], row["first_corrected"], row["last_logged"], row["last_corrected"])]  # fmt: skip
        lines.append([row["run"], row["series"], factor, values[0], f"-> {values[1]}", values[2], f"-> {values[3]}"])
    return "\n".join(table(lines, header=["run", "series", "factor", "first", "", "last", ""]))
