"""Liger's kernels on a machine without a GPU: what is patched, what is said, what is missing."""

import os
import sys
from types import ModuleType, SimpleNamespace

import pytest

from ga_audit.releases import bisect
from ga_audit.releases import tables as release_tables
from ga_audit.repro import measurement, tables
from ga_audit.repro import verdict as verdicts
from ga_audit.repro.engine import SCRIPTS


@pytest.fixture
def liger(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setenv("TRITON_INTERPRET", "0")  # so that what is set here is undone
    monkeypatch.delenv("TRITON_INTERPRET")
    import _liger

    return _liger


@pytest.fixture
def installed(monkeypatch):
    """A package that records what it is asked to patch."""
    asked = []
    package, inner = ModuleType("liger_kernel"), ModuleType("liger_kernel.transformers")
    inner._apply_liger_kernel_to_instance = lambda model, **settings: asked.append((model, settings))
    package.transformers = inner
    for name, module in (
        ("liger_kernel", package),
        ("liger_kernel.transformers", inner),
        ("triton", ModuleType("triton")),
    ):
        monkeypatch.setitem(sys.modules, name, module)
    return SimpleNamespace(asked=asked, module=inner)


def test_on_a_cpu_its_loss_alone_is_interpreted(liger, installed, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert liger.make_ready("cpu") == liger.INTERPRETED
    installed.module._apply_liger_kernel_to_instance(model="m", fused_linear_cross_entropy=True, rope=True)
    ((model, settings),) = installed.asked
    assert (model, settings["fused_linear_cross_entropy"]) == ("m", True)
    assert not any(settings[name] for name in ("rope", "rms_norm", "swiglu", "geglu", "layer_norm"))


def test_on_a_gpu_everything_runs_as_it_is(liger, installed):
    patch = installed.module._apply_liger_kernel_to_instance
    assert liger.make_ready("cuda") is None
    assert installed.module._apply_liger_kernel_to_instance is patch
    assert "TRITON_INTERPRET" not in os.environ


def test_a_triton_that_is_imported_already_is_imported_anew(liger, installed, monkeypatch):
    started = []

    def execv(*command):
        started.append((command, os.environ["TRITON_INTERPRET"]))
        raise SystemExit  # as a process that is replaced, it does not come back

    monkeypatch.setattr(liger.os, "execv", execv)
    monkeypatch.setattr(sys, "argv", ["hf_trainer.py", "--ga", "2"])
    with pytest.raises(SystemExit):
        liger.make_ready("cpu")
    assert started == [((sys.executable, [sys.executable, "hf_trainer.py", "--ga", "2"]), "1")]


@pytest.mark.parametrize(("device", "gone", "message"), [
    ("mps", None, "not on mps: --device cpu"), ("cuda", "triton", "needs triton: pip install triton"),
    ("cuda", "liger_kernel.transformers", "needs liger-kernel: pip install liger-kernel"),
])  # fmt: skip
def test_what_is_missing_is_said_with_its_remedy(liger, installed, monkeypatch, device, gone, message):
    if gone:
        monkeypatch.setitem(sys.modules, gone, None)
    with pytest.raises(SystemExit, match=message):
        liger.make_ready(device)


def test_a_model_that_liger_has_not_patched_is_no_measurement(liger):
    forward = SimpleNamespace(__module__="liger_kernel.transformers.model.llama")
    liger.check(SimpleNamespace(forward=forward))
    forward.__module__ = "transformers.models.llama.modeling_llama"
    with pytest.raises(SystemExit, match="has not patched"):
        liger.check(SimpleNamespace(forward=forward))


def test_a_number_of_the_interpreter_says_so():
    cell = measurement.Measured(1, 1, 1.0, 1.0, 1.0, 1.0, None, None, note="by the interpreter")
    found = verdicts.judge([cell])
    assert found.notes == ("by the interpreter",)
    assert "note: by the interpreter" in tables.table(found)
    assert "liger: note: by the interpreter" in tables.summary({"liger": found})
    assert any("by the interpreter" in line for line in tables.sentences(found))
    row = bisect.Row("liger-kernel", "0.8.5", "liger", 0.0, 0.0, 0.0, "healthy", note="by the interpreter")
    assert "liger: by the interpreter" in release_tables.table([row])
    assert release_tables.grid([row]).endswith("liger: by the interpreter")
