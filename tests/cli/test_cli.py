"""The group itself: the commands that it lists, and what becomes of a defect of ours."""

import pytest

from ga_audit import cli, registry


def test_help_lists_the_first_line_of_each_commands_docstring():
    names = cli.cli.list_commands(None)
    modules = [registry.load("ga_audit.cli", name) for name in names]
    assert [cli._first_line(name) for name in names] == [module.__doc__.partition("\n")[0] for module in modules]


@pytest.mark.parametrize("traced", [False, True])
def test_a_defect_is_never_the_status_of_a_finding(monkeypatch, capsys, traced):
    def broken(**_):
        raise TypeError("an odd value")

    monkeypatch.setattr(cli, "cli", broken)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setenv("GA_AUDIT_TRACEBACK", "1" if traced else "")
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 70
    said = capsys.readouterr().err
    assert "a defect of ga-audit itself: TypeError: an odd value" in said
    assert ("Traceback" in said) is traced
