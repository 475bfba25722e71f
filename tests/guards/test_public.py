"""The public names of the guards, and what importing the package loads."""

from __future__ import annotations

import doctest
import importlib.util
import subprocess
import sys

import pytest

import ga_audit


def test_importing_the_package_loads_nothing():
    code = (
        "import sys, ga_audit; dir(ga_audit); "
        "sys.exit(str([m for m in ('torch', 'transformers', 'numpy', 'ga_audit.guards') if m in sys.modules] or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == ""


def test_the_guards_are_listed():
    assert {"GaAuditCallback", "LightningGuard", "guard", "measure", "Measurement", "GradientFault"} <= set(
        dir(ga_audit)
    )


def test_a_package_that_is_missing_is_named():
    if importlib.util.find_spec("lightning") or importlib.util.find_spec("pytorch_lightning"):
        pytest.skip("lightning is installed")
    with pytest.raises(ImportError, match=r"ga_audit.LightningGuard needs lightning: .* pip install lightning"):
        ga_audit.LightningGuard  # noqa: B018


@pytest.mark.torch
def test_the_example_of_measure():
    pytest.importorskip("torch")
    from ga_audit.guards import measuring

    assert doctest.testmod(measuring).failed == 0
