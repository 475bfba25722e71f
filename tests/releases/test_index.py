"""Lists of releases: from the index, from its cache, and the known ones alone."""

import io
import json
import subprocess
import urllib.error
from datetime import UTC, datetime
from email.message import Message

import pytest

from ga_audit.errors import WrongUsage
from ga_audit.releases import bisect, index


def file(name, day, **more):
    return {"filename": name, "upload-time": f"2026-{day}T12:00:00Z", "yanked": False, **more}


FILES = [
    file("accelerate-1.9.0-py3-none-any.whl", "02-20"),
    file("accelerate-1.10.0.tar.gz", "03-03"),
    file("accelerate-1.10.0-py3-none-any.whl", "03-02"),
    file("accelerate-1.11.0rc1.tar.gz", "03-20"),
    file("accelerate-1.12.0.tar.gz", "04-01", yanked="broken"),
    file("accelerate-1.13.0.tar.gz", "05-01"),
    file("not-a-release.txt", "05-01"),
]


@pytest.fixture
def answers(monkeypatch):
    """What the index answers, by package; a list of the addresses that were asked."""
    held, asked = {"accelerate": FILES}, []

    def urlopen(request, **_):
        asked.append((request.full_url, request.get_header("Authorization")))
        name = request.full_url.rstrip("/").rpartition("/")[2]
        if name not in held:
            raise urllib.error.HTTPError(request.full_url, 404, "Not Found", Message(), None)
        reply = io.BytesIO(json.dumps({"files": held[name]}).encode())
        reply.headers = {"Content-Type": "application/vnd.pypi.simple.v1+json"}
        return reply

    monkeypatch.setattr(index.urllib.request, "urlopen", urlopen)
    monkeypatch.setenv("PIP_INDEX_URL", "https://me:se%20cret@index.example:8443/simple/")
    return held, asked


def versions(listing):
    return [release.version for release in listing.releases]


def test_final_releases_that_are_not_yanked_with_the_day_of_their_first_file(tmp_path, answers):
    _, asked = answers
    found = index.listing("Accelerate", cache=tmp_path)
    assert (found.package, found.source, found.why, found.is_complete) == (
        "accelerate",
        index.Source.INDEX,
        "",
        True,
    )
    assert versions(found) == ["1.9.0", "1.10.0", "1.13.0"]
    assert found.uploaded("1.10") == datetime(2026, 3, 2, 12, tzinfo=UTC)
    assert found.newest_on(datetime(2026, 4, 30, tzinfo=UTC)) == "1.10.0"
    assert found.newest_on(datetime(2025, 1, 1, tzinfo=UTC)) is None
    # the password goes into a header, not into an address that may be shown
    assert asked == [("https://index.example:8443/simple/accelerate/", "Basic bWU6c2UgY3JldA==")]


def test_a_list_is_kept_for_a_day_and_used_when_the_index_is_away(tmp_path, answers):
    held, asked = answers
    index.listing("accelerate", cache=tmp_path, now=0.0)
    assert index.listing("accelerate", cache=tmp_path, now=1000.0).source is index.Source.INDEX
    assert len(asked) == 1
    del held["accelerate"]
    found = index.listing("accelerate", cache=tmp_path, now=2 * index.DAY)
    assert (found.source, found.is_complete) == (index.Source.CACHE, True)
    assert versions(found) == ["1.9.0", "1.10.0", "1.13.0"]
    assert found.why == "the package index cannot be read: HTTP status 404; this is the list of 1970-01-01"
    (tmp_path / "accelerate.json").write_text("damaged")
    assert index.listing("accelerate", cache=tmp_path).source is index.Source.KNOWN


def test_without_an_index_the_known_list_is_said_to_be_that(tmp_path, monkeypatch):
    def unreachable(*_, **__):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(index.urllib.request, "urlopen", unreachable)
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.example/simple")
    found = index.listing("transformers", cache=tmp_path)
    assert (found.source, found.is_complete) == (index.Source.KNOWN, False)
    assert found.why == "the package index cannot be read: no route to host"
    assert "5.3.0" in versions(found)
    assert list(tmp_path.iterdir()) == []
    assert index.listing("torchtune", cache=tmp_path).releases == ()


def test_an_index_without_json_is_asked_by_pip(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "file:///srv/simple")

    def run(argv, **_):
        assert argv[1:] == ["-m", "pip", "index", "versions", "trl"]
        return subprocess.CompletedProcess(argv, 0, "trl (0.9.0)\nAvailable versions: 0.10.0, 0.9.0\n", "")

    monkeypatch.setattr(index.subprocess, "run", run)
    assert versions(index.listing("trl", cache=tmp_path)) == ["0.9.0", "0.10.0"]
    monkeypatch.setattr(index.subprocess, "run", lambda argv, **_: subprocess.CompletedProcess(argv, 1, "", "no"))
    found = index.listing("trl", cache=tmp_path / "other")
    assert found.why.endswith("neither its JSON API nor `pip index versions` lists the package")


def test_every_release_of_a_range_is_listed(tmp_path, answers):
    found = index.listing("accelerate", cache=tmp_path)
    assert found.between("1.9", "1.13.0") == ("1.9.0", "1.10.0", "1.13.0")
    assert found.between("1.8.0", "1.10.0") == (
        "1.8.0",
        "1.9.0",
        "1.10.0",
    )  # an end may be older than the index
    with pytest.raises(WrongUsage, match="newer"):
        found.between("1.13.0", "1.9.0")
    with pytest.raises(WrongUsage):
        found.between("new", "1.9.0")


def test_companions_are_the_newest_of_the_day_of_a_release(tmp_path, answers, monkeypatch):
    held, _ = answers
    held["transformers"] = [
        file("transformers-5.7.0.tar.gz", "03-10"),
        file("transformers-5.8.0.tar.gz", "05-02"),
    ]
    assert index.companions("transformers", "5.7.0", ["accelerate"], cache=tmp_path) == {"accelerate": "1.10.0"}
    assert index.companions("transformers", "5.8.0", ["accelerate", "trl"], cache=tmp_path) == {"accelerate": "1.13.0"}
    assert index.companions("transformers", "9.0.0", ["accelerate"], cache=tmp_path) == {}
    monkeypatch.setattr(index, "cache_dir", lambda name: tmp_path / name)
    request = bisect.Request("transformers", tmp_path, "python")
    assert bisect.needed(request, "5.7.0") == ("transformers==5.7.0", "accelerate==1.10.0")
    # a known release keeps the companions of the table, and a pin wins
    assert bisect.needed(request, "5.3.0") == ("transformers==5.3.0", "accelerate==1.13.0")
    pinned = bisect.Request("transformers", tmp_path, "python", pins=("accelerate==1.9.0",))
    assert bisect.needed(pinned, "5.7.0") == ("transformers==5.7.0", "accelerate==1.9.0")
