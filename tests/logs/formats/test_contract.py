"""What every log format keeps, on samples of real logs."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from ga_audit.errors import AuditError
from ga_audit.logs import formats
from ga_audit.logs.discovery import find_logs
from ga_audit.logs.formats import Claim, Format, Rescale, Rewrite, Target
from ga_audit.run import Note, Role, Run

ROOT = Path(__file__).parents[3]
SAMPLES = {
    "trainer_state": "sample_logs/transformers-4.48.0/ga8/trainer_state.json",
    "training_args": "sample_logs/transformers-4.57.6/ga8/training_args.bin",
    "console": "sample_logs/console-4.48.0/ga8.log",
    "tensorboard": "sample_logs/tensorboard-4.48.0/ga8",
    "wandb_file": "sample_logs/wandb-4.48.0",
    "table": "tests/golden/cases/losses-by-name/results.csv",
}
WRITTEN = ("trainer_state", "console", "tensorboard", "table")
LOST = {"truncated", "wrong-checksum", "skipped", "broken-record", "broken-line", "ragged-rows", "not-a-number"}


def sample(name):
    """One file of the sample of a format."""
    path = ROOT / SAMPLES[name]
    if path.is_file():
        return path
    pattern = {"tensorboard": "events.out.*", "wandb_file": "run-*.wandb"}[name]
    return sorted(path.rglob(pattern))[0]


def keys(name):
    return {"loss_key": "train/seg_loss"} if name == "table" else {}


def read(name, path):
    return list(formats.load(name).read(Target(str(path), **keys(name))))


def points(pieces):
    return {
        (series.role, series.name): (series.position.tolist(), series.value.tolist())
        for run in pieces
        if isinstance(run, Run)
        for series in run.series
    }


@pytest.mark.parametrize("name", formats.load_all())
def test_a_leaf_exports_a_format(name):
    assert isinstance(formats.load(name), Format)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_is_claimed_by_its_format_alone(name):
    target = Target(str(sample(name)), **keys(name))
    claims = {other: of.claim(target) for other, of in formats.load_all().items()}
    assert claims[name] is max(claims.values())
    assert [other for other, claim in claims.items() if claim is Claim.YES and other != name] == []


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_is_read_once_on_a_walk(name, tmp_path):
    shutil.copy(sample(name), tmp_path)
    logs = list(find_logs([str(tmp_path)], loss_key=keys(name).get("loss_key")))
    assert [log.format for log in logs] == [name]


@pytest.mark.parametrize("name", SAMPLES)
def test_an_empty_file_is_an_error(name, tmp_path):
    path = tmp_path / sample(name).name
    path.write_bytes(b"")
    with pytest.raises(AuditError):
        read(name, path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.97])
@pytest.mark.parametrize("name", SAMPLES)
def test_a_file_that_is_cut_is_an_error_or_shorter(name, share, tmp_path):
    data = sample(name).read_bytes()
    path = tmp_path / sample(name).name
    path.write_bytes(data[: int(len(data) * share)])
    whole = points(read(name, sample(name)))
    try:
        part = points(read(name, path))
    except AuditError:
        return
    # a text may be cut inside its last number, which cannot be seen
    last = 1 if name in ("console", "table") else 0
    for key, (positions, values) in part.items():
        kept = len(positions) - last
        assert kept <= 0 or positions[:kept] == whole[key][0][:kept]
        assert kept <= 0 or np.array_equal(values[:kept], whole[key][1][:kept], equal_nan=True)


@pytest.mark.parametrize("name", ["tensorboard", "wandb_file"])
def test_a_flipped_byte_of_a_checked_format_is_counted(name, tmp_path):
    data = bytearray(sample(name).read_bytes())
    data[len(data) // 2] ^= 0x41
    path = tmp_path / sample(name).name
    path.write_bytes(data)
    notes = [note for run in read(name, path) if isinstance(run, Run) for note in run.notes]
    assert any(isinstance(note, Note) and note.code in LOST for note in notes)


@pytest.mark.parametrize("name", WRITTEN)
def test_a_correction_and_its_inverse_give_the_log_back(name, tmp_path):
    source = read(name, sample(name))[0].sources[0]
    loss = next(s for run in read(name, sample(name)) for s in run.series if s.role is Role.LOSS)
    twice = Rescale(loss.name, Role.LOSS, np.zeros(1, np.int64), np.array([2.0]))
    half = Rescale(loss.name, Role.LOSS, np.zeros(1, np.int64), np.array([0.5]))
    write = formats.load(name).write
    for folder, rescale in (("one", twice), ("two", half)):
        out = tmp_path / folder
        out.mkdir()
        (path,) = write(source, Rewrite([rescale], {"version": "test"}), out)
        source = formats.Source(name, str(path))
    before, after = points(read(name, sample(name))), points(read(name, path))
    for key, (positions, values) in before.items():
        assert after[key][0] == positions
        np.testing.assert_allclose(after[key][1], values, rtol=2e-3)
