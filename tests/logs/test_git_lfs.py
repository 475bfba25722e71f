import pytest

from ga_audit.errors import UnreadableLog
from ga_audit.logs import git_lfs
from ga_audit.logs.discovery import find_runs

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n"


@pytest.mark.parametrize("name", ["trainer_state.json", "run-ab12cd34.wandb", "training_args.bin", "console.log"])
def test_a_pointer_is_named_with_the_command_that_fetches_the_file(tmp_path, name):
    (tmp_path / name).write_bytes(POINTER)
    (failure,) = find_runs([str(tmp_path / name)])
    assert (failure.error.message, failure.error.remedy) == (
        "is a git-lfs pointer, not the log itself",
        f"Fetch the content with `git lfs pull --include {name}`.",
    )


def test_only_a_pointer_is_refused():
    git_lfs.refuse_pointer(b"{}", "a.json")
    with pytest.raises(UnreadableLog):
        git_lfs.refuse_pointer(POINTER, "a.json")
