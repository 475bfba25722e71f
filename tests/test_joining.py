"""What is one training; discovery's tests hold the rest, on real folders."""

from dataclasses import replace

from conftest import make_run

from ga_audit.joining import joined
from ga_audit.run import Role, Source


def wandb(name, format_, path, loss, run_id="ab12cd34", **fields):
    run = make_run(name, ga=8, loss=loss, **fields)
    return replace(run, training=f"wandb:{run_id}", sources=(Source(format_, path),))


def names(pieces):
    return [run.name for run in joined(pieces, neighbours=lambda path: [])]


LOSS = [4.0 - i / 50 for i in range(20)]


def test_the_local_and_the_servers_log_of_one_id_are_one_run():
    pieces = [
        wandb("a", "wandb_file", "wandb/run-x-ab12cd34", LOSS),
        wandb("a", "wandb_cloud", "wandb://t/p/ab12cd34", LOSS),
    ]
    (run,) = joined(pieces, neighbours=lambda path: [])
    assert len(run.views(Role.LOSS)) == 2


def test_other_ids_and_parts_of_a_resumed_run_stay_apart():
    other = wandb("b", "wandb_cloud", "wandb://t/p/ef56ab78", LOSS, "ef56ab78")
    later = wandb("a", "wandb_file", "wandb/run-y-ab12cd34", LOSS, steps=range(21, 41))
    assert len(names([wandb("a", "wandb_file", "wandb/run-x-ab12cd34", LOSS), other, later])) == 3


def test_names_are_the_shortest_endings_that_differ():
    pieces = [make_run(str(i), loss=LOSS) for i in range(3)]
    paths = ("x/a/log.csv", "x/b/log.csv", "y/b/log.csv")
    pieces = [replace(r, name="log", sources=(Source("table", p),)) for r, p in zip(pieces, paths, strict=True)]
    assert names(pieces) == ["a/log", "x/b/log", "y/b/log"]
