"""A text for a project's bug tracker, laid out for its form, safe to paste."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ga_audit.bugs import catalogue
from ga_audit.conclusion import Audit, Diagnosis
from ga_audit.finding import Fit, Verdict
from ga_audit.logs.settings import is_over_devices
from ga_audit.output import _redact
from ga_audit.output._forms import FORMS
from ga_audit.output._safe import cell, plain, redact_escaped
from ga_audit.output.markdown import diagnosis_lines
from ga_audit.output.wording import bugs
from ga_audit.run import Role, RunSettings

TEMPLATES = ("transformers", "trl", "axolotl", "llamafactory")
# packages whose releases decide what a reproduction shows, in the order of a command
_STACK = ("transformers", "trl", "accelerate", "deepspeed", "peft", "torch")
_FRAMEWORKS = frozenset({"transformers", "trl", "axolotl", "llamafactory"})
_TRAINERS = _FRAMEWORKS | {"ms-swift", "accelerate"}
_RELEASE = re.compile(r"\d+(?:\.\d+)+(?:(?:a|b|rc|\.dev|\.post)\d+)?")  # what may stand in a command; no local part
_YAML_WORD = re.compile(r"[A-Za-z0-9_./+-]+")
_PICTURES = ("curves", "regression")  # what a maintainer looks at
_WORD = re.compile(r"[a-z0-9_]{1,40}")


def render(
    audit: Audit,
    *,
    template: str = "transformers",
    redacted: bool = True,
    names: tuple[str, ...] = (),
    figures: Sequence[str] = (),
    **_: object,
) -> str:
    """The issue text; the diagnosis that found the most goes into the title.

    Parameters
    ----------
    audit : what was found.
    template : one of `TEMPLATES`, whose form's fields are the headings, in their order.
    redacted : take out keys, people, home directories, hosts and W&B entities.
    names : further words to take out, beside those that the logs record.
    figures : file names of plots beside the text.
    """
    order = {Verdict.SCALED: 0, Verdict.INCONCLUSIVE: 1, Verdict.HEALTHY: 2}
    report = _Report(audit, tuple(sorted(audit.diagnoses, key=lambda d: order[d.verdict])), tuple(figures))
    lines = [f"# {title(report.diagnoses)}"]
    for heading, content in FORMS[template]:
        parts = [_PARTS[name] for name in content.split(" ") if name in _PARTS]
        told = "\n\n".join("\n".join(part(report)) for part in parts) if parts else content
        lines += ["", f"### {heading}", "", told]
    lines += ["", f"Written by ga-audit {audit.version}."]
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)) + "\n"
    if not redacted:
        return text
    return redact_escaped(text, names=(*names, *_redact.names_in([run for d in audit.diagnoses for run in d.runs])))


@dataclass(frozen=True, slots=True)
class _Report:
    audit: Audit
    diagnoses: tuple[Diagnosis, ...]  # what found the most first
    figures: tuple[str, ...]


def _current(report: _Report) -> Iterator[str]:
    """Verdict, runs, exponents, evidence, the known bug or that there is none, plots."""
    for d in report.diagnoses:
        yield from diagnosis_lines(d, advice=False)
        known = list(_bugs(d))
        if known:
            yield from ("", *known)
        elif d.findings:
            yield from ("", "No known bug of ga-audit's catalogue matches this stack and signature.")
        yield ""
    yield "An exponent of 0 is correct, 1 is summed, -1 is divided one time too many."
    yield ""
    shown = [name for name in report.figures if name.rpartition(".")[0].endswith(_PICTURES)]
    if shown:
        yield f"<!-- Drag {' and '.join(f'`{name}`' for name in shown[:2])} here: a tracker does not load local files. -->"


def _bugs(d: Diagnosis) -> Iterator[str]:
    """Affected and fixed releases of the bugs that match, and where they are told."""
    entries = {bug.id: bug for bug in catalogue.load()}
    for match in d.bugs[:3]:
        bug = entries.get(match.bug)
        if bug is None:
            continue
        fixed = f"fixed in {bug.fixed_in}" if bug.fixed_in else "no fixed release is known"
        links = " ".join(f"<{url}>" for url in match.links)
        yield f"- {match.bug}: affected {bug.package} {cell(bugs.ranges(bug.ranges))}; {fixed}; {links}"


def _reproduction(report: _Report) -> Iterator[str]:
    if "--script" in (command := report.audit.command or ()):
        yield from ("The runs were started, at each GA, by:", "", "```bash", shlex.join(command), "```")
        return
    known = any(_packages(d) for d in report.diagnoses)
    stack = "on the same releases and settings" if known else "on the installed releases, with the same settings"
    yield f"This measures the accumulated gradient {stack} against the full-batch gradient:"
    yield ""
    yield "```bash"
    yield from _commands(report)
    yield "```"


def _expected(_: _Report) -> Iterator[str]:
    yield (
        "At one effective batch size the logged loss and grad_norm do not depend on `gradient_accumulation_steps`: the "
        "accumulated gradient is that of the mean loss over the full batch."
    )


def _config(report: _Report) -> Iterator[str]:
    """The settings that matter here as the trainer's YAML would have them, of the run with the largest GA."""
    runs = [run for d in report.diagnoses[:1] for run in d.runs]
    yield "```yaml"
    if runs:
        run = max(runs, key=lambda r: r.settings.ga or 0)
        for key, value in _settings(run.settings):
            told = plain(value).replace("\n", " ").replace("`", "'")
            # what YAML would not read as one word or number is quoted
            yield f"{key}: {told if _YAML_WORD.fullmatch(told) else json.dumps(told, ensure_ascii=False)}"
    yield "```"


def _settings(s: RunSettings) -> Iterator[tuple[str, str]]:
    named = {
        "base_model": s.model, "gradient_accumulation_steps": s.gradient_accumulation_steps,
        "micro_batch_size": s.micro_batch_size, "learning_rate": s.learning_rate, "max_grad_norm": s.max_grad_norm,
        "optimizer": s.optimizer, "seed": s.seed,
    }  # fmt: skip
    for key, setting in named.items():
        if setting is not None:
            yield key, str(setting.value)


def _solution(report: _Report) -> Iterator[str]:
    fixes = dict.fromkeys(f"{b.bug}: {b.title}. {b.fix}" for d in report.diagnoses for b in d.bugs[:3])
    yield from (f"- {cell(line)}" for line in fixes)
    if not fixes:
        yield "No known bug of ga-audit's catalogue matches this stack and signature."


def _python(report: _Report) -> Iterator[str]:
    found = {_packages(d).get("python") for d in report.diagnoses} - {None}
    yield ", ".join(cell(str(release)) for release in sorted(found, key=str)) or "the logs do not say"


def _release(report: _Report) -> Iterator[str]:
    found = {_packages(d).get("axolotl") for d in report.diagnoses} - {None}
    yield ", ".join(cell(str(release)) for release in sorted(found, key=str)) or "the logs do not say"


def title(diagnoses: Sequence[Diagnosis]) -> str:
    """One line for the issue's title: what is scaled, and by which release."""
    for d in diagnoses:
        if d.findings:
            by_fault: dict[str, list[str]] = {}
            for f in d.findings:
                words = f.hypothesis.name.partition("@")[0].replace("-", " ")
                by_fault.setdefault(re.sub(r"\bga\b", "gradient_accumulation_steps", words), []).append(f.role.value)
            told = [f"{' and '.join(r)} {'are' if len(r) > 1 else 'is'} {words}" for words, r in by_fault.items()]
            packages = _packages(d)
            named = _meant(d) & packages.keys() or _FRAMEWORKS & packages.keys()
            stack = ", ".join(f"{name} {cell(packages[name])}" for name in sorted(named))
            return f"Logged {', '.join(told)}{f' ({stack})' if stack else ''}"
    return "Does loss or grad_norm scale with gradient accumulation?"


def _meant(d: Diagnosis) -> set[str]:
    """The packages whose known bugs explain it: W&B records all that is installed, not what trained."""
    package_of = {bug.id: bug.package for bug in catalogue.load()}
    by_fit = [{package_of[match.bug] for match in d.bugs if match.fit == fit} for fit in (Fit.MATCHES, Fit.POSSIBLE)]
    return by_fit[0] or by_fit[1]


def _packages(d: Diagnosis) -> dict[str, str]:
    found: dict[str, set[str]] = {}
    for run in d.runs:
        for name, release in run.settings.packages.items():
            found.setdefault(name, set()).add(release.value)
    return {name: ", ".join(sorted(releases)) for name, releases in sorted(found.items())}


def _commands(report: _Report) -> Iterator[str]:
    """The command that measured it, or the shortest that would; nothing of a log stands in it unchecked."""
    d = next(iter(report.diagnoses), None)
    packages = {name: r for name, r in _packages(d).items() if _RELEASE.match(r)} if d is not None else {}
    pins = "".join(f" {name}=={_RELEASE.match(packages[name])[0]}" for name in _STACK  # type: ignore[index]
                   if name in packages and "," not in packages[name])  # fmt: skip
    yield f"pip install 'ga-audit[repro]'{pins}"
    if report.audit.command is not None:
        yield shlex.join(report.audit.command)
        return
    yield f"ga-audit repro{_options(d, bool(_TRAINERS & packages.keys()))}" if d is not None else "ga-audit repro"


def _options(d: Diagnosis, trainer: bool) -> str:
    """Options of `ga-audit repro` from what all runs have in common."""
    settings = [run.settings for run in d.runs]
    gas = sorted({s.ga for s in settings if s.ga}) or [8]
    gas = gas if len(gas) > 1 else sorted({1, *gas})
    worlds = sorted({s.world_size.value for s in settings if s.world_size})
    options = [" --engine transformers" if trainer else "", f" --ga {','.join(map(str, gas))}"]
    if worlds not in ([], [1]):
        options.append(f" --world-size {','.join(map(str, worlds))}")
    if max(worlds, default=1) > 1 and any(is_over_devices(s) for s in settings):
        options.append(" --data-parallel")
    batches = {s.effective_batch_size for s in settings}
    largest = max(gas) * max(worlds, default=1)
    if len(batches) == 1 and (batch := batches.pop()) and batch <= 256 and batch != 16 and batch % largest == 0:
        options.append(f" --effective-batch-size {batch}")
    seeds = {s.seed.value for s in settings if s.seed}
    if len(seeds) == 1 and 0 <= (seed := seeds.pop()) != 42:
        options.append(f" --seed {seed}")
    limits = {s.max_grad_norm.value for s in settings if s.max_grad_norm}
    if len(limits) == 1 and 0 < (limit := limits.pop()) != 1.0:
        options.append(f" --max-grad-norm {limit:g}")
    optimizers = {s.optimizer.value.rpartition(".")[2].lower() for s in settings if s.optimizer}
    if trainer and len(optimizers) == 1 and _WORD.fullmatch(name := optimizers.pop()) and name != "adamw_torch":
        options.append(f" --optimizer {name}")
    return "".join(options)


def _system(report: _Report) -> Iterator[str]:
    """Versions and settings of the stack as the logs give them, not those of the machine that wrote this text."""
    if not any(_packages(d) for d in report.diagnoses):
        yield "- the logs name no package; add the output of your project's `env` command"
    for d in report.diagnoses:
        for name, release in _packages(d).items():
            yield f"- {cell(name)} {cell(release)}"
    for d in report.diagnoses:
        for run in d.runs[:8]:
            s = run.settings
            fields = {
                "gradient_accumulation_steps": s.ga, "micro_batch_size": s.micro_batch_size, "world_size": s.world_size,
                "learning_rate": s.learning_rate, "max_grad_norm": s.max_grad_norm, "optimizer": s.optimizer,
                "model": s.model, "engine": s.engine,
            }  # fmt: skip
            told = [f"{k} {cell(str(getattr(v, 'value', v)))}" for k, v in fields.items() if v is not None]
            norms = "" if run.get(Role.GRAD_NORM) else "; no grad_norm logged"
            yield f"- {cell(run.name)}: {', '.join(told)}{norms}"


_PARTS: dict[str, Callable[[_Report], Iterator[str]]] = {
    "current": _current, "reproduction": _reproduction, "expected": _expected, "system": _system, "config": _config,
    "solution": _solution, "python": _python, "release": _release,
}  # fmt: skip
