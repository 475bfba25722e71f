"""What a failure says of each kind of error."""

import pytest

from ga_audit.errors import UnreadableLog
from ga_audit.logs import failures
from ga_audit.logs.formats import Target, table

SKIPPED = "The file was skipped, and the rest is judged"


@pytest.mark.parametrize(
    ("error", "message", "remedy"),
    [
        (FileNotFoundError(2, "No such file"), "vanished while it was read",
         f"{SKIPPED}. Run the audit again when nothing is being written or deleted there."),
        (PermissionError(13, "Permission denied"), "permission denied", f"{SKIPPED}. Make it readable, or leave it out."),
        (OSError(5, "Input/output error"), "Input/output error", f"{SKIPPED}. Check that the file exists and may be read."),
        (MemoryError(), "does not fit into memory", f"{SKIPPED}. Read it on a machine with more memory."),
        (RecursionError("maximum"), "is nested too deep", f"{SKIPPED}. Give a log that a trainer wrote."),
        (KeyError("x"), "cannot be read as table: KeyError: 'x'",
         f"{SKIPPED}. If a trainer wrote it, please report this as a defect of ga-audit."),
    ],
)  # fmt: skip
def test_every_kind_names_the_file_and_a_remedy(error, message, remedy):
    made = failures.of_error("a.json", error, reader="table")
    assert (made.source, made.error.where, made.error.message, made.error.remedy) == (
        "a.json",
        "a.json",
        message,
        remedy,
    )


def test_an_error_of_ours_keeps_its_words():
    error = UnreadableLog("is empty", where="b", remedy="c")
    assert failures.of_error("a", error).error is error


def test_of_a_log_of_several_files_the_one_that_it_was():
    assert failures.of_error("folder", PermissionError(13, "no", "folder/x")).error.where == "folder/x"


def test_a_defect_says_where_it_happened(monkeypatch):
    monkeypatch.setattr(table.json_rows, "rows_of", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError) as raised:
        list(table.read(Target("-", text=b'{"loss": 1}')))
    made = failures.of_error("a", raised.value)
    assert made.error.message == "cannot be read: ZeroDivisionError: division by zero"
    assert "defect of ga-audit (formats/table.py, line " in made.error.remedy
