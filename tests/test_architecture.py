"""Imports run downwards, help is instant, every leaf has a type and a test."""

import ast
import importlib
import json
import os
import re
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "ga_audit"
TESTS = Path(__file__).parent
HEAVY = ("numpy", "pandas", "scipy", "matplotlib", "wandb", "tensorboard", "torch", "yaml", "jinja2", "packaging")
# folder -> the type of a leaf, as "module.Name"; None where a leaf is a script
LEAF_TYPES = {
    "cli": "ga_audit.cli.CommandModule",
    "evidence": "ga_audit.evidence.EvidenceKind",
    "logs/formats": "ga_audit.logs.formats.LogFormat",
    "output": "ga_audit.output.Renderer",
    "plots": "ga_audit.plots.Plot",
    "repro/engines": None,
}
# modules of these folders that all leaves may use; everything else that is shared begins with `_`
SHARED = {"ga_audit.cli.options"}
# to be resolved; an entry that no longer holds fails too
KNOWN_CYCLES: list[set[str]] = []
KNOWN_LEAF_IMPORTS = {
    ("ga_audit.cli.bisect", "ga_audit.cli.repro"),
    ("ga_audit.output.issue", "ga_audit.output.markdown"),
}
# what has no file `tests/<folder>/test_<name>.py`, and where it is tested instead
TESTED_ELSEWHERE = {
    "check/sources": "tests/cli/test_check.py",
    "logs/run_names": "tests/logs/test_merging.py",
    "logs/run_places": "tests/logs/test_merging.py",
    "logs/same_training": "tests/logs/test_merging.py",
    "releases/tables": "tests/releases/test_bisect.py",
    "guards/measuring": "tests/guards/test_public.py",
    "logs/missing_path": "tests/logs/formats/test_missing_path.py",
    "repro/engines/axolotl_train": "tests/repro/engines/test_stacks.py",
    "repro/engines/llamafactory_train": "tests/repro/engines/test_stacks.py",
    "repro/tables": "tests/cli/test_repro.py",
    "stats/constants": "tests/stats/test_scaling.py",
}


@cache
def modules() -> tuple[Path, ...]:
    return tuple(sorted(PACKAGE.rglob("*.py")))


def leaves(folder: str) -> list[str]:
    """Names of the leaves of a folder, as modules."""
    package = f"ga_audit.{folder.replace('/', '.')}"
    found = (f"{package}.{p.stem}" for p in sorted((PACKAGE / folder).glob("[!_]*.py")))
    return [name for name in found if name not in SHARED]


# --- imports ------------------------------------------------------------------


def test_import_contracts_hold():
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports"))], cwd=PACKAGE.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@cache
def imports() -> dict[str, frozenset[str]]:
    """Module -> the modules that it imports, also inside functions and by name at run time."""
    import grimp

    graph = grimp.build_graph("ga_audit", exclude_type_checking_imports=True, cache_dir=None)
    found = {name: set(graph.find_modules_directly_imported_by(name)) for name in graph.modules}
    for path in modules():
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        # a registry finds leaves by their being there: the type of the leaves is known, not the leaves
        if name in found and name not in {"ga_audit.registry", "ga_audit"}:
            found[name] |= {target for target in by_name(ast.parse(path.read_text("utf-8"))) if target in found}
    return {name: frozenset(targets - {name}) for name, targets in found.items()}


def by_name(tree: ast.AST) -> set[str]:
    """Modules that `importlib.import_module("...")` and `__import__("...")` name."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args:
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in {"import_module", "__import__"}:
                parts = node.args[0].values if isinstance(node.args[0], ast.JoinedStr) else [node.args[0]]
                start = parts[0].value if isinstance(parts[0], ast.Constant) else ""
                found.add(str(start).rstrip("."))
    return found


def cycles(graph: dict[str, frozenset[str]]) -> list[set[str]]:
    """One after the other: each is found and cut."""
    left, found = {name: set(targets) for name, targets in graph.items()}, []
    while True:
        try:
            TopologicalSorter(left).prepare()
        except CycleError as error:
            *cycle, _ = error.args[1]
            found.append(set(cycle))
            for name in cycle:
                left[name] -= set(cycle)
        else:
            return found


def test_no_cycle_of_modules_neither_plain_nor_by_name():
    assert cycles(imports()) == KNOWN_CYCLES


def test_a_cycle_behind_importlib_would_be_found():
    assert by_name(ast.parse('importlib.import_module("ga_audit.plots").draw')) == {"ga_audit.plots"}
    assert by_name(ast.parse('import_module(f"ga_audit.plots.{kind}")')) == {"ga_audit.plots"}
    graph = {"a": frozenset({"b"}), "b": frozenset({"c"}), "c": frozenset({"a"}), "d": frozenset({"a"})}
    assert cycles(graph) == [{"a", "b", "c"}]


def test_nothing_but_the_registry_and_the_root_imports_our_modules_by_name():
    ours = {path.relative_to(PACKAGE).as_posix() for path in modules() if any(
        name.split(".")[0] == "ga_audit" for name in by_name(ast.parse(path.read_text("utf-8")))
    )}  # fmt: skip
    assert ours == set()


def test_leaves_of_one_folder_do_not_import_each_other():
    siblings = {folder: set(leaves(folder)) for folder in LEAF_TYPES}
    crossing = {
        (name, target) for found in siblings.values() for name in found for target in imports().get(name, frozenset()) & found
    }  # fmt: skip
    assert crossing == KNOWN_LEAF_IMPORTS


@pytest.mark.parametrize(
    ("below", "above"),
    [("stats", "run"), ("stats", "finding"), ("logs", "finding"), ("finding", "output"), ("finding", "plots"),
     ("plots", "output"), ("evidence", "output"), ("diagnosis", "output"), ("pipeline", "output")],
)  # fmt: skip
def test_what_computes_does_not_know_what_shows(below: str, above: str):
    def inside(name: str, part: str) -> bool:
        return name == f"ga_audit.{part}" or name.startswith(f"ga_audit.{part}.")

    wrong = {(a, b) for a, targets in imports().items() if inside(a, below) for b in targets if inside(b, above)}
    assert wrong == set()


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


# --- leaves -------------------------------------------------------------------


def test_mypy_holds_every_leaf_against_the_type_of_its_folder(tmp_path: Path):
    lines = []
    for folder, kind in LEAF_TYPES.items():
        if kind is None:
            continue
        for number, name in enumerate(leaves(folder)):
            lines += [f"import {name}", f"import {kind.rpartition('.')[0]}"]
            lines.append(f"{folder.replace('/', '_')}_{number}: {kind} = {name}")
    program = tmp_path / "leaves.py"
    program.write_text("\n".join(lines) + "\n")
    # with the project's own settings, which are strict, mypy's cache serves
    done = subprocess.run(
        [sys.executable, "-m", "mypy", str(program)], cwd=PACKAGE.parent, capture_output=True, text=True
    )
    assert done.stdout == "Success: no issues found in 1 source file\n", done.stdout + done.stderr


@pytest.mark.parametrize("folder", [f for f, kind in LEAF_TYPES.items() if kind])
def test_the_registry_finds_the_leaves(folder: str):
    package = f"ga_audit.{folder.replace('/', '.')}"
    from ga_audit.registry import Leaves

    shared = frozenset(name.rpartition(".")[2] for name in SHARED)
    assert [f"{package}.{name}" for name in Leaves(package, shared=shared).names()] == leaves(folder)
    assert importlib.import_module(package).__doc__


@pytest.mark.parametrize(
    "folder", sorted({str(p.parent.relative_to(PACKAGE)) for p in modules()} - {"bugs/data"})
)  # fmt: skip
def test_every_module_has_a_test(folder: str):
    """A module `ga_audit/a/b.py` has `tests/a/test_b.py`; private modules need none."""
    if any(part.startswith("_") for part in Path(folder).parts):
        return
    missing = set()
    for path in sorted((PACKAGE / folder).glob("[!_]*.py")):
        name = path.relative_to(PACKAGE).with_suffix("").as_posix()
        other = TESTED_ELSEWHERE.get(name)
        there = (TESTS / folder / f"test_{path.stem}.py").exists()
        assert not (there and other), f"{name} has a test of its own: take it off TESTED_ELSEWHERE"
        elsewhere = other is not None and (TESTS.parent / other).exists()
        if f"ga_audit.{name.replace('/', '.')}" not in SHARED and not there and not elsewhere:
            missing.add(name)
    assert missing == set()


def test_no_test_imports_from_conftest():
    """pytest loads `conftest.py` itself; an import would load a second copy. See `factories`."""
    wrong = {
        p.name for p in TESTS.rglob("*.py") if re.search(r"^\s*(from|import) conftest\b", p.read_text("utf-8"), re.M)
    }
    assert wrong == set()


# --- modules ------------------------------------------------------------------


@pytest.mark.parametrize("module", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_module_has_a_docstring_and_a_bearable_size(module: Path):
    source = module.read_text("utf-8")
    tree = ast.parse(source)
    docstring = ast.get_docstring(tree)
    assert docstring, "no docstring"
    first = docstring.partition("\n")[0]
    assert first.endswith("."), f"the first line must stand alone: {first!r}"
    lines = source.count("\n")
    assert lines <= 400 or "longer than" in docstring, f"{lines} lines without a reason in the docstring"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            length = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
            assert length <= 50 or "longer than" in (ast.get_docstring(node) or ""), f"{node.name}: {length} lines"
