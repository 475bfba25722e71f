"""The MCP server, through the client of the package mcp, as a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

mcp = pytest.importorskip("mcp")
if not hasattr(mcp, "Client"):
    pytest.skip("mcp 2 or later", allow_module_level=True)

ROOT = Path(__file__).parents[1]


def call(folder: Path, *calls: tuple[str, dict]) -> tuple[list, list[dict]]:
    """The tools of the server, and the answer to each call."""

    async def session():
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        server = mcp.StdioServerParameters(
            command=sys.executable, args=["-m", "ga_audit", "mcp"], env=environment, cwd=folder
        )
        async with mcp.Client(server) as client:
            tools = (await client.list_tools()).tools
            return tools, [await client.call_tool(name, arguments) for name, arguments in calls]

    tools, answers = asyncio.run(asyncio.wait_for(session(), 120))
    return tools, [answer.structured_content for answer in answers]


def test_every_tool_reads_only_and_answers(tmp_path):
    shutil.copytree(ROOT / "sample_logs" / "transformers-4.48.0", tmp_path / "runs")
    before = sorted((p, p.stat().st_mtime_ns) for p in tmp_path.rglob("*"))
    tools, answers = call(
        tmp_path,
        ("inspect", {"paths": ["runs"]}),
        ("fix_dry_run", {"paths": ["runs"]}),
        ("bugs", {"packages": ["transformers==4.46.1"], "model": "GPT2LMHeadModel"}),
        ("inspect", {"paths": ["runs"], "ga": {"nobody": 2}}),
        ("inspect", {"paths": ["--help"]}),
        ("bugs", {"packages": ["--help"]}),
    )
    assert {tool.name: tool.annotations.read_only_hint for tool in tools} == {
        "inspect": True, "bugs": True, "fix_dry_run": True,
    }  # fmt: skip
    inspected, fixed, bugs, unknown, option, package = answers
    assert (inspected["status"], inspected["result"]["schema"]) == (1, "ga-audit/1")
    assert [d["verdict"] for d in inspected["result"]["diagnoses"]] == ["scaled"]
    assert (fixed["status"], fixed["result"]["written"]) == (0, [])
    assert {row["run"] for row in fixed["result"]["changes"]} == {"ga2", "ga4", "ga8"}
    assert bugs["status"] == 1
    assert "GA002" in {bug["id"] for bug in bugs["result"]["bugs"]}
    assert (unknown["status"], unknown["result"]) == (2, None)
    assert "no run has this name" in unknown["messages"]
    assert option["status"] == 3  # a path that looks like an option is a path
    assert package["status"] == 2
    assert sorted((p, p.stat().st_mtime_ns) for p in tmp_path.rglob("*")) == before
    json.dumps(answers)


def test_without_the_package_it_says_what_to_install(monkeypatch):
    from ga_audit.errors import AuditError
    from ga_audit.mcp_server import make_server

    monkeypatch.setitem(sys.modules, "mcp.server", None)
    with pytest.raises(AuditError) as error:
        make_server()
    assert error.value.remedy == "Install: pip install 'ga-audit[mcp]'"
