"""The whole of what every command prints on the golden cases; `--update-golden` writes what is printed now."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest
import snapshots

CASES = snapshots.cases()
WITH_LOGS = [case for case in CASES if "commands" not in snapshots.settings(case)]


def name(case: Path) -> str:
    return str(case.relative_to(snapshots.GOLDEN))


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch, tmp_path):
    """No colour, no key, no cache and no settings of whoever runs the tests."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("WANDB_SILENT", "true")  # hints that depend on what other tests have imported
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home" / ".cache"))
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_DIR", "WANDB_ENTITY", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)


def hold(expected: Path, found: str, update: bool) -> None:
    """Compare with the golden file, or write it."""
    if update:
        expected.write_text(found, "utf-8")
        return
    assert expected.exists(), f"{expected} is missing: pytest --update-golden writes it"
    wanted = expected.read_text("utf-8")
    changed = difflib.unified_diff(wanted.splitlines(), found.splitlines(), "expected", "found", lineterm="")
    assert found == wanted, "\n".join(changed)


@pytest.mark.parametrize("case", CASES, ids=name)
def test_transcript(case: Path, tmp_path: Path, update_golden: bool):
    snapshots.lay_out(case, tmp_path / "work")
    hold(case / "expected.txt", snapshots.transcript(case, tmp_path / "work"), update_golden)


@pytest.mark.parametrize("case", WITH_LOGS, ids=name)
def test_json(case: Path, tmp_path: Path, update_golden: bool, monkeypatch):
    snapshots.lay_out(case, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    out, _, _ = snapshots.run("inspect --format json logs")
    hold(case / "expected.json", snapshots.rounded(out), update_golden)
