"""A corrected run as a new offline run of the SDK: W&B's history cannot be edited, so the original stays as it is."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ga_audit.logs.formats import Rewrite
from ga_audit.logs.formats._points import step_of
from ga_audit.logs.formats._wandb import run as wandb_run
from ga_audit.logs.formats._wandb import sdk as wandb_sdk

TAG = "ga-audit"


@dataclass(frozen=True, slots=True)
class Logged:
    """What is carried over from the original."""

    id: str
    name: str
    rows: Sequence[Mapping[str, Any]]
    config: Mapping[str, Any]
    entity: str | None = None
    project: str | None = None
    group: str | None = None
    tags: Sequence[str] = field(default=())
    notes: str | None = None
    requirements: str = ""
    address: str = ""  # of the original on a server


def write_offline(logged: Logged, rewrite: Rewrite, destination: Path) -> list[Path]:
    """Files of the new run, below `destination`; it goes to a server with `wandb sync`.

    Written by the SDK itself, with a fresh id, the original steps, times, config, group and name; linked to the original
    by `ga_audit` in the config and by a tag.
    """
    plain = {k: v["value"] if isinstance(v, dict) and "value" in v else v for k, v in logged.config.items()}
    plain.pop("_wandb", None)
    link = {"original_run": logged.id, **({"original": logged.address} if logged.address else {})}
    with wandb_sdk.open_sdk() as wandb:
        written = _log_rows(wandb, logged, rewrite, destination, {**plain, "ga_audit": {**rewrite.provenance, **link}})
    # the packages are those of the training, not of this environment; the SDK's own logs name this machine
    if logged.requirements:
        written.mkdir(parents=True, exist_ok=True)
        (written / "requirements.txt").write_text(logged.requirements, "utf-8")
    for log in destination.rglob("debug*.log"):
        log.unlink()
    return sorted(p for p in destination.rglob("*") if p.is_file())


def _log_rows(wandb: Any, logged: Logged, rewrite: Rewrite, destination: Path, config: Mapping[str, Any]) -> Path:
    """The folder `files` of the new run."""
    quiet = wandb.Settings(
        console="off", silent=True, disable_git=True, disable_code=True, disable_job_creation=True, save_code=False,
        x_disable_stats=True, x_disable_meta=True, x_disable_machine_info=True, x_save_requirements=False, host="ga-audit",
    )  # fmt: skip
    # absolute, since wandb-core may have been started in another directory
    with wandb.init(
        mode="offline", dir=str(destination.absolute()), entity=logged.entity, project=logged.project, id=secrets.token_hex(4),
        name=f"{logged.name} (corrected)", group=logged.group or None, tags=[*dict.fromkeys([*logged.tags, TAG])],
        notes=logged.notes or None, job_type="ga-audit", config=dict(config), settings=quiet,
    ) as run:  # fmt: skip
        if any("train/global_step" in row for row in logged.rows):
            run.define_metric("train/global_step")
            run.define_metric("*", step_metric="train/global_step", step_sync=True)
        for row in logged.rows:
            run.log(_corrected(row, rewrite), step=int(row["_step"]) if "_step" in row else None)
        return Path(run.dir)


def _corrected(row: Mapping[str, Any], rewrite: Rewrite) -> dict[str, Any]:
    step = step_of(row, (*wandb_run.X_AXIS, "_step")) or 0
    out = {}
    for name, value in row.items():
        if name in {"_step", "_runtime", "_wandb"}:
            continue
        rescale = rewrite.for_name("train/train_loss" if name == "train_loss" and "train_runtime" in row else name)
        if rescale is None or not isinstance(value, int | float):
            out[name] = value
            continue
        if rewrite.include_original:
            out[f"original/{name}"] = value
        out[name] = rescale.at(step, float(value))
    return out
