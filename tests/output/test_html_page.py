"""The page, as text and in a real browser."""

import dataclasses
import html.parser
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from factories import make_run, twins

from ga_audit import pipeline
from ga_audit.errors import UnreadableLog
from ga_audit.output import _values, html_page
from ga_audit.output._report_folder import write
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
    assert text.count("<summary>Values behind") == 5
    for header in ("logged", "ratio to the smallest", "if scaled", "nats, or value"):
        assert f'<th scope="col">{header}</th>' in text


def test_the_tables_hold_the_values_that_are_drawn():
    (diagnosis,) = pipeline.diagnose(twins(1, max_grad_norm=2.0))
    points = _values.table(diagnosis, "regression")
    assert points["header"][2] == "gradient_accumulation_steps"
    assert [row[:3] for row in points["rows"]][:2] == [["loss", "ga1", "1"], ["loss", "ga8", "8"]]
    assert float(points["rows"][1][3]) == pytest.approx(8, rel=0.01)
    ratios = _values.table(diagnosis, "ratio")["rows"]
    assert {row[5] for row in ratios} == {"8"}
    assert all(7.5 < float(row[4]) < 8.5 for row in ratios if row[0] == "loss")
    curves = _values.table(diagnosis, "curves")["rows"]
    assert all(float(row[3]) == pytest.approx(8 * float(row[4]), rel=1e-4) for row in curves if row[0] == "ga8")
    assert [row[0] for row in _values.table(diagnosis, "clipping")["rows"]] == ["ga1", "ga8"]
    (lone,) = pipeline.diagnose([make_run("a", ga=8, loss=[3, 2], vocab_size=50257)])
    assert _values.table(lone, "evidence")["rows"][-1] == ["a", "loss", "ln(vocab_size 50257)", "10.82"]
    for kind in ("regression", "ratio", "clipping"):
        assert _values.table(lone, kind)["rows"] == []


def test_a_known_bug_stands_with_its_reason():
    audit = pipeline.audit_runs(twins(1, packages={"transformers": "4.48.0"}))
    page = html_page.render(audit)
    assert "transformers 4.48.0 is affected (==4.48.0) and the signature fits; not recorded: deepspeed = " in page


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
    assert re.search(r"<title>(SCALED|INCONCLUSIVE|HEALTHY): .*</title>", done.stdout)
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


def test_at_phone_width_only_tables_and_wide_pictures_scroll(report, tmp_path):
    assert CHROMIUM, "install chromium"
    # headless windows have a least width; a frame has none
    measure = (
        "const d = f.contentDocument.documentElement;"
        "const narrow = [...f.contentDocument.querySelectorAll('th, td')].filter(c => c.offsetWidth > 0 && c.offsetWidth < 32);"
        "const p = document.createElement('p'); p.id = 'width'; p.textContent = d.scrollWidth + '|' + narrow.length;"
        "document.body.appendChild(p);"
    )
    page = re.sub(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>", "", (report / "report.html").read_text())
    page = page.replace("<details>", "<details open>")
    frame = f'<iframe id="f" style="width:390px;height:800px;border:0" srcdoc="{html.escape(page)}"></iframe>'
    (tmp_path / "page.html").write_text(f"<body>{frame}<script>f.onload = () => {{ {measure} }}</script></body>")
    found = re.search(r'<p id="width">(\d+)\|(\d+)</p>', chromium(tmp_path / "page.html", "--dump-dom").stdout)
    assert found
    assert int(found[1]) <= 390
    assert int(found[2]) == 0  # no column squeezed to single letters


def test_what_is_folded_on_the_screen_is_printed(report, tmp_path):
    assert CHROMIUM, "install chromium"
    pages = {}
    for name, change in (("whole", ""), ("without", "details { display: none; }")):
        folder = tmp_path / name
        folder.mkdir()
        text = (report / "report.html").read_text().replace("</style>", f"{change}</style>")
        (folder / "page.html").write_text(text)
        chromium(folder / "page.html", f"--print-to-pdf={folder}/page.pdf")
        pages[name] = len(re.findall(rb"/Type\s*/Page\b", (folder / "page.pdf").read_bytes()))
    assert pages["without"] >= 1
    assert pages["whole"] >= pages["without"] + 2
