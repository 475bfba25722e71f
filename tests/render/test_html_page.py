"""The page, as text and in a real browser."""

import dataclasses
import html.parser
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import make_run, twins

from ga_audit import pipeline
from ga_audit.cli.report import write
from ga_audit.errors import UnreadableLog
from ga_audit.render import html_page
from ga_audit.run import ReadFailure

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    runs = twins(1)
    runs[1] = dataclasses.replace(runs[1], name=HOSTILE)
    audit = pipeline.audit_runs(runs, [ReadFailure("x", UnreadableLog(HOSTILE, where="x", remedy="Mend it."))])
    folder = tmp_path_factory.mktemp("report") / "out"
    write(audit, folder, template="transformers", redacted=True, names=(), style=None, force=False)
    return folder


class _Tags(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.urls = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.urls += [v for k, v in attributes if k in {"src", "srcset", "data"} and v]


def test_self_contained_and_escaped(report):
    page = _Tags()
    page.feed((report / "report.html").read_text())
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert all(url.startswith("data:image/svg+xml;base64,") for url in page.urls)
    assert len(page.urls) == 10


def test_values_behind_the_plots_are_tables(report):
    text = (report / "report.html").read_text()
    assert text.count("Values behind") >= 5
    assert "32." in text


def test_a_page_without_figures_and_with_odd_runs():
    audit = pipeline.audit_runs([make_run("a", ga=8, loss=[float("nan")])])
    assert "<html" in html_page.render(audit)


def chromium(page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-logging=stderr",
         f"--user-data-dir={page.parent}/profile", "--virtual-time-budget=20000", *options, f"file://{page}"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_in_a_real_browser_it_renders_without_errors_and_the_hostile_name_does_not_run(report):
    assert CHROMIUM, "install chromium"
    done = chromium(report / "report.html", "--dump-dom")
    assert "<title>ga-audit report</title>" in done.stdout
    assert "owned</title>" not in done.stdout
    errors = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert not errors
    assert "Refused to load" not in done.stderr


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violations(report, tmp_path, scheme):
    assert CHROMIUM, "install chromium"
    import axe_core_python

    script = next(Path(axe_core_python.__file__).parent.rglob("axe*.js")).read_text()
    page = (report / "report.html").read_text()
    page = re.sub(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>", "", page)
    if scheme == "dark":  # headless browsers are light: take the dark colours as the only ones
        page = page.replace("@media (prefers-color-scheme: dark)", "@media all")
    run = (
        "<script>axe.run().then(r => { const e = document.createElement('pre'); e.id = 'axe-result';"
        "e.textContent = JSON.stringify(r.violations.map(v => [v.id, v.nodes.length, v.nodes[0].html])) + '|' + r.passes.length;"
        "document.body.appendChild(e); })</script>"
    )
    copy = tmp_path / "page.html"
    copy.write_text(page.replace("</body>", f"<script>{script}</script>{run}</body>"))
    dom = chromium(copy, "--dump-dom").stdout
    found = re.search(r'<pre id="axe-result">(.*?)\|(\d+)</pre>', dom, re.DOTALL)
    assert found, dom[-500:]
    assert json.loads(html.unescape(found[1])) == []
    assert int(found[2]) > 10
