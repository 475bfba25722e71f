import pytest

from ga_audit.commands import split_command
from ga_audit.errors import WrongUsage


def test_words_are_split_as_a_shell_would_and_nothing_is_expanded():
    assert split_command("a 'b c' $HOME ; d", "--run") == ["a", "b c", "$HOME", ";", "d"]


@pytest.mark.parametrize(
    ("command", "message"), [("a 'b", "--run cannot be split: No closing quotation"), ("  ", "--run is empty")]
)
def test_what_is_no_command_is_wrong_usage(command, message):
    with pytest.raises(WrongUsage) as error:
        split_command(command, "--run")
    assert error.value.message == message
