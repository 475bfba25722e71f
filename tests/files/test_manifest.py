import hashlib
import json

from ga_audit import __version__
from ga_audit.files.manifest import add_to_manifest, entries, foreign, write_manifest


def test_the_manifest_lists_files_and_folders(tmp_path):
    (tmp_path / "run" / "empty").mkdir(parents=True)
    (tmp_path / "run" / "a.json").write_bytes(b"{}")
    (tmp_path / "latest").symlink_to("run")
    write_manifest(tmp_path, "ga-audit-test/1", {"runs": ["a"]})
    assert json.loads((tmp_path / "ga-audit.json").read_text()) == {
        "schema": "ga-audit-test/1",
        "version": __version__,
        "runs": ["a"],
        "files": {"run/a.json": hashlib.sha256(b"{}").hexdigest()},
        "folders": ["run", "run/empty"],
        "links": {"latest": "run"},
    }
    assert foreign(tmp_path) == []
    write_manifest(tmp_path, "ga-audit-test/1", {})  # again: without itself
    assert foreign(tmp_path) == []
    (tmp_path / "latest").unlink()
    (tmp_path / "latest").symlink_to("/elsewhere")
    assert foreign(tmp_path) == ["latest (a link)"]


def test_names_of_any_bytes(tmp_path):
    (tmp_path / "\udcff.log").write_text("x")
    write_manifest(tmp_path, "ga-audit-test/1", {})
    assert foreign(tmp_path) == []


def test_entries(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c").write_text("")
    (tmp_path / "l").symlink_to(tmp_path)
    assert entries(tmp_path) == ({"b/c": "file", "l": "a link"}, ["b"])


def test_a_manifest_of_another_kind_is_none(tmp_path):
    for content in (
        "",
        "[" * 100_000,
        '{"schema": "other", "files": {}, "folders": []}',
        '{"schema": "ga-audit-x", "files": 1}',
    ):
        (tmp_path / "ga-audit.json").write_text(content)
        assert foreign(tmp_path) == ["ga-audit.json"]


def test_what_came_since_is_added_below_the_given_folders_alone(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "a").write_text("x")
    write_manifest(tmp_path, "ga-audit-test/1", {"runs": []})
    (tmp_path / "run" / "files").mkdir()
    for name in ("run/a", "run/files/b", "mine"):
        (tmp_path / name).write_text("new")
    add_to_manifest(tmp_path, [tmp_path / "run"])
    assert foreign(tmp_path) == ["mine", "run/a (changed)"]
