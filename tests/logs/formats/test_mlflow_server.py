"""A server that answers as MLflow 3.17's does, from the recorded database; the real one where it is installed."""

import base64
import json
import sqlite3
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from ga_audit.logs.discovery import find_runs
from ga_audit.logs.formats import Claim, Target, mlflow_server
from ga_audit.pipeline import audit
from ga_audit.run import ReadFailure, Role

GOLDEN = Path(__file__).parents[2] / "golden/trackers"
LOGIN = "Basic " + base64.b64encode(b"me:secret").decode()


class Server:
    def __init__(self):
        self.sql = sqlite3.connect(":memory:", check_same_thread=False)
        self.sql.executescript((GOLDEN / "mlflow.sql").read_text())
        self.lock = threading.Lock()
        self.asked = Counter()
        self.page = 1000
        self.wants_login = False
        self.seen = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self.reply(urlsplit(self.path).path, body)

            def do_GET(self):
                url = urlsplit(self.path)
                self.reply(url.path, {k: v[0] for k, v in parse_qs(url.query).items()})

            def reply(self, path, query):
                what = path.removeprefix("/api/2.0/mlflow/")
                outer.asked[what] += 1
                outer.seen.append(self.headers.get("Authorization"))
                with outer.lock:
                    status, content = (
                        (401, {}) if outer.wants_login and outer.seen[-1] != LOGIN else outer.answer(what, query)
                    )
                data = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def paged(self, items, key, query):
        start = int(query.get("page_token") or 0)
        page = items[start : start + self.page]
        more = {"next_page_token": str(start + self.page)} if start + self.page < len(items) else {}
        return 200, {key: page, **more}

    def answer(self, what, query):
        run = query.get("run_id")
        if what == "experiments/search":
            return self.paged([{"experiment_id": str(e[0])} for e in self.sql.execute("select experiment_id from experiments")],
                              "experiments", query)  # fmt: skip
        if what == "runs/search":
            rows = self.sql.execute("select run_uuid, experiment_id from runs where lifecycle_stage = 'active'")
            found = [
                {"info": {"run_id": r, "experiment_id": str(e)}} for r, e in rows if str(e) in query["experiment_ids"]
            ]
            return self.paged(found, "runs", query)
        if what == "runs/get":
            row = self.sql.execute("select name, status from runs where run_uuid = ?", (run,)).fetchone()
            if row is None:
                return 404, {"error_code": "RESOURCE_DOES_NOT_EXIST"}
            params = self.sql.execute("select key, value from params where run_uuid = ?", (run,))
            keys = self.sql.execute("select distinct key from metrics where run_uuid = ?", (run,))
            return 200, {"run": {"info": {"run_name": row[0], "status": row[1]},
                                 "data": {"params": [{"key": k, "value": v} for k, v in params],
                                          "metrics": [{"key": k[0], "value": 0} for k in keys]}}}  # fmt: skip
        points = self.sql.execute(
            "select value, timestamp, step, is_nan from metrics where run_uuid = ? and key = ? order by step",
            (run, query["metric_key"]),
        )
        return self.paged([{"key": query["metric_key"], "value": "NaN" if n else v, "timestamp": t, "step": s}
                           for v, t, s, n in points], "metrics", query)  # fmt: skip


@pytest.fixture
def server(monkeypatch):
    for name in ("URI", "USERNAME", "PASSWORD", "TOKEN"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)
    running = Server()
    yield running
    running.http.shutdown()
    running.http.server_close()


def test_what_it_claims():
    for text in (
        "http://localhost:5000",
        "https://mlflow.acme.io/#/experiments/3",
        "http://h/ml/#/experiments/3/runs/abc",
    ):
        assert mlflow_server.claim(Target(text)) is Claim.YES, text
    for text in ("https://wandb.ai/a/b/runs/c", "https://wandb.ai/a/b", "runs", "http://[bad", "-", "s3://b/k"):
        assert mlflow_server.claim(Target(text)) is Claim.NO, text


def test_a_server_an_experiment_and_a_run(server):
    (diagnosis,) = audit([server.url]).diagnoses
    assert diagnosis.verdict.value == "scaled"
    assert [run.name for run in diagnosis.runs] == ["ga1", "ga8"]
    runs = {run.name: run for run in find_runs([f"{server.url}/#/experiments/1"])}
    run = runs["ga8"]
    assert run.settings.ga == 8
    assert run.get(Role.LOSS).value[:2].tolist() == [32.0, 30.4]
    assert run.get(Role.LOSS).position.tolist() == list(range(1, 13))
    (one,) = find_runs([run.sources[0].path])
    assert one.name == "ga8"


def test_pages(server):
    server.page = 5
    runs = {run.name: run for run in find_runs([server.url])}
    assert len(runs["ga1"].get(Role.LOSS)) == 12
    assert server.asked["metrics/get-history"] > 12


def test_the_login_goes_to_the_server_of_the_settings_alone(server, monkeypatch):
    server.wants_login = True
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    (failure,) = find_runs([server.url])
    assert "wants a login" in failure.error.message
    assert server.seen == [None]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    assert len(list(find_runs([server.url]))) == 2


def test_a_redirect_is_not_followed_and_a_setting_that_is_no_url_sends_no_login(server, monkeypatch):
    other = Server()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret")

    def redirect(self, status, message=None):
        BaseHTTPRequestHandler.send_response(self, 307)
        self.send_header("Location", other.url + self.path)

    monkeypatch.setattr(server.http.RequestHandlerClass, "send_response", redirect, raising=False)
    (failure,) = find_runs([server.url])
    assert failure.error.message == "the server answers 307"
    assert server.seen == ["Bearer secret"]
    assert other.seen == []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://[bad")
    assert len(list(find_runs([other.url]))) == 2
    assert set(other.seen) == {None}
    other.http.shutdown()
    other.http.server_close()


def test_what_goes_wrong_is_said(server):
    for target, words in (
        (f"{server.url}/#/experiments/77", "no runs there"),
        (f"{server.url}/#/experiments/1/runs/abc", "no such run"),
        ("http://127.0.0.1:9", "cannot be reached"),
    ):
        (failure,) = find_runs([target])
        assert isinstance(failure, ReadFailure)
        assert words in failure.error.message
        assert failure.error.remedy
