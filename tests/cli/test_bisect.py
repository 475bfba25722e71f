import sys

import pytest
from click.testing import CliRunner

from ga_audit.cli.bisect import command
from ga_audit.releases import bisect, index


def test_help_and_wrong_use():
    done = CliRunner().invoke(command, ["--help"])
    assert done.exit_code == 0
    assert "releases" in done.output.lower()
    assert CliRunner().invoke(command, []).exit_code == 2


def test_an_unknown_variant_or_pin_is_a_message():
    bad = CliRunner().invoke(command, ["transformers", "--from", "4.45.2", "--to", "4.46.0", "--variants", "Z"])
    assert bad.exit_code == 2
    assert "no variant 'Z'" in bad.output
    one = CliRunner().invoke(command, ["transformers", "--from", "4.45.2", "--to", "4.46.0", "--data-parallel"])
    assert one.exit_code == 2
    assert "Give --world-size 1,2 too" in one.output
    assert CliRunner().invoke(command, ["transformers", "--from", "new", "--to", "4.46.0"]).exit_code == 2


KNOWN = index.Source.KNOWN
LISTED = ("5.1.0", "5.2.0", "5.3.0", "5.5.4", "5.6.0")


@pytest.mark.parametrize(("source", "more", "status", "said"), [
    # both ends are healthy and nothing between them was measured: that is no healthy range
    (index.Source.INDEX, (), 3,
     "A: healthy in 5.1.0 and in 5.6.0; 3 releases between them were not measured (--all measures them)"),
    (index.Source.INDEX, ("--all",), 0, "A: first bad 5.2.0 (gradients; 5.1.0: healthy)"),
    (index.Source.INDEX, ("--to", "5.3.0"), 0, "A: first bad 5.2.0 (gradients; 5.1.0: healthy)"),
    (KNOWN, ("--all",), 3, "releases of transformers: no route; only the releases that ga-audit knows are measured, and "
     "there may be others between them"),
])  # fmt: skip
def test_a_gap_is_never_healthy(monkeypatch, tmp_path, source, more, status, said):
    why = "no route" if source is KNOWN else ""
    held = index.Listing("transformers", tuple(map(index.Release, LISTED)), source, why)
    monkeypatch.setattr(index, "listing", lambda package: held)
    monkeypatch.setattr(bisect, "check", lambda *_: None)

    def measure(request, release, names):
        verdict, gradient = ("gradients", -1.0) if release in ("5.2.0", "5.3.0") else ("healthy", 0.0)
        return tuple(bisect.Row("transformers", release, n, 0.0, gradient, gradient, verdict) for n in names)

    monkeypatch.setattr(bisect, "measure", measure)
    options = [
        "--from",
        "5.1.0",
        "--to",
        "5.6.0",
        *more,
        "--out",
        str(tmp_path),
        "--python",
        sys.executable,
    ]
    done = CliRunner().invoke(command, ["transformers", *options])
    assert (done.exit_code, said in done.output.splitlines()) == (status, True), done.output


def test_what_a_search_passes_over_is_named(monkeypatch, tmp_path):
    listed = tuple(f"5.{n}.0" for n in range(30))
    held = index.Listing("transformers", tuple(map(index.Release, listed)), index.Source.INDEX)
    monkeypatch.setattr(index, "listing", lambda package: held)
    monkeypatch.setattr(bisect, "check", lambda *_: None)

    def measure(request, release, names):
        verdict = "gradients" if int(release.split(".")[1]) >= 15 else "healthy"
        return tuple(bisect.Row("transformers", release, n, 0.0, 0.0, 0.0, verdict) for n in names)

    monkeypatch.setattr(bisect, "measure", measure)
    options = [
        "--from",
        "5.0.0",
        "--to",
        "5.29.0",
        "--out",
        str(tmp_path),
        "--python",
        sys.executable,
    ]
    done = CliRunner().invoke(command, ["transformers", *options])
    lines = done.output.splitlines()
    assert "A: first bad 5.15.0 (gradients; 5.14.0: healthy)" in lines
    (line,) = [line for line in lines if line.startswith("A: not measured: ")]
    assert line == (
        "A: not measured: 5.1.0, 5.2.0, 5.3.0, 5.4.0, 5.5.0, 5.6.0, 5.7.0, 5.8.0 and 16 more (--all measures every release)"
    )
