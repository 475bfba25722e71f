"""The code blocks of docs/guard.md run, and say what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = pytest.mark.torch
PAGE = (Path(__file__).parents[2] / "docs" / "guard.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_block_runs(number, tmp_path, monkeypatch, caplog):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(BLOCKS[number], f"docs/guard.md block {number}", "exec"), names)
    if "callback" in names:
        assert names["callback"].reading.fault == "summed"
        shown = re.search(r"^    ga-audit: step 1.*?(?=^\S)", PAGE, re.M | re.S)[0]
        said = " ".join(names["callback"].message.split())
        assert " ".join(shown.split()) == re.sub(r"With max_grad_norm.*? is not\. ", "", said)


def test_every_fault_and_option_is_on_the_page():
    import inspect

    import ga_audit
    from ga_audit.guards._result import Fault

    assert all(f"`{fault}`" in PAGE for fault in Fault)
    assert all(f"`{name}=" in PAGE for name in inspect.signature(ga_audit.GaAuditCallback).parameters)
