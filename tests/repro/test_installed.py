"""Whether an engine can run in an interpreter, and with what."""

import sys
from importlib import metadata

import pytest

from ga_audit.errors import EngineFailed, WrongUsage
from ga_audit.repro import engine, installed


def test_a_missing_package_names_the_install_command(monkeypatch):
    kind = engine.Engine("kind", engine.SCRIPTS / "kind.py", needs=("json", "no_such_package_anywhere"))
    monkeypatch.setattr(engine, "engines", lambda: {"kind": kind})
    with pytest.raises(EngineFailed, match="needs no_such_package_anywhere") as caught:
        installed.check("kind", sys.executable)
    assert caught.value.remedy == "Install: pip install no-such-package-anywhere"
    with pytest.raises(WrongUsage, match="no engine 'trll'"):
        installed.check("trll", sys.executable)


def test_variants_that_lack_a_package_are_told_with_it(monkeypatch):
    monkeypatch.setattr(installed, "missing", lambda modules, python: [m for m in modules if m == "liger_kernel"])
    assert installed.lacking("transformers", sys.executable) == {"liger": "liger_kernel"}
    assert installed.lacking("torch", sys.executable) == {}
    assert installed.lacking("script", sys.executable) == {}


def test_releases_and_the_script_tell_one_stack_from_another():
    for name in ("torch", "transformers"):
        found = installed.releases(name, sys.executable)
        assert found.pop("engine script") == engine.engines()[name].digest
        # an engine that bears the name of a package does not hide its release
        assert found == {package: metadata.version(package) for package in found}
        assert name in found
    assert installed.releases("script", sys.executable) == {}
    with pytest.raises(EngineFailed, match="cannot be run as a Python"):
        installed.releases("torch", "/no/such/python")


def test_the_remedy_names_the_extra_and_the_cpu_index():
    cpu = "--index-url https://download.pytorch.org/whl/cpu"
    assert installed.install(["torch", "transformers"]) == (
        f"pip install 'ga-audit[repro]' (without a GPU, first: pip install torch {cpu})"
    )
    assert installed.install(["accelerate", "liger_kernel"]) == "pip install 'ga-audit[repro]' liger-kernel"
    assert installed.install(["trl"]) == "pip install trl"
    assert installed.install(["torch", "trl"], "/env/bin/python") == (
        f"/env/bin/python -m pip install torch trl (without a GPU, first: /env/bin/python -m pip install torch {cpu})"
    )
