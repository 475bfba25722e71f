import pytest
from hypothesis import given
from hypothesis import strategies as st

from ga_audit.errors import AuditError, RefusedToOverwrite
from ga_audit.safe_output import inside, new_directory


def test_whole_or_not_at_all(tmp_path):
    with pytest.raises(RuntimeError), new_directory(tmp_path / "out") as part:
        (part / "a").write_text("x")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with new_directory(tmp_path / "out") as part:
        (part / "a").write_text("x")
        assert not (tmp_path / "out").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_an_existing_output_is_refused_without_force_and_kept_when_the_new_one_fails(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("x")
    with pytest.raises(RefusedToOverwrite), new_directory(tmp_path / "out"):
        pass
    with pytest.raises(RuntimeError), new_directory(tmp_path / "out", force=True):
        raise RuntimeError
    assert (tmp_path / "out" / "old").exists()
    with new_directory(tmp_path / "out", force=True) as part:
        (part / "new").write_text("y")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_place_that_is_no_directory(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(AuditError, match="cannot write"), new_directory(tmp_path / "file" / "out"):
        pass


@given(st.text(max_size=300))
def test_names_stay_inside(name):
    from pathlib import Path

    top = Path("/somewhere/out")
    path = inside(top, name)
    assert path != top
    assert path.resolve().is_relative_to(top)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "..\\..\\x", "a/../../b", ".ssh/id"])
def test_names_that_try_to_leave(tmp_path, name):
    assert inside(tmp_path, name).resolve().is_relative_to(tmp_path)
