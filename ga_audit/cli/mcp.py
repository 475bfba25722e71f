"""Serve inspect, bugs and fix --dry-run to coding agents, by MCP over standard input and output."""

from __future__ import annotations

import click

from ga_audit.cli.options import errors_to_status


@click.command(name="mcp", epilog="Exit status: 0 the client has ended, 3 the package mcp is not installed.")
@errors_to_status
def command() -> None:
    """Serve the tools inspect, bugs and fix_dry_run by the Model Context Protocol, over standard input and output.

    Nothing is written and nothing is executed that a log holds. Needs: pip install 'ga-audit[mcp]'
    """
    from ga_audit.mcp_server import make_server

    make_server().run("stdio")
