"""What is known of a release, and what is not."""

from importlib import metadata

import pytest

from ga_audit.bugs import coverage
from ga_audit.output.wording import bugs as wording


@pytest.mark.parametrize(("package", "release", "said"), [
    ("transformers", "4.45.2", "no known bug (measured 2026-11 on transformers 4.45.2)"),
    ("transformers", "4.50.3", "no known bug, but this release was not measured (the nearest that were: 4.49.0, 4.51.3)"),
    ("transformers", "4.30.0", "no known bug, but this release was not measured (the nearest that were: 4.45.2)"),
    ("transformers", "9.9.9", "nothing is known of it: it is newer than 5.24.0, the newest that was measured"),
    ("Liger_Kernel", "0.8.5", "no known bug (measured 2026-11 on liger-kernel 0.8.5)"),
    ("torchtune", "0.6.1", "no known bug, but this release was not measured"),
    ("transfomers", "4.48.0", "nothing is known of it: no bug of a package transfomers is known, and none was looked for; did "
     "you mean transformers?"),
])  # fmt: skip
def test_a_release(package, release, said):
    assert wording.coverage(coverage.look_up(package, release)) == said


def test_of_a_package_like_none_the_known_ones_are_named():
    found = coverage.look_up("foo", "1")
    assert found.measured is None
    assert "accelerate, axolotl, deepspeed, liger-kernel" in wording.why_unknown(found)


def test_what_is_installed_is_what_is_known_of(monkeypatch):
    def version(name):
        if name == "trl":
            return "0.13.0"
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    assert list(coverage.installed()) == [("trl", "0.13.0")]
