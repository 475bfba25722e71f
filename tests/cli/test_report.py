import json
import shutil
from pathlib import Path

import jsonschema
from click.testing import CliRunner

import ga_audit.output
from ga_audit.cli.report import TEMPLATES, command
from ga_audit.output import issue

SAMPLES = Path(__file__).parents[2] / "sample_logs"


def run(*arguments):
    return CliRunner().invoke(command, [str(a) for a in arguments])


def test_the_templates_are_those_of_the_issue_text():
    assert TEMPLATES == issue.TEMPLATES


def test_everything_for_a_bug_report(tmp_path):
    done = run(SAMPLES / "wandb-4.48.0", "-o", tmp_path / "r")
    assert done.exit_code == 0, done.output
    names = {p.name for p in (tmp_path / "r").iterdir()}
    assert {"issue.md", "report.html", "diagnosis.json", "curves.png", "curves-dark.svg", "regression.png"} <= names
    schema = json.loads((Path(ga_audit.output.__file__).parent / "schema_v1.json").read_text())
    jsonschema.validate(json.loads((tmp_path / "r" / "diagnosis.json").read_text()), schema)
    text = (tmp_path / "r" / "issue.md").read_text()
    assert "GA001" in text
    assert "Drag `curves.png`" in text
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


def test_people_and_machines_that_logs_record_are_in_no_output(tmp_path):
    """A W&B run by the real SDK and a TensorBoard file by the real writer, both of which name a host and a user."""
    import wandb
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    config = {
        "gradient_accumulation_steps": 1,
        "per_device_train_batch_size": 8,
        "_name_or_path": "/scratch/wilma/llama",
    }
    settings = wandb.Settings(console="off", silent=True, x_disable_stats=True, entity="flintstone-labs", host="gpu-node-77",
                              username="barney77", email="fred.f@quarry.example")  # fmt: skip
    with wandb.init(mode="offline", dir=str(tmp_path), project="p", name="ga1-by-barney77", config=config,
                    settings=settings) as run:  # fmt: skip
        for i in range(1, 30):
            run.log({"train/loss": 3 - i / 50, "train/global_step": i}, step=i)
    wandb.teardown()  # its service writes this file too, perhaps after the run has ended
    metadata = {
        "host": "gpu-node-77.quarry.example",
        "username": "barney77",
        "email": "fred.f@quarry.example",
        "gpu_count": 1,
    }
    (next(tmp_path.rglob("*.wandb")).parent / "files" / "wandb-metadata.json").write_text(json.dumps(metadata))
    folder = tmp_path / "ga8" / "runs" / "Nov24_01-26-23_slate-box"
    writer = EventFileWriter(str(folder))
    for i in range(1, 30):
        value = Summary.Value(tag="train/loss", simple_value=8 * (3 - i / 50))
        writer.add_event(Event(step=i, summary=Summary(value=[value])))
    writer.close()
    (written,) = folder.glob("events.out.tfevents.*")
    written.rename(folder / "events.out.tfevents.1795465957.slate-box.4242.0")
    (tmp_path / "ga8" / "train.yaml").write_text("gradient_accumulation_steps: 8\nper_device_train_batch_size: 1\n")
    done = run_report(tmp_path)
    assert done.exit_code == 0, done.output
    secrets = ("flintstone", "gpu-node-77", "barney77", "fred.f", "quarry.example", "wilma", "slate-box")
    for file in (tmp_path / "r").iterdir():
        if file.suffix != ".png":
            text = file.read_text().replace("\\", "")
            found = [secret for secret in secrets if secret in text]
            assert not found, (file.name, found)
    assert "ga1-by-<redacted>" in (tmp_path / "r" / "issue.md").read_text().replace("\\", "")


def test_redacted_names_keep_their_share_of_clipped_steps(tmp_path):
    for ga in (1, 8):
        folder = tmp_path / f"ga{ga}-wilma@lab.example"
        folder.mkdir()
        rows = [{"step": s, "loss": ga * (3 - s / 50), "grad_norm": ga * (1.5 + s / 99)} for s in range(1, 30)]
        (folder / "trainer_state.json").write_text(json.dumps({"log_history": rows}))
        (folder / "train.yaml").write_text(f"gradient_accumulation_steps: {ga}\nmax_grad_norm: 1.0\n")
    assert run_report(tmp_path).exit_code == 0
    svg = (tmp_path / "r" / "clipping.svg").read_text()
    assert "wilma" not in svg
    assert svg.count("100% clipped, 100% corrected") == 2


def run_report(folder):
    return run(folder, "-o", folder / "r")


def tree(top):
    return {p.relative_to(top).as_posix(): p.read_bytes() for p in top.rglob("*") if p.is_file()}


def test_force_never_replaces_an_input_or_the_working_directory(tmp_path, monkeypatch):
    shutil.copytree(SAMPLES / "transformers-4.48.0", tmp_path / "runs")
    (tmp_path / "oi").mkdir()
    (tmp_path / "oi" / "mine").write_text("mine")
    before = tree(tmp_path)
    remedy = "  -> Give another place for the output; what is there stays as it is.\n"
    monkeypatch.chdir(tmp_path)
    done = run("runs", "-o", "runs", "--force")
    assert done.exit_code == 2
    assert done.stderr == f"error: runs: the output would replace the input runs\n{remedy}"
    monkeypatch.chdir(tmp_path / "oi")
    done = run("../runs", "-o", "../oi", "--force")
    assert done.exit_code == 2
    assert done.stderr == f"error: ../oi: is the working directory\n{remedy}"
    assert tree(tmp_path) == before


def test_force_replaces_a_report_and_nothing_else(tmp_path):
    for _ in range(2):
        done = run(SAMPLES / "transformers-4.48.0", "-o", tmp_path / "r", "--force")
        assert done.exit_code == 0, done.output
    manifest = json.loads((tmp_path / "r" / "ga-audit.json").read_text())
    assert manifest["schema"] == "ga-audit-report/1"
    assert sorted([*manifest["files"], "ga-audit.json"]) == sorted(tree(tmp_path / "r"))
    (tmp_path / "r" / "issue.md").write_text("my words")
    done = run(SAMPLES / "transformers-4.48.0", "-o", tmp_path / "r", "--force")
    assert done.exit_code == 3
    assert "holds what ga-audit did not write: issue.md (changed)" in done.stderr
    assert (tmp_path / "r" / "issue.md").read_text() == "my words"
