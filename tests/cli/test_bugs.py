import json

import pytest
from click.testing import CliRunner

from ga_audit.cli.bugs import command


def run(*arguments):
    return CliRunner().invoke(command, list(arguments))


def test_list_and_one():
    assert "GA001" in run().output
    out = run("ga001").output
    assert "4.48.1" in out
    assert "https://" in out


def test_a_release_with_and_without_bugs():
    bad = run("--package", "transformers==4.48.0")
    assert bad.exit_code == 1
    assert "GA001" in bad.output
    good = run("--package", "transformers==4.45.2")
    assert good.exit_code == 0
    assert "no known bug" in good.output


def test_json_and_markdown():
    content = json.loads(run("--package", "deepspeed==0.18.3", "--format", "json").output)
    assert [b["id"] for b in content["bugs"]] == ["GA011"]
    assert content["bugs"][0]["affected"][0]["signature"]["gradient"] == {"ga": -2.0, "world": 0.0}
    assert run("GA011", "--format", "markdown").output.startswith("### GA011")


@pytest.mark.parametrize(("arguments", "said"), [
    (("GA999",), "no bug GA999\n  -> `ga-audit bugs` lists them."), (("GA3",), "no bug GA3\n  -> Did you mean GA003?"),
    (("--package", "transformers"), "'transformers' is not NAME==RELEASE\n  -> Write e.g. --package transformers==4.46.1."),
    (("--package", "transformers==new"),
     "'new' of 'transformers==new' is no release\n  -> Write e.g. --package transformers==4.46.1."),
    (("--package", "transformers>=4.46"),
     "'transformers>=4.46' is not NAME==RELEASE\n  -> Write e.g. --package transformers==4.46.1."),
    (("--package", "==4"), "'==4' is not NAME==RELEASE\n  -> Write e.g. --package transformers==4.46.1."),
    (("GA001", "--installed"), "GAnnn and --package or --installed exclude each other\n  -> Give one of them."),
])  # fmt: skip
def test_wrong_input_is_a_usage_error(arguments, said):
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.output == f"error: {said}\n"


@pytest.mark.parametrize(("package", "said"), [
    ("transfomers==4.48.0", "transfomers 4.48.0: nothing is known of it: no bug of a package transfomers is known, and none was "
     "looked for; did you mean transformers?\n"),
    ("torchtune==0.6.1", "torchtune 0.6.1: no known bug, but this release was not measured\n"),
    ("trl==99", "trl 99: nothing is known of it: it is newer than 1.16.0, the newest that was measured\n"),
])  # fmt: skip
def test_where_nobody_looked_nothing_is_cleared(package, said):
    result = run("--package", package)
    assert (result.exit_code, result.output) == (3, said)


def test_a_release_that_is_newer_than_all_is_not_cleared_and_not_accused():
    result = run("--package", "transformers==9.9.9")
    assert result.exit_code == 3
    assert result.output.startswith(
        "transformers 9.9.9: nothing is known of it: it is newer than 5.24.0, the newest that was measured; 4 bugs of earlier "
        "releases are not known to be fixed\n"
    )


def test_a_known_bug_outweighs_what_is_not_known():
    result = run("--package", "deepspeed==0.18.3", "--package", "foo==1")
    assert result.exit_code == 1
    assert result.output.startswith("deepspeed 0.18.3: 1 known bug\nfoo 1: nothing is known of it: ")
    assert run("--package", "deepspeed==0.18.4", "--package", "foo==1").exit_code == 3
    result = run("--package", "deepspeed==0.18.4", "--package", "trl==1.16.0")
    assert result.exit_code == 0


def test_an_environment_with_nothing_that_is_known_is_not_cleared(monkeypatch):
    monkeypatch.setattr("ga_audit.bugs.coverage.installed", lambda: iter(()))
    result = run("--installed")
    assert result.exit_code == 3
    assert "none of the packages of which a bug is known is installed here" in result.output


def test_json_says_what_is_not_known():
    content = json.loads(run("--package", "transformers==4.45.2", "--package", "foo==1", "--format", "json").output)
    assert content["stack"][0] == {
        "package": "transformers", "release": "4.45.2", "measured": "2026-11", "unknown": None
    }  # fmt: skip
    assert content["stack"][1]["unknown"].startswith("no bug of a package foo is known, and none was looked for (")
    assert content["bugs"] == []


@pytest.mark.parametrize("release", ["5.2.0", "5.3.0", "5.4.0", "5.5.0", "5.5.3"])
def test_the_releases_that_divide_twice_are_known(release):
    stock = ("--no-deepspeed", "--stock-trainer", "--no-label-smoothing", "--world-size", "1")
    result = run("--package", f"transformers=={release}", "--model", "LlamaForCausalLM", *stock)
    assert result.exit_code == 1
    assert "GA029: logged loss right, logged grad_norm x GA^-1, real gradient x GA^-1\n" in result.output
    result = run("--package", f"transformers=={release}", "--model", "BertForSequenceClassification", *stock)
    assert result.exit_code == 1
    assert "GA004: logged loss x GA, logged grad_norm right, real gradient right\n" in result.output
    assert "fix       Use transformers 4.49.0 or later, but not 5.2.0 to 5.5.3 (GA029), then set" in result.output
    for healthy in ("5.1.0", "5.5.4"):
        plain = run("--package", f"transformers=={healthy}", "--model", "LlamaForCausalLM", *stock)
        assert "GA029" not in plain.output.partition("in full")[0]


def test_the_look_up_leaves_out_what_this_stack_does_not_meet():
    stock = ("--no-deepspeed", "--stock-trainer", "--no-label-smoothing", "--world-size", "1")
    found = run("--package", "transformers==4.48.0", "--model", "LlamaForCausalLM", *stock)
    assert found.exit_code == 1
    assert "GA001: logged loss x GA, logged grad_norm x GA, real gradient x GA\n" in found.output
    assert "1 known bug\n" in found.output
    # the same release divides right for a model that takes no loss arguments
    assert run("--package", "transformers==4.48.0", "--model", "GPT2LMHeadModel", *stock).exit_code == 0
    # with DeepSpeed the gradient is right and only the log is wrong
    deep = run("--package", "transformers==4.48.0", "--model", "LlamaForCausalLM", "--deepspeed", *stock[1:])
    assert "logged loss x GA, logged grad_norm right, real gradient right" in deep.output


def test_the_perfect_curve_is_foretold():
    out = run(
        "--package", "transformers==4.46.3", "--model", "GPT2LMHeadModel", "--no-deepspeed", "--stock-trainer"
    ).output
    assert "GA003: logged loss right, logged grad_norm x GA, real gradient x GA\n" in out
