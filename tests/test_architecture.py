"""The tree tells the architecture: imports run downwards, help is instant, every leaf has a test."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "ga_audit"
TESTS = Path(__file__).parent
HEAVY = ("numpy", "pandas", "scipy", "matplotlib", "wandb", "tensorboard", "torch", "yaml", "jinja2", "packaging")
LEAF_FOLDERS = ("logs/formats", "evidence", "output", "plots", "cli")


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def test_import_contracts_hold():
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports"))], cwd=PACKAGE.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_help_imports_click_and_nothing_heavy():
    code = (
        "import sys; sys.argv=['ga-audit','--help']\n"
        "from ga_audit.cli import cli\n"
        "try: cli()\n"
        "except SystemExit: pass\n"
        f"bad=[m for m in {HEAVY!r} if m in sys.modules]\n"
        "sys.exit(f'imported {bad}' if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "inspect" in done.stdout


NOT_FOR_A_SMALL_LOG = (
    "sqlite3", "hashlib", "socket", "subprocess", "tempfile", "shutil", "difflib", "zipfile", "pickletools", "traceback",
    "importlib.resources", "ga_audit.logs.formats.wandb_cloud", "ga_audit.logs.formats._wandb.fetch",
    "ga_audit.logs.formats._wandb.login", "ga_audit.logs.formats._wandb.write",
)  # fmt: skip


def test_inspect_of_a_small_log_imports_only_what_it_needs(tmp_path):
    log = tmp_path / "trainer_state.json"
    rows = [{"loss": 2.0 + 1 / step, "grad_norm": 1.0, "step": step} for step in range(1, 20)]
    log.write_text(json.dumps({"log_history": rows}))
    code = (
        "import sys\n"
        "from ga_audit.cli import main\n"
        f"before=set(sys.modules)\nsys.argv=['ga-audit','inspect',{str(log)!r}]\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"print([m for m in {NOT_FOR_A_SMALL_LOG!r} if m in set(sys.modules) - before], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, env=path_of_this_process()
    )
    assert (done.stderr, done.stdout.partition(" ")[0]) == ("[]\n", "INCONCLUSIVE")


def test_the_options_of_a_command_are_listed_without_numpy():
    code = (
        "import sys; sys.argv=['ga-audit','inspect','--help']\n"
        "from ga_audit.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, env=path_of_this_process()
    )
    assert done.stderr == "[]\n"


def path_of_this_process() -> dict[str, str]:
    """An environment for `python -S`: nothing that a `.pth` file of the environment imports is counted."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), *filter(None, sys.path)])}


def test_public_names_resolve():
    import ga_audit

    for name in ga_audit.__all__:
        assert getattr(ga_audit, name) is not None
    assert dir(ga_audit) == sorted(ga_audit.__all__)
    assert {"Options", "audit", "read_runs"} <= set(dir(ga_audit))


@pytest.mark.parametrize("module", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_module_has_a_docstring_and_a_bearable_size(module: Path):
    source = module.read_text("utf-8")
    docstring = ast.get_docstring(ast.parse(source))
    assert docstring, "no docstring"
    first = docstring.partition("\n")[0]
    assert first.endswith("."), f"the first line must stand alone: {first!r}"
    lines = source.count("\n")
    assert lines <= 400 or "longer than" in docstring, f"{lines} lines without a reason in the docstring"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            length = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
            assert length <= 50 or "longer than" in (ast.get_docstring(node) or ""), f"{node.name}: {length} lines"


@pytest.mark.parametrize("folder", LEAF_FOLDERS)
def test_every_leaf_has_a_test(folder: str):
    leaves = [p.stem for p in (PACKAGE / folder).glob("*.py") if not p.stem.startswith("_")]
    missing = [leaf for leaf in leaves if leaf != "options" and not (TESTS / folder / f"test_{leaf}.py").exists()]
    assert not missing


def test_every_frame_module_has_a_test():
    frame = [p.stem for p in PACKAGE.glob("*.py") if not p.stem.startswith("_")]
    missing = [name for name in frame if not (TESTS / f"test_{name}.py").exists()]
    assert not missing
