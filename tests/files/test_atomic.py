import json
import os
from pathlib import Path

import pytest

from ga_audit.errors import AuditError, RefusedToOverwrite, WrongUsage
from ga_audit.files import atomic
from ga_audit.files.atomic import check_directory, check_file, new_directory, new_file

SCHEMA = "ga-audit-test/1"
HEADER = "verdict,run,gradient_accumulation_steps,loss_factor,grad_norm_factor,group,why,source\n"


def write(path, content="x", *, name="a", **options):
    with new_directory(path, schema=SCHEMA, **options) as draft:
        (draft.path / name).write_text(content)


def tree(top):
    return {str(p.relative_to(top)): p.read_text() for p in top.rglob("*") if p.is_file()}


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def refusal(error, path, **options):
    with pytest.raises(error) as found:
        write(path, **options)
    return found.value.message


def test_whole_or_not_at_all(tmp_path):
    with pytest.raises(RuntimeError), new_directory(tmp_path / "out", schema=SCHEMA) as draft:
        (draft.path / "a").write_text("x")
        raise RuntimeError
    assert names(tmp_path) == []
    with new_directory(tmp_path / "out", schema=SCHEMA) as draft:
        (draft.path / "a").write_text("x")
        assert not (tmp_path / "out").exists()
        assert draft.files() == ["a", "ga-audit.json"]
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["a", "ga-audit.json"]
    assert json.loads((tmp_path / "out" / "ga-audit.json").read_text())["schema"] == SCHEMA


def test_an_output_of_ours_gives_way_to_force_alone_and_stays_when_the_new_one_fails(tmp_path):
    out = tmp_path / "out"
    write(out, name="old")
    assert refusal(RefusedToOverwrite, out) == "exists already"
    with pytest.raises(RuntimeError), new_directory(out, schema=SCHEMA, force=True):
        raise RuntimeError
    assert names(out) == ["ga-audit.json", "old"]
    write(out, name="new", force=True)
    assert names(out) == ["ga-audit.json", "new"]
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda out: (out / "notes.txt").write_text("mine"), "notes.txt"),
        (lambda out: (out / "a").write_text("mine"), "a (changed)"),
        (lambda out: (out / "sub").mkdir(), "sub/"),
        (lambda out: (out / "link").symlink_to("/etc"), "link (a link)"),
        (lambda out: os.mkfifo(out / "pipe"), "pipe (a special file)"),
        (lambda out: [(out / n).write_text("") for n in "bcdef"], "b, c, d and 2 more"),
        (lambda out: (out / "ga-audit.json").unlink(), "a"),
        (lambda out: (out / "ga-audit.json").write_text("[]"), "a, ga-audit.json"),
        (
            lambda out: (out / "ga-audit.json").write_text('{"schema": "ga-audit-fix/1", "runs": []}'),
            "a, ga-audit.json",
        ),
        (lambda out: (out / "x.wandb.synced").write_text(""), "x.wandb.synced"),
    ],
)
def test_a_folder_that_holds_anything_else_is_refused_and_kept(tmp_path, change, said):
    out = tmp_path / "out"
    write(out)
    change(out)
    before = names(out)
    for force in (True, False):
        message = refusal(RefusedToOverwrite, out, force=force)
        assert message == f"exists already, and holds what ga-audit did not write: {said}"
    assert names(out) == before
    assert names(tmp_path) == ["out"]


def test_what_the_user_removed_stands_in_no_way(tmp_path):
    write(tmp_path / "out")
    (tmp_path / "out" / "a").unlink()
    write(tmp_path / "out", name="b", force=True)
    assert names(tmp_path / "out") == ["b", "ga-audit.json"]


def test_an_input_a_parent_of_one_and_an_old_place_within_one_are_refused(tmp_path):
    runs = tmp_path / "runs"
    write(runs / "ga8")  # even what ga-audit wrote
    (tmp_path / "link").symlink_to(runs)
    before = tree(tmp_path)
    cases = [
        (runs, runs, f"the output would replace the input {runs}"),
        (tmp_path / "link", runs, f"the output would replace the input {runs}"),
        (runs, tmp_path / "link", f"the output would replace the input {tmp_path / 'link'}"),
        (runs / "ga8" / "..", runs, f"the output would replace the input {runs}"),
        (runs, runs / "ga8" / "a", f"the output would replace a folder of the input {runs / 'ga8' / 'a'}"),
        (runs / "ga8", runs, f"exists already, within the input {runs}, where only a new output is written"),
    ]
    for out, given, said in cases:
        assert refusal(WrongUsage, out, force=True, inputs=[str(given)]) == said
    assert tree(tmp_path) == before
    write(runs / "new", inputs=[str(runs), "team/project", "-", "x" * 5000, "a\0b"])
    assert names(runs) == ["ga8", "new"]


def test_the_working_directory_home_and_what_holds_them_are_refused(tmp_path, monkeypatch):
    write(tmp_path / "out")
    (tmp_path / "home" / "me").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home" / "me"))
    monkeypatch.chdir(tmp_path / "out")
    for place, said in (
        (Path(), "is the working directory"),
        (tmp_path / "out", "is the working directory"),
        (Path(".."), "holds the working directory"),
        (Path("/"), "holds the working directory"),
        (tmp_path / "home" / "me", "is your home directory"),
        (tmp_path / "home", "holds your home directory"),
    ):
        assert refusal(WrongUsage, place, force=True) == said
    assert names(tmp_path / "out") == ["a", "ga-audit.json"]


def test_a_link_and_a_file_are_refused(tmp_path):
    write(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    (tmp_path / "file").write_text("mine")
    assert refusal(RefusedToOverwrite, tmp_path / "link", force=True) == f"is a symbolic link to {tmp_path / 'real'}"
    assert refusal(RefusedToOverwrite, tmp_path / "nowhere", force=True) == f"is a symbolic link to {tmp_path / 'gone'}"
    assert refusal(RefusedToOverwrite, tmp_path / "file", force=True) == "exists already, and is not a directory"
    assert (tmp_path / "file").read_text() == "mine"


def test_a_place_that_is_no_directory(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(AuditError, match="cannot write"):
        write(tmp_path / "file" / "out")


def test_another_process_that_wrote_meanwhile_wins(tmp_path):
    out = tmp_path / "out"
    said = "another process wrote it at the same time"
    with pytest.raises(RefusedToOverwrite, match=said), new_directory(out, schema=SCHEMA):
        write(out, "theirs")
    assert tree(out)["a"] == "theirs"
    with pytest.raises(RefusedToOverwrite, match=said), new_directory(out, schema=SCHEMA, force=True):
        write(out, "third", force=True)
    assert tree(out)["a"] == "third"
    assert names(tmp_path) == ["out"]


def test_a_file_that_comes_while_the_new_output_is_written_is_kept(tmp_path):
    write(tmp_path / "out")
    with (
        pytest.raises(RefusedToOverwrite, match=r"has changed while the new output was written: notes\.txt"),
        new_directory(tmp_path / "out", schema=SCHEMA, force=True),
    ):
        (tmp_path / "out" / "notes.txt").write_text("mine")
    assert names(tmp_path / "out") == ["a", "ga-audit.json", "notes.txt"]
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_swap_that_fails_puts_the_old_output_back(tmp_path, monkeypatch, error):
    out = tmp_path / "out"
    write(out, "old")
    rename = Path.rename

    def fails_for_the_new(self, target):
        if self.suffix == ".part":
            raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails_for_the_new)
    with pytest.raises(AuditError if isinstance(error, OSError) else KeyboardInterrupt):
        write(out, "new", force=True)
    assert tree(out)["a"] == "old"
    assert names(tmp_path) == ["out"]


def test_a_full_disk_is_said(tmp_path):
    with (
        pytest.raises(AuditError, match="cannot write there: No space left on device"),
        new_directory(tmp_path / "out", schema=SCHEMA),
    ):
        raise OSError(28, "No space left on device")
    assert names(tmp_path) == []


# --- single files ----------------------------------------------------------------------------------------------------


def write_file(path, content=HEADER, **options):
    with new_file(path, **options) as part:
        part.write_text(content)


def test_a_file_of_ours_gives_way_to_force_alone(tmp_path):
    out = tmp_path / "new" / "s.csv"
    write_file(out)
    with pytest.raises(RefusedToOverwrite, match="exists already Give another -o, or --force to replace it"):
        write_file(out)
    write_file(out, HEADER + "healthy\n", force=True)
    assert out.read_text() == HEADER + "healthy\n"
    assert names(out.parent) == ["s.csv"]
    with pytest.raises(RuntimeError), new_file(out, force=True):
        raise RuntimeError
    assert names(out.parent) == ["s.csv"]


@pytest.mark.parametrize("content", ["", "mine", "step,loss\n1,2\n", '{"log_history": []}', "verdict,run\n", "\x89PNG"])
def test_a_file_that_is_not_ours_is_refused_and_kept(tmp_path, content):
    out = tmp_path / "log"
    out.write_text(content)
    for force in (True, False):
        with pytest.raises(RefusedToOverwrite) as found:
            write_file(out, force=force)
        assert found.value.message == "exists already, and ga-audit did not write it"
    assert out.read_text() == content
    assert names(tmp_path) == ["log"]


def test_links_folders_and_inputs_are_refused(tmp_path):
    (tmp_path / "s.csv").write_text(HEADER)
    (tmp_path / "link").symlink_to(tmp_path / "s.csv")
    os.link(tmp_path / "s.csv", tmp_path / "hard")
    for path, error, said in (
        (tmp_path / "link", RefusedToOverwrite, f"is a symbolic link to {tmp_path / 's.csv'}"),
        (tmp_path, RefusedToOverwrite, "exists already, and is not a file"),
        (Path(os.devnull), RefusedToOverwrite, "exists already, and is not a file"),
    ):
        with pytest.raises(error) as found:
            check_file(path, force=True)
        assert found.value.message == said
    for path in (tmp_path / "s.csv", tmp_path / "hard"):
        with pytest.raises(WrongUsage, match="would replace the input"):
            check_file(path, force=True, inputs=[str(tmp_path / "s.csv")])


@pytest.mark.parametrize("links", [True, False])
def test_two_files_at_once(tmp_path, monkeypatch, links):
    if not links:  # as on exFAT
        monkeypatch.setattr(atomic.os, "link", lambda *_: (_ for _ in ()).throw(OSError(1, "not permitted")))
    out = tmp_path / "s.csv"
    said = "another process wrote it at the same time"
    with pytest.raises(RefusedToOverwrite, match=said), new_file(out):
        write_file(out, HEADER + "theirs\n")
    with pytest.raises(RefusedToOverwrite, match=said), new_file(out, force=True):
        write_file(out, HEADER + "third\n", force=True)
    assert out.read_text() == HEADER + "third\n"
    assert names(tmp_path) == ["s.csv"]


def test_what_may_be_written_is_said_beforehand(tmp_path):
    assert check_directory(tmp_path / "out", force=False) is None
    assert check_file(tmp_path / "out", force=False) is None
