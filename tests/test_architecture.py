"""The tree tells the architecture: imports run downwards, help is instant, every leaf has a test."""

import ast
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


def test_public_names_resolve():
    import ga_audit

    for name in ga_audit.__all__:
        try:
            assert getattr(ga_audit, name) is not None
        except ImportError as error:  # a guard of a library that is not installed says which
            assert "needs" in str(error)
            assert name in ga_audit._WHERE_WITH
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
