"""A text for a project's bug tracker, laid out for its form, safe to paste."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence

from ga_audit.finding import Audit, Diagnosis, Verdict
from ga_audit.render._safe import cell, redact_escaped
from ga_audit.render.markdown import diagnosis_lines
from ga_audit.run import Role

SUFFIX = ".md"
TEMPLATES = ("transformers", "trl", "axolotl", "llamafactory")
# headings of the bug-report forms: system information, what happens, how to reproduce, what was expected
_HEADINGS = {
    "transformers": ("### System Info", "### Information", "### Reproduction", "### Expected behavior"),
    "trl": ("### System Info", "### Current behavior", "### Reproduction", "### Expected behavior"),
    "axolotl": ("### Python Version, axolotl and packages", "### Current behaviour", "### Steps to reproduce",
                "### Expected Behavior"),
    "llamafactory": ("### System Info", "### Others", "### Reproduction", "### Expected behavior"),
}  # fmt: skip


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
    template : one of `TEMPLATES`.
    redacted : take out keys, people, home directories, hosts and W&B entities.
    names : further words to take out.
    figures : file names of plots beside the text.
    """
    text = "\n".join(_lines(audit, template, figures)) + "\n"
    return redact_escaped(text, names=names) if redacted else text


def _lines(audit: Audit, template: str, figures: Sequence[str]) -> Iterator[str]:
    system, current, reproduction, expected = _HEADINGS[template]
    order = {Verdict.SCALED: 0, Verdict.INCONCLUSIVE: 1, Verdict.HEALTHY: 2}
    diagnoses = sorted(audit.diagnoses, key=lambda d: order[d.verdict])
    yield f"# {title(diagnoses)}"
    yield ""
    yield current
    yield ""
    for d in diagnoses:
        yield from diagnosis_lines(d)
        if d.findings and not d.bugs:
            yield ""
            yield "No known bug of ga-audit's catalogue matches this stack and signature."
        yield ""
    for name in figures:
        yield f"![{name.rpartition('.')[0]}]({name})"
    yield ""
    yield reproduction
    yield ""
    yield "The real gradient, measured on the installed stack against the gradient of the whole batch:"
    yield ""
    yield "```bash"
    yield from _commands(diagnoses)
    yield "```"
    yield ""
    yield expected
    yield ""
    yield (
        "At one effective batch size the logged loss and grad_norm do not depend on `gradient_accumulation_steps`: the "
        "accumulated gradient is that of the mean loss over the whole batch."
    )
    yield ""
    yield system
    yield ""
    yield from _system(diagnoses)
    yield ""
    yield f"Written by ga-audit {audit.version}; exponents are 0 where right, 1 where summed, -1 where divided once too often."


def title(diagnoses: Sequence[Diagnosis]) -> str:
    """One line for the issue's title."""
    for d in diagnoses:
        if d.findings:
            parts = [f"{f.role.value} is {f.hypothesis.name.replace('-', ' ').partition('@')[0]}" for f in d.findings]
            packages = _packages(d)
            stack = next(
                (f" ({name} {packages[name]})" for name in ("transformers", "trl", "axolotl") if name in packages), ""
            )
            return f"{', '.join(parts)}{stack}"
    return "Does loss or grad_norm scale with gradient accumulation?"


def _packages(d: Diagnosis) -> dict[str, str]:
    found: dict[str, set[str]] = {}
    for run in d.runs:
        for name, release in run.settings.packages.items():
            found.setdefault(name, set()).add(release.value)
    return {name: ", ".join(sorted(releases)) for name, releases in sorted(found.items())}


def _commands(diagnoses: Sequence[Diagnosis]) -> Iterator[str]:
    commands = [
        part for d in diagnoses for step in d.next_steps for part in step.split("`")[1::2] if "ga-audit repro" in part
    ]
    gas = sorted({run.settings.ga for d in diagnoses for run in d.runs if run.settings.ga}) or [1, 8]
    yield "pip install 'ga-audit[repro]'"
    yield commands[0] if commands else f"ga-audit repro --engine transformers --ga {','.join(map(str, gas))}"


def _system(diagnoses: Sequence[Diagnosis]) -> Iterator[str]:
    """Versions and settings of the stack as the logs give them, not those of the machine that wrote this text."""
    if not any(_packages(d) for d in diagnoses):
        yield "- the logs name no package; add the output of your project's `env` command"
    for d in diagnoses:
        for name, release in _packages(d).items():
            yield f"- {name} {cell(release)}"
    for d in diagnoses:
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


def host_names() -> tuple[str, ...]:
    """Names of this machine and user, to be taken out of what is posted."""
    import getpass

    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = ""
    return tuple(n for n in (platform.node(), user) if n and n not in {"root", "localhost", "user"} and len(n) > 3)
