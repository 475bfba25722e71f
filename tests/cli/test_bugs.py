import json

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


def test_wrong_input():
    assert run("GA999").exit_code == 3
    assert run("--package", "transformers").exit_code == 3


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
