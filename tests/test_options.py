"""What the user says of the runs: whom it fits, and what is refused."""

import json
import pickle

import pytest
from conftest import make_run

from ga_audit import options as given
from ga_audit import pipeline
from ga_audit.errors import NoTrainingSeries, WrongUsage
from ga_audit.options import Options
from ga_audit.output.wording.notes import note as words
from ga_audit.run import Schedule, Trust


def log(path, key="loss", **row):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = ({"step": i, key: 4.0 - i / 10, **row} for i in range(1, 5))
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    return path


@pytest.fixture
def tree(tmp_path):
    log(tmp_path / "run_1" / "a.jsonl")
    log(tmp_path / "run_2" / "b.jsonl")
    return tmp_path


@pytest.mark.parametrize(
    "name", ["a", "a.jsonl", "run_1", "a*", "*.jsonl", "run_?", "*/run_1/*", "TOP/run_1", "TOP/run_1/a.jsonl"]
)
def test_a_name_fits_by_run_file_stem_folder_path_and_glob(tree, name):
    runs, failures = pipeline.read_runs(tree, ga={name.replace("TOP", str(tree)): 8})
    assert not failures
    both = name in {"*.jsonl", "run_?"}
    assert {run.name: run.settings.ga for run in runs} == {"a": 8, "b": 8 if both else None}


def test_a_glob_that_fits_a_run_by_its_name_fits_no_other_by_its_folder(tmp_path):
    log(tmp_path / "ga-logs" / "ga8.jsonl")
    log(tmp_path / "ga-logs" / "base.jsonl")
    runs, _ = pipeline.read_runs(tmp_path, ga={"ga*": 8})
    assert {run.name: run.settings.ga for run in runs} == {"base": None, "ga8": 8}


def test_the_more_special_name_counts_then_the_later_glob(tree):
    runs, _ = pipeline.read_runs(tree, ga={"a": 2, "run_1": 4, "a.jsonl": 3, "*": 8})
    assert {run.name: run.settings.ga for run in runs} == {"a": 2, "b": 8}
    runs, _ = pipeline.read_runs(tree, ga={"a*": 2, "*": 8, "b*": 4})
    assert {run.name: run.settings.ga for run in runs} == {"a": 8, "b": 4}


@pytest.mark.parametrize(
    ("options", "message", "remedy"),
    [
        (Options(ga={"rum_1": 8}), "--ga rum_1=...: no run has this name", "The runs are: a, b."),
        (Options(world_size={"aa": 8}), "--world-size aa=...: no run has this name", "The runs are: a, b."),
        (Options(loss_key="los"), "--loss-key los: no log holds a series of this name", "They hold: loss, lr."),
        (Options(grad_norm_key="r"), "--grad-norm-key r: no log holds a series of this name", "They hold: lr, loss."),
        (Options(stack=("trl",)), "--stack trl: not PACKAGE==RELEASE", "Write e.g. --stack transformers==4.46.1."),
        (Options(stack=("trl==new",)), "--stack trl==new: not PACKAGE==RELEASE", "Write e.g. --stack transformers==4.46.1."),
    ],
)  # fmt: skip
def test_an_option_that_fits_nothing_is_refused_with_what_there_is(tmp_path, options, message, remedy):
    log(tmp_path / "a.jsonl", lr=1e-3)
    log(tmp_path / "b.jsonl", lr=1e-3)
    with pytest.raises(WrongUsage) as refused:
        pipeline.read_runs(tmp_path, options=options)
    assert (refused.value.message, refused.value.remedy) == (message, remedy)


def test_a_package_that_nothing_is_known_of_is_refused_with_the_nearest_first(tree):
    with pytest.raises(WrongUsage) as refused:
        pipeline.read_runs(tree, stack="transfomers==4.46.1")
    assert refused.value.message == "--stack transfomers==4.46.1: transfomers is not a package that ga-audit knows"
    assert refused.value.remedy.startswith("The packages are: transformers, ")
    runs, _ = pipeline.read_runs(tree, stack=("PyTorch==2.5.0", "ms_swift==3.0"))
    assert {name: s.value for name, s in runs[0].settings.packages.items()} == {"torch": "2.5.0", "ms-swift": "3.0"}


def test_what_could_not_be_read_is_said_and_its_name_is_no_mistake(tree):
    (tree / "run_3").mkdir()
    (tree / "run_3" / "c.json").write_text('[{"loss": 1')
    runs, failures = pipeline.read_runs(tree, ga={"c.json": 8, "a": 1})
    assert {run.name: run.settings.ga for run in runs} == {"a": 1, "b": None}
    assert [failure.source for failure in failures] == [str(tree / "run_3" / "c.json")]
    with pytest.raises(WrongUsage) as refused:
        pipeline.read_runs(tree, ga={"d": 8})
    assert refused.value.remedy == (
        f"The runs are: a, b. Not read: {failures[0].source} ({failures[0].error.message})."
    )


def test_a_key_that_is_in_no_log_is_refused_where_no_log_can_be_read_without_it(tmp_path):
    log(tmp_path / "a.jsonl", key="ce")
    with pytest.raises(WrongUsage) as refused:
        pipeline.read_runs(tmp_path, loss_key="ca")
    assert refused.value.remedy == "They hold: ce."
    (run,), _ = pipeline.read_runs(tmp_path, loss_key="ce")
    assert [s.name for s in run.series] == ["ce"]


def test_a_key_whose_values_are_no_numbers_is_in_the_log(tmp_path):
    log(tmp_path / "a.jsonl", key="grad_norm", ce="high")
    (run,), _ = pipeline.read_runs(tmp_path, loss_key="ce")
    assert [words(note) for note in run.left_out] == ["'ce': 4 values are no numbers"]


def test_no_runs_no_names_to_compare_with(tmp_path):
    runs, (failure,) = pipeline.read_runs(tmp_path, ga={"a": 8})
    assert runs == ()
    assert failure.error.message == "no training log found"


def test_what_the_user_gives_against_the_log_is_a_sentence():
    run = make_run("one", ga=8, world_size=2)
    (changed,) = given.apply([run], Options(ga={"*": Schedule.constant(4)}, world_size={"one": 2}))
    assert given.contradictions([changed]) == ("one: GA 4 is used, as given; test says 8",)
    assert given.contradictions([run]) == ()
    assert changed.settings.gradient_accumulation_steps.trust is Trust.GIVEN


def test_one_run_alone_takes_what_fits_it():
    run = make_run("one")
    assert given.with_given(run, Options(ga={"two": 8})) is run
    assert given.with_given(run, Options(ga={"one": 8})).settings.ga == 8


def test_names_survive_a_process_pool():
    error = pickle.loads(pickle.dumps(NoTrainingSeries("none", where="a", remedy="b", names=("x",))))
    assert (str(error), error.names) == ("a: none b", ("x",))
