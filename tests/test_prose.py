"""Sentences are written once, in `output/wording`, and nothing parses, splits or matches one."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "ga_audit"
# attributes and functions that hold or return sentences
PROSE = frozenset({
    "headline", "statement", "after_label", "reasons", "why", "why_in_table", "remedy", "summary", "message", "retrain",
    "next_step", "next_steps", "not_applicable", "undecided", "bug_match", "set_aside_remedy",
})  # fmt: skip
PARSERS = frozenset({
    "startswith", "endswith", "partition", "rpartition", "split", "rsplit", "removeprefix", "removesuffix", "find", "index",
    "rfind", "count", "search", "match", "fullmatch", "findall", "sub",
})  # fmt: skip
# evidence and logs still carry sentences; these go when they carry codes
PENDING = frozenset({"evidence/_ratios.py", "logs/formats/_points.py"})


def name_of(node: ast.expr) -> str:
    """The last name of `a.headline`, `headline(a)` or `a.headline[0]`."""
    match node:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
        case ast.Call(func=inner) | ast.Subscript(value=inner):
            return name_of(inner)
        case _:
            return ""


def is_prose(node: ast.expr) -> bool:
    return not isinstance(node, ast.Name) and name_of(node) in PROSE


def parses_prose(node: ast.AST) -> bool:
    """Whether a node looks into a sentence."""
    match node:
        case ast.Compare(left=ast.Constant(value=str()), ops=[ast.In() | ast.NotIn()], comparators=[held]):
            return is_prose(held)
        case ast.Call(func=ast.Attribute(attr=method, value=held), args=arguments) if method in PARSERS:
            backtick = any(isinstance(a, ast.Constant) and a.value == "`" for a in arguments)
            return backtick or is_prose(held) or any(map(is_prose, arguments))
        case _:
            return False


def offences(source: str) -> Iterator[int]:
    """Lines that look into a sentence."""
    yield from (node.lineno for node in ast.walk(ast.parse(source)) if parses_prose(node))


@pytest.mark.parametrize("module", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_parses_a_sentence(module: Path):
    if str(module.relative_to(PACKAGE)) in PENDING:
        pytest.skip("carries sentences still")
    assert list(offences(module.read_text("utf-8"))) == []


@pytest.mark.parametrize("template", sorted(PACKAGE.rglob("*.j2")), ids=lambda path: path.name)
def test_no_template_parses_a_sentence(template: Path):
    assert re.findall(r"\.(?:split|partition|startswith|replace)\(", template.read_text("utf-8")) == []


@pytest.mark.parametrize("source", [
    "'ga-audit repro' in d.headline", "'x' not in headline(d)", "line.partition('`')", "s.why.startswith('no')",
    "d.reasons[0].removeprefix('Healthy: ')", "re.search('--stack ', step.remedy)", "re.sub('^SCALED', '', d.headline)",
    "verdict.headline(d).split(': ')",
])  # fmt: skip
def test_every_kind_of_parsing_is_seen(source: str):
    assert list(offences(source)) == [1]


@pytest.mark.parametrize("source", ["Role.LOSS in d.undecided", "name.partition('=')", "fit in {Fit.MATCHES}"])
def test_codes_and_names_are_no_sentences(source: str):
    assert list(offences(source)) == []
