"""Isolated environments: what is installed, what is shared, what is kept."""

import subprocess

import pytest

from ga_audit.errors import EngineFailed
from ga_audit.releases import bisect, environments


def installer(monkeypatch, listing="3.11 2.13.0\n"):
    """What would be run, without running it; `listing` is what the interpreter says of its torch."""
    ran = []

    def run(argv, *_, **__):
        ran.append(argv)
        return subprocess.CompletedProcess(argv, 0, stdout=listing)

    monkeypatch.setattr(environments, "_run", run)
    return ran


@pytest.mark.parametrize("brought", [True, False])
def test_the_triton_that_torch_brought_is_not_replaced(tmp_path, monkeypatch, brought):
    ran = installer(monkeypatch)

    def overlay(place, *_):
        (place / "overlay" / ("triton" if brought else "torch")).mkdir(parents=True)
        return place / "overlay"

    monkeypatch.setattr(environments, "_overlay_torch", overlay)
    environments.prepare(("liger-kernel==0.8.5", "transformers==5.23.0", "triton"), cache=tmp_path)
    installed = [word for argv in ran if "install" in argv for word in argv]
    assert "transformers==5.23.0" in installed
    assert ("triton" in installed) == (not brought)


def test_another_torch_is_another_environment_and_the_same_one_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(environments, "_overlay_torch", lambda place, *_: place.mkdir() or place)
    made = set()
    for listing in ("3.11 2.13.0\n/a/torch\n", "3.11 2.13.0\n/b/torch\n", "3.11 2.14.0\n/a/torch\n"):
        ran = installer(monkeypatch, listing)
        made.add(environments.prepare(("transformers==4.46.3",), cache=tmp_path))
        assert any("install" in argv for argv in ran)
        ran.clear()
        environments.prepare(("transformers==4.46.3",), cache=tmp_path)
        assert not any("install" in argv for argv in ran)
    assert len(made) == 3


def test_an_interpreter_without_torch_is_one_message(tmp_path):
    import venv

    venv.create(tmp_path / "bare", with_pip=False)
    (python,) = tmp_path.glob("bare/*/python")
    with pytest.raises(EngineFailed, match="has no torch") as caught:
        bisect.check(bisect.Request("transformers", tmp_path / "out", str(python)))
    assert caught.value.remedy.startswith(f"Install: {python} -m pip install torch (without a GPU, first: ")


def test_long_requirements_make_a_name_that_a_file_system_holds():
    many = tuple(f"package-{i}=={i}.0.0" for i in range(40))
    assert len(environments._name(many)) == environments.LONGEST_NAME
    assert environments._name(many) != environments._name((*many, "more"))


@pytest.mark.parametrize("said", [
    "ERROR: Could not find a version (from versions: 1.0, 2.0)\nERROR: No matching distribution found for trl==99.0\n",
    "  x No solution found\n  Because there is no version of trl==99.0 and you require it, we can conclude that ...\n",
])  # fmt: skip
def test_a_release_that_is_not_there_is_said_in_a_few_words(said):
    assert environments._reason(said) == "there is no release trl==99.0 for this Python"


def test_other_reasons_are_the_installers_last_words():
    assert environments._reason("a\n\nb\nno space left\n") == "b no space left"
