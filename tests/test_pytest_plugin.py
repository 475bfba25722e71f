"""The pytest plugin, run on a small repository of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

TRAINER = '''
"""A minimal trainer."""
import torch

def train(gradient_accumulation_steps, *, fixed):
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    data = torch.randn(3, 8, 4)
    losses, norms = [], []
    for batch in data:
        total = 0.0
        for part in batch.chunk(gradient_accumulation_steps):
            loss = model(part).square().mean()
            if fixed:
                loss = loss / gradient_accumulation_steps
            loss.backward()
            total += float(loss)
        losses.append(total)
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), 1e9)))
        optimizer.step()
        optimizer.zero_grad()
    return {"loss": losses, "grad_norm": norms}
'''

TEST = """
from minimal import train

def test_right(ga_invariant):
    ga_invariant(lambda ga: train(ga, fixed=True))

def test_planted(ga_invariant):
    ga_invariant(lambda ga: train(ga, fixed=False))
"""


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "minimal.py").write_text(TRAINER)
    (folder / "test_ga.py").write_text(TEST)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "ga_audit.pytest_plugin", "-p", "no:cacheprovider", "-q", *options],
        cwd=folder, capture_output=True, text=True,
        # an installed ga-audit would load the plugin a second time
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )  # fmt: skip


def test_a_planted_bug_is_found_and_the_right_trainer_passes(tmp_path):
    done = run(tmp_path)
    assert "1 failed, 1 passed" in done.stdout
    assert "the training depends on gradient accumulation:" in done.stdout
    lines = [line.removeprefix("E").split() for line in done.stdout.splitlines()]
    assert ["quantity", "GA", "1", "GA", "2", "GA", "4", "exponent", "reading"] in lines
    norm = next(line for line in lines if line[:2] == ["grad_norm", "x1"])
    assert norm[2].startswith("x2")
    assert norm[-3:] == ["summed", "over", "micro-batches"]


def test_options_and_the_ini_file(tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\nga_values = 1,8\n")
    assert "GA 1  GA 8" in run(tmp_path).stdout
    assert "GA 2  GA 4" in run(tmp_path, "--ga-values", "2,4").stdout
    assert "2 passed" in run(tmp_path, "--ga-tolerance", "100").stdout
    assert "'two' is no list of numbers" in run(tmp_path, "--ga-values", "two").stdout


def test_the_plugin_is_declared_and_loads_nothing():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"ga-audit": "ga_audit.pytest_plugin"}
    heavy = "('numpy', 'pandas', 'torch', 'transformers', 'ga_audit.testing', 'ga_audit.pipeline')"
    code = f"import sys, ga_audit.pytest_plugin; sys.exit(str([m for m in {heavy} if m in sys.modules] or ''))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.strip() in ("", "")
