"""Verdicts on public logs of other people: `python -m tests.calibration.public_logs DIR` compares them with the table.

`public_logs.json` holds one row per log: where it is, what is true and why (judged from the project, not by ga-audit),
and the verdict that ga-audit gave on that run alone. The logs have licenses of their own and are not kept here: DIR
holds what was fetched, as `DIR/<owner>+<name>/<path>`, with the settings that lay beside each log (training_args.bin,
README.md, config.json, adapter_config.json, wandb/ folders). What is missing is left out and counted.

`--cards DIR` judges model cards (README files with a table of training results) the same way. `--classifiers DIR` takes the
logs of `public_classifiers.json` (fine-tunings with a head for classes, nearly all of GA 1, where a log is right whatever the
stack) and judges each as if it had another GA, as it is and with its loss multiplied by that. `--write` keeps the new verdicts
in the table.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ga_audit.evidence import eval_gap
from ga_audit.evidence._objective import objective
from ga_audit.finding import HEALTHY, OTHER, Verdict
from ga_audit.logs.formats import Target, yaml_config
from ga_audit.pipeline import Options, diagnose, read_runs
from ga_audit.run import Role, Run, RunSettings, Schedule, Series, Setting, Trust

TABLE = Path(__file__).with_name("public_logs.json")
CLASSIFIERS = Path(__file__).with_name("public_classifiers.json")
SUPPOSED = (2, 4, 8, 16, 32)
_SAME = 8  # first losses by which two cards are one training, seen twice
_BASES = (  # a card names the model that was fine-tuned, the config.json beside a log its class
    ("whisper", "WhisperForConditionalGeneration"), ("wav2vec|wav2vec2|xls-r|hubert|wavlm", "Wav2Vec2ForCTC"),
    ("t5", "T5ForConditionalGeneration"), ("pegasus", "PegasusForConditionalGeneration"),
    ("bart", "BartForConditionalGeneration"),
    ("opus-mt|marian", "MarianMTModel"), ("vit-|swin|convnext|beit|resnet", "ViTForImageClassification"),
    ("gpt|dialogpt|opt-|bloom|codegen|llama", "GPT2LMHeadModel"),
)  # fmt: skip
_CELL = re.compile(r"^\d+(\.\d+)?(e[+-]?\d+)?$")


def judge(folder: Path, given_ga: int | None = None) -> Iterator[tuple[tuple[str, ...], Run, Verdict, float]]:
    """(paths within the folder of its views, run, verdict, P(the loss is scaled)) of each run of a project, alone.

    Parameters
    ----------
    given_ga : of all runs of the project, where only its scripts say it.
    """
    runs, _ = read_runs(folder, options=Options(ga={"*": given_ga}) if given_ga else None)
    for run in runs:
        views = run.views(Role.LOSS)
        if views and run.settings.ga is not None:
            yield tuple(str(Path(view.source).relative_to(folder)) for view in views), run, *verdict_alone(run)


def verdict_alone(run: Run) -> tuple[Verdict, float]:
    """The verdict on one run and the probability that its loss is scaled by a power of GA or world size."""
    (found,) = diagnose([run])
    posterior = found.posterior.get(Role.LOSS, {})
    return found.verdict, sum(p for h, p in posterior.items() if h not in (HEALTHY, OTHER))


def task(run: Run) -> str:
    """What is minimised, in the words of the table."""
    return objective(run)[0].value


def card_run(file: Path) -> Run | None:
    """A model card's table of training results as a run; None where it has no table or no loss in it."""
    (settings,) = yaml_config.read(Target("README.md", text=file.read_bytes()))
    columns: list[str] = []
    loss: dict[int, float] = {}
    held_out: dict[int, float] = {}
    for line in file.read_text("utf-8", "replace").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if "Training Loss" in cells and "Step" in cells:
            columns = cells
        elif columns and len(cells) == len(columns) and _CELL.match(cells[columns.index("Step")]):
            row = dict(zip(columns, cells, strict=True))
            for name, into in (("Training Loss", loss), ("Validation Loss", held_out)):
                if _CELL.match(row.get(name, "")):
                    into[int(float(row["Step"]))] = float(row[name])
    if not loss:
        return None
    series = [_series(Role.LOSS, loss, file)] + ([_series(Role.EVAL_LOSS, held_out, file)] if held_out else [])
    return replace(
        settings, settings=_with_class(settings.settings, file.read_text("utf-8", "replace")), series=tuple(series)
    )


def _with_class(settings: RunSettings, text: str) -> RunSettings:
    base = re.search(r"fine-tuned version of \[([^\]]*)\]", text)
    name = base[1].lower() if base else ""
    found = next((c for words, c in _BASES if re.search(words, name)), None)
    if found is None:
        return settings
    return replace(
        settings, other={**settings.other, "architectures": Setting([found], "the base model's name", Trust.GUESSED)}
    )


def card_task(run: Run) -> str:
    """The class that the base model's name stands for, or the objective."""
    architectures = run.settings.other.get("architectures")
    return architectures.value[0] if architectures is not None else task(run)


def _series(role: Role, points: dict[int, float], file: Path) -> Series:
    step = np.array(sorted(points), np.int64)
    value = np.array([points[s] for s in step.tolist()])
    return Series(role=role, name=role.value, format="card", source=str(file), position=step, value=value)


def planted(run: Run) -> Run:
    """The run as a trainer that adds up micro-batches would have logged it: loss times GA, eval loss as it was."""
    ga = run.settings.ga or 1
    roles = (Role.LOSS, Role.SUMMARY_LOSS)
    return replace(run, series=tuple(replace(s, value=s.value * ga) if s.role in roles else s for s in run.series))


def confusion(rows: Iterable[dict[str, Any]]) -> str:
    """Markdown: truth and task against verdicts, with the share decided and, of these, the share right."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    for row in rows:
        names = (row["task"], "all") if row["ga"] > 1 else ("GA 1",)
        for name in names:
            counts.setdefault((row["truth"], name), Counter())[row["verdict"]] += 1
    lines = ["| truth | task | runs | healthy | scaled | inconclusive | decided | of these right |", "|" + " --- |" * 8]
    for (truth, name), c in sorted(counts.items(), key=lambda item: (item[0][0], item[0][1] == "all", item[0][1])):
        total, decided = c.total(), c["healthy"] + c["scaled"]
        right = {"healthy": c["healthy"], "summed": c["scaled"]}.get(truth)
        share = f"{right / decided:.0%}" if right is not None and decided else ""
        shown = (truth, name, total, c["healthy"], c["scaled"], c["inconclusive"], f"{decided / total:.0%}", share)
        lines.append("| " + " | ".join(map(str, shown)) + " |")
    return "\n".join(lines)


def audit_table(folder: Path) -> tuple[list[dict[str, Any]], list[str], list[dict[str, Any]]]:
    """The rows with their verdicts of today, what differs from the table, and the healthy rows with a sum planted."""
    rows: list[dict[str, Any]] = json.loads(TABLE.read_text("utf-8"))
    by_project: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_project.setdefault(row["repository"], []).append(row)
    changes, sums = [], []
    for project, own in by_project.items():
        place = folder / project.replace("/", "+")
        judged = judge(place, own[0].get("given_ga")) if place.is_dir() else ()
        now = {path: found for paths, *found in judged for path in paths}
        for row in own:
            if row["path"] not in now:
                changes.append(f"{project} {row['path']}: not in {folder}")
                continue
            run, verdict, probability = now[row["path"]]
            if verdict.value != row["verdict"]:
                changes.append(f"{project} {row['path']}: {verdict.value}, was {row['verdict']}")
            row["verdict"], row["scaled"], row["task"] = verdict.value, round(probability, 3), task(run)
            if row["ga"] > 1 and row["truth"] == "healthy":
                sums.append({**row, "truth": "summed", "verdict": verdict_alone(planted(run))[0].value})
    return rows, changes, sums


def _distinct_cards(folder: Path) -> Iterator[Run]:
    """Every card with a table, once; all by releases before transformers 4.46, so all healthy."""
    seen: set[tuple[float, ...]] = set()
    for file in sorted(folder.rglob("*README.md")):
        run = card_run(file)
        loss = run.get(Role.LOSS) if run is not None else None
        if run is not None and loss is not None and (start := tuple(loss.value[:_SAME])) not in seen:
            seen.add(start)
            yield run


def cards(folder: Path) -> list[dict[str, Any]]:
    """Verdicts on model cards with GA > 1."""
    rows = []
    for run in _distinct_cards(folder):
        if (run.settings.ga or 1) > 1:
            verdict, scaled = verdict_alone(run)
            facts = {"path": run.get(Role.LOSS).source, "task": card_task(run), "ga": run.settings.ga}  # type: ignore[union-attr]
            rows.append({**facts, "truth": "healthy", "verdict": verdict.value, "scaled": round(scaled, 3)})
    return rows


def supposed(folder: Path) -> tuple[int, int]:
    """(cards with eval losses, of these `scaled` when each is judged as if its GA were 2, 4, 8, 16 and 32)."""
    count = convicted = 0
    for run in _distinct_cards(folder):
        if not len(eval_gap.ratios(run)):
            continue
        count += 1
        convicted += sum(verdict_alone(as_if(run, ga))[0] is Verdict.SCALED for ga in SUPPOSED)
    return count, convicted


def as_if(run: Run, ga: int) -> Run:
    """The run with another GA in its settings."""
    supposed = Setting(Schedule.constant(ga), "supposed", Trust.GIVEN)
    return replace(run, settings=replace(run.settings, gradient_accumulation_steps=supposed))


def classifiers(folder: Path) -> Iterator[tuple[int, int, Counter[str], Counter[str]]]:
    """(supposed GA, runs, verdicts on them, verdicts on them with their loss multiplied by it)."""
    projects = dict.fromkeys(row["repository"] for row in json.loads(CLASSIFIERS.read_text("utf-8")))
    places = [place for p in projects if (place := folder / p.replace("/", "+")).is_dir()]
    runs = [run for place in places for run in read_runs([str(place)])[0] if run.views(Role.LOSS)]
    for ga in SUPPOSED:
        right, summed = (
            Counter(verdict_alone(change(as_if(run, ga)))[0].value for run in runs) for change in (lambda r: r, planted)
        )
        yield ga, len(runs), right, summed


def _print_classifiers(folder: Path) -> int:
    """1 where a right run was convicted."""
    kinds, convicted = ("healthy", "scaled", "inconclusive"), 0
    print("| supposed GA | runs | " + " | ".join([*kinds, *(f"x GA: {kind}" for kind in kinds)]) + " |")
    print("|" + " --- |" * 8)
    for ga, count, right, summed in classifiers(folder):
        print("| " + " | ".join(map(str, (ga, count, *(c[kind] for c in (right, summed) for kind in kinds)))) + " |")
        convicted += right["scaled"]
    return int(convicted > 0)


def main(arguments: list[str]) -> int:
    """Print the confusion table; 1 where a healthy run was convicted or a summed one acquitted."""
    write, card = "--write" in arguments, "--cards" in arguments
    (place,) = [a for a in arguments if not a.startswith("--")]
    if "--classifiers" in arguments:
        return _print_classifiers(Path(place))
    rows, changes, sums = (cards(Path(place)), [], []) if card else audit_table(Path(place))
    print("\n".join([*changes, "", confusion(rows)]))
    if sums:
        print("\nThe healthy runs with GA > 1, their loss multiplied by GA:\n\n" + confusion(sums))
    if card:
        count, convicted = supposed(Path(place))
        print(f"\n{count} cards, each as if its GA were 2, 4, 8, 16 and 32: {convicted} scaled")
    wrong = [r for r in [*rows, *sums] if (r["truth"], r["verdict"]) in {("healthy", "scaled"), ("summed", "healthy")}]
    print("\n".join(f"WRONG: {r.get('repository', '')} {r['path']}" for r in wrong))
    if write and not card:
        TABLE.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
