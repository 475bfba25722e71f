import sys

from ga_audit import registry


def test_leaves_are_found_by_being_there_and_helpers_are_not():
    found = registry.names("ga_audit.logs.formats")
    assert list(found) == sorted(found)
    assert {"trainer_state", "tensorboard", "console"} <= set(found)
    assert not [name for name in found if name.startswith("_")]


def test_load_all_imports_each():
    assert set(registry.load_all("ga_audit.evidence")) == set(registry.names("ga_audit.evidence"))


def test_leaves_leave_out_what_a_folder_shares():
    found = registry.Leaves("ga_audit.cli", shared=frozenset({"options"}))
    assert set(registry.names("ga_audit.cli")) - set(found.names()) == {"options"}
    assert found.load("plot").command.name == "plot"


def test_the_package_of_the_leaves_is_not_imported(tmp_path, monkeypatch):
    package = tmp_path / "leaves"
    package.mkdir()
    (package / "__init__.py").write_text("raise AssertionError\n")
    for name in ("b", "a", "_helper"):
        (package / f"{name}.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert registry.names("leaves") == ("a", "b")
    assert "leaves" not in sys.modules
