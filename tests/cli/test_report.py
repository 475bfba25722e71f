import json
from pathlib import Path

import jsonschema
from click.testing import CliRunner

import ga_audit.render
from ga_audit.cli.report import _TEMPLATES, command
from ga_audit.render import issue

SAMPLES = Path(__file__).parents[2] / "sample_logs"


def run(*arguments):
    return CliRunner().invoke(command, [str(a) for a in arguments])


def test_the_templates_are_those_of_the_issue_text():
    assert _TEMPLATES == issue.TEMPLATES


def test_everything_for_a_bug_report(tmp_path):
    done = run(SAMPLES / "wandb-4.48.0", "-o", tmp_path / "r")
    assert done.exit_code == 0, done.output
    names = {p.name for p in (tmp_path / "r").iterdir()}
    assert {"issue.md", "report.html", "diagnosis.json", "curves.png", "curves-dark.svg", "regression.png"} <= names
    schema = json.loads((Path(ga_audit.render.__file__).parent / "schema_v1.json").read_text())
    jsonschema.validate(json.loads((tmp_path / "r" / "diagnosis.json").read_text()), schema)
    text = (tmp_path / "r" / "issue.md").read_text()
    assert "GA001" in text
    assert "![curves](curves.png)" in text
    refused = run(SAMPLES / "wandb-4.48.0", "-o", tmp_path / "r")
    assert refused.exit_code == 3
    assert "--force" in refused.output


def test_nothing_to_report(tmp_path):
    (tmp_path / "empty").mkdir()
    done = run(tmp_path / "empty", "-o", tmp_path / "r")
    assert done.exit_code == 3
    assert not (tmp_path / "r").exists()


def test_a_wrong_style_leaves_nothing_behind(tmp_path):
    done = run(SAMPLES / "wandb-4.48.0", "-o", tmp_path / "r", "--plot-style", "nonesuch")
    assert done.exit_code == 3
    assert list(tmp_path.iterdir()) == []


def test_secrets_planted_in_names_paths_and_settings_are_in_no_output(tmp_path):
    secrets = ["hf_abcdefghijklmnopqrstuvwxyz0123", "alice", "0123456789abcdef0123456789abcdef01234567"]
    home = tmp_path / "home" / "alice"
    home.mkdir(parents=True)
    for ga in (1, 8):
        folder = home / f"ga{ga}-hf_abcdefghijklmnopqrstuvwxyz0123"
        folder.mkdir()
        rows = [{"step": s, "loss": ga * (3 - s / 50), "grad_norm": 1.0 + s / 99} for s in range(1, 30)]
        (folder / "trainer_state.json").write_text(json.dumps({"log_history": rows}))
        (folder / "train.yaml").write_text(
            f"gradient_accumulation_steps: {ga}\nbase_model: /home/alice/0123456789abcdef0123456789abcdef01234567\n"
            f"dataset: 'token=abcdef\"x'\n"
        )
    done = run(home, "-o", tmp_path / "r")
    assert done.exit_code == 0, done.output
    json.loads((tmp_path / "r" / "diagnosis.json").read_text())
    for file in (tmp_path / "r").iterdir():
        if file.suffix != ".png":
            text = file.read_text().replace("\\", "")
            found = [secret for secret in secrets if secret in text]
            assert not found, (file.name, found)
