"""Load and check the entries of the catalogue, and look them up by release."""

import tomllib
from importlib import resources

import pytest

from ga_audit.bugs import catalogue
from ga_audit.bugs.conditions import CONDITIONS

FILES = sorted((f for f in (resources.files("ga_audit.bugs") / "data").iterdir()), key=lambda f: f.name)


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_every_entry_is_well_formed(file):
    entry = tomllib.loads(file.read_text("utf-8"))
    assert list(catalogue.problems(file.name.removesuffix(".toml"), entry)) == []


ROW = {"releases": ">1", "signature": {"loss": {"ga": 1}}}


@pytest.mark.parametrize(("change", "said"), [
    ({"references": []}, "needs a reference of type report or fix"),
    ({"references": [{"type": "evidence", "url": "https://x"}]}, "needs a reference of type report or fix"),
    ({"references": [{"type": "fix", "url": "http://x"}]}, "a reference without an https link"),
    ({"verified": {"how": "guessed"}}, "verified.how is 'guessed'; choose from run, source, said"),
    ({"verified": {}}, "verified.how is missing"),
    ({"affected": [{**ROW, "releases": "bad!"}]}, "'bad!' is not a PEP 440 specifier"),
    ({"affected": [{**ROW, "signature": {}}]},
     "a signature needs exponents of loss, grad_norm or gradient, and nothing else"),
    ({"affected": [{**ROW, "signature": {"los": {"ga": 1}}}]},
     "a signature needs exponents of loss, grad_norm or gradient, and nothing else"),
    ({"affected": [{**ROW, "signature": {"loss": {"gas": 1}}}]}, "an exponent is on ga or world"),
    ({"affected": [{**ROW, "wen": {}}]}, "affected.wen is not a known key"),
    ({"affected": [{**ROW, "when": {"transformers": "4.46"}}]},
     "condition transformers: '4.46' is not a PEP 440 specifier"),
    ({"affected": [{**ROW, "when": {"model": "forward has no *kwargs"}}]},
     "condition model: 'forward has no *kwargs' is not a valid ModelKind"),
    ({"affected": [{**ROW, "when": {"deepspeed": "true"}}]}, "condition deepspeed: 'true' is not a valid bool"),
    ({"affected": [{**ROW, "when": {"zero_stage": True}}]}, "condition zero_stage: True is not a valid int"),
    ({"fix": {"retrain": "no"}}, None),
    ({"fix": {"retrain": "log-only", "workarounds": [{"text": "t", "makes": {"trainer": "stok"}}]}},
     "condition trainer: 'stok' is not a valid TrainerKind"),
    ({"fix": {}}, "fix.retrain is missing"),
])  # fmt: skip
def test_an_invalid_entry_fails_on_loading(change, said):
    entry = {**tomllib.loads(FILES[0].read_text("utf-8")), **change}
    found = list(catalogue.problems("GA001", entry))
    assert len(found) == 1
    assert found[0] == said or (said is None and found[0].startswith("fix.retrain is 'no'; choose from log-only, "))
    with pytest.raises(ValueError, match=r"^GA001\.toml: ") as error:
        catalogue.read_bug("GA001", entry)
    assert str(error.value) == f"GA001.toml: {found[0]}"


def test_an_unknown_condition_fails_on_loading():
    entry = tomllib.loads(FILES[0].read_text("utf-8"))
    (said,) = catalogue.problems("GA001", {**entry, "affected": [{**ROW, "when": {"modell": "x"}}]})
    assert said == f"unknown condition 'modell'; choose from {', '.join(CONDITIONS)}"
    assert list(catalogue.problems("X1", entry)) == ["the file is not named GAnnn.toml"]


def test_conditions_are_typed():
    rows = [row for bug in catalogue.load() for row in bug.affected]
    values = {type(value).__name__ for row in rows for value in row.when.values()}
    assert values == {
        "bool",
        "int",
        "str",
        "ModelKind",
        "CustomLoss",
        "TrainerKind",
        "Generations",
        "LossType",
    }
    assert {n for row in rows for n, v in row.when.items() if type(v) is str} == {"transformers"}


@pytest.mark.parametrize(
    ("release", "bugs"),
    [
        ("4.45.2", set()),
        ("4.47.0", {"GA001", "GA003", "GA005"}),
        ("4.48.0", {"GA001", "GA009"}),
        ("4.48.0.dev0", {"GA001"}),
        ("not a release", set()),
    ],
)
def test_look_up_by_release(release, bugs):
    found = {bug.id for bug, _ in catalogue.of_release("transformers", release)}
    assert bugs <= found
    assert (not bugs) == (not found)
