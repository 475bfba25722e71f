"""`ga-audit mcp` without its package: one line that installs it."""

import sys

from click.testing import CliRunner

from ga_audit.cli import cli


def test_without_the_package_it_ends_with_status_3(monkeypatch):
    monkeypatch.setitem(sys.modules, "mcp.server", None)
    done = CliRunner().invoke(cli, ["mcp"])
    assert (done.exit_code, done.stdout) == (3, "")
    assert done.stderr.splitlines()[1] == "  -> Install: pip install 'ga-audit[mcp]'"
