import hashlib
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ga_audit.files.folders import folders


def short(text):
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def of(*names):
    return [str(path) for path in folders({str(i): name for i, name in enumerate(names)}).values()]


def test_a_name_that_is_safe_stays():
    names = ["ga8", "runs/ga8", "llama lr=1e-4, seed 1", "é"]
    assert of(*names) == names


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("a?b", "a_b"), ("a:b", "a_b"), ("../../etc/passwd", "etc/passwd"), ("/etc/passwd", "etc/passwd"),
        ("..\\..\\x", "x"), ("a/../../b", "a/b"), (".ssh/id", "ssh/id"), ("", "run"), ("..", "run"), ("a.", "a"),
        ("a ", "a"), ("CON", "_CON"), ("nul.txt", "_nul.txt"), ("x/lpt1", "x/_lpt1"), ("ga-audit.json", "_ga-audit.json"),
        ("DIAGNOSIS.md", "_DIAGNOSIS.md"), ("diagnosis.MD/x", "_diagnosis.MD/x"), ("\ud800", "_"), ("a\x1b[2Jb", "a_[2Jb"),
        ("e\u0301", "é"), ("x" * 130, "x" * 100), ("😀" * 118, "😀" * 25),
    ],
)  # fmt: skip
def test_a_name_that_had_to_be_changed_ends_in_its_hash(name, prefix):
    assert of(name) == [f"{prefix}-{short(name)}"]


@pytest.mark.parametrize(
    "names",
    [
        ("a?b", "a:b"), ("GA8", "ga8"), ("é", "e\u0301"), ("x" * 121 + "1", "x" * 121 + "2"), ("ß", "ss"), ("a", "a."),
        ("a/b", "a\\b"), ("same", "same"), ("a", "a/b"), ("A", "a/b", "a/B"), ("a", f"a-{short('a')}", "A"),
    ],
)  # fmt: skip
def test_no_two_share_a_folder_and_none_lies_in_another(names):
    found = of(*names)
    folded = [unicodedata.normalize("NFKC", path.casefold()).split("/") for path in found]
    for i, one in enumerate(folded):
        for other in folded[:i] + folded[i + 1 :]:
            assert one != other[: len(one)]


def test_both_names_that_collide_are_changed_whatever_their_order():
    assert of("GA8", "ga8") == [f"GA8-{short('GA8')}", f"ga8-{short('ga8')}"]
    assert of("ga8", "GA8") == [f"ga8-{short('ga8')}", f"GA8-{short('GA8')}"]
    assert folders({"id1": "x", "id2": "x"}).keys() == {"id1", "id2"}


@example([". .0", "a. ."])
@given(st.lists(st.one_of(st.text(max_size=300), st.text("aA.é/\\:?é ", max_size=6)), max_size=8))
def test_any_names(names):
    found = folders({str(i): name for i, name in enumerate(names)})
    keys = [str(path).casefold().split("/") for path in found.values()]
    for i, path in enumerate(found.values()):
        assert not path.is_absolute()
        assert len(str(path).encode()) < 600
        for part in path.parts:
            assert part not in {"", ".", ".."}
            assert not part.startswith(".")
            assert len(part.encode()) <= 200
        assert all(keys[i] != other[: len(keys[i])] for other in keys[:i] + keys[i + 1 :])
