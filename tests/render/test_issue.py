import dataclasses

import pytest
from conftest import make_run, twins

from ga_audit import pipeline
from ga_audit.render import issue
from ga_audit.run import Setting, Source, Trust

SECRET_KEY = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize("template", issue.TEMPLATES)
def test_every_form_has_its_headings_and_the_numbers(template):
    out = issue.render(pipeline.audit_runs(twins(1, packages={"transformers": "4.48.0"})), template=template)
    assert all(heading in out for heading in issue._HEADINGS[template])
    assert "transformers 4.48.0" in out
    assert "ga-audit repro" in out
    assert "| loss | 1.000 |" in out
    assert "GA001" in out


def planted():
    """Runs with secrets in every place that a log can put them."""
    runs = []
    for run in twins(1):
        settings = dataclasses.replace(
            run.settings,
            model=Setting(f"/home/alice/models/{SECRET_KEY}", "test", Trust.RECORDED),
            packages={"transformers": Setting("4.48.0+alice@corp.example", "test", Trust.RECORDED)},
        )
        name = f"{run.name}-hf_abcdefghijklmnopqrstuvwxyz0123-gpu-box-7"
        sources = (Source("table", f"/home/alice/runs/{run.name}.json"),)
        runs.append(dataclasses.replace(run, name=name, settings=settings, sources=sources))
    return runs


def test_nothing_secret_is_in_the_text():
    audit = pipeline.audit_runs(planted())
    out = issue.render(audit, names=("gpu-box-7",))
    for secret in ("alice", SECRET_KEY, "hf_abcdef", "corp.example", "gpu-box-7"):
        assert secret not in out.replace("\\", ""), secret
    assert "alice" in issue.render(audit, redacted=False)


def test_title_of_an_undecided_audit():
    audit = pipeline.audit_runs([make_run("a", ga=8, loss=[3.0])])
    assert issue.render(audit).startswith("# Does loss or grad_norm scale")
