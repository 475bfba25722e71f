import click

from ga_audit.output.table import paint_first, table

ROWS = [["a", "1", "x"], ["bcd", "10", ""]]


def test_columns_are_as_wide_as_their_cells_and_lines_end_without_blanks():
    assert table(ROWS, header=["run", "GA", "why"], right=[1], indent=2) == [
        "  run  GA  why",
        "  a     1  x",
        "  bcd  10",
    ]


def test_a_table_without_rows():
    assert table([]) == []
    assert table([], header=["run"]) == ["run"]


def test_a_name_gives_way_in_its_middle_and_the_last_column_at_its_end():
    name, text = "first" + "-" * 30 + "last", "word " * 20
    (line,) = table([[name, "x"]], width=30, shorten=0)
    assert (len(line), line.startswith("first"), line.endswith("last  x")) == (30, True, True)
    (line,) = table([["x", text.strip()]], width=40, shorten=1)
    assert line == f"x  {text[:36]}…"


def test_a_verdict_is_coloured_and_a_header_is_not():
    lines = table([["scaled", "a"]], header=["verdict", "run"])
    assert paint_first(lines, ["verdict", "scaled"], {"scaled": "red"}) == [
        "verdict  run",
        click.style("scaled", fg="red", bold=True) + "   a",
    ]
