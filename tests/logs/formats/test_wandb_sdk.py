"""What the real SDK, started by us, connects to and sends: only what was asked for, to the user's own server alone."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from wandb_stub import KEY, Stub, project, serving

from ga_audit.logs.formats._wandb import sdk as wandb_sdk

ROOT = Path(__file__).parents[3]
SAMPLE = ROOT / "sample_logs/wandb-4.48.0/ga8"
# Python's own connections are refused and written down; those of wandb-core go to the proxy of the environment
GUARD = """
import os, socket
_connect = socket.socket.connect
def connect(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "localhost", "::1"):
        with open(os.environ["CONNECTIONS"], "a") as f:
            print(address, file=f)
        raise OSError("refused by the test")
    return _connect(self, address)
socket.socket.connect = socket.socket.connect_ex = connect
"""


class Recorder:
    """A server, or a proxy, that writes down every request; it redirects where it is given a place."""

    def __init__(self, redirect: str = "") -> None:
        self.requests: list[tuple[str, str, str | None]] = []  # method, path, Authorization
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def reply(self):
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.requests.append((self.command, self.path, self.headers.get("Authorization")))
                self.send_response(307 if redirect else 403)
                if redirect:
                    self.send_header("Location", redirect + self.path)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            do_GET = do_POST = do_PUT = do_HEAD = do_CONNECT = reply

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.port = self.http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def place(tmp_path):
    """A home, a folder of somebody's logs, and a folder of Python's start-up hook."""
    for name in ("home", "logs/wandb", "hook"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "hook/sitecustomize.py").write_text(GUARD)
    return tmp_path


def ga_audit(place: Path, *args: str, **variables: str | None) -> subprocess.CompletedProcess:
    """The command line in the folder of logs, with a key in the environment; None unsets a variable."""
    clean = {
        k: v for k, v in os.environ.items() if not k.upper().startswith(("WANDB_", "NETRC", "HTTP", "ALL_P", "NO_P"))
    }
    env = {
        **clean, "HOME": str(place / "home"), "PYTHONPATH": f"{place / 'hook'}{os.pathsep}{ROOT}",
        "CONNECTIONS": str(place / "connections"), "GA_AUDIT_CACHE": str(place / "cache"), "WANDB_API_KEY": KEY, **variables,
    }  # fmt: skip
    code = "import sys\nfrom ga_audit.cli import cli\ncli(sys.argv[1:])"
    return subprocess.run(
        [sys.executable, "-P", "-c", code, *args], cwd=place / "logs", capture_output=True, text=True, timeout=120,
        env={k: v for k, v in env.items() if v is not None},
    )  # fmt: skip


def own_settings(place: Path, **values: str) -> None:
    folder = place / "home/.config/wandb"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "settings").write_text("[default]\n" + "".join(f"{k} = {v}\n" for k, v in values.items()))


def hostile_settings(place: Path, other: Recorder) -> None:
    for folder in (place / "logs/wandb", place / "logs/.wandb", place / "logs/run/wandb"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "settings").write_text(
            f"[default]\nbase_url = {other.url}\napi_key = {'e' * 40}\nhttp_proxy = {other.url}\nhttps_proxy = {other.url}\n"
            "insecure_disable_ssl = true\nentity = evil\n"
        )


def test_settings_beside_logs_name_no_server(place):
    """Neither for what looks like an address nor for a slip of the keyboard."""
    with Recorder() as other, serving(project((8,))) as mine:
        hostile_settings(place, other)
        own_settings(place, base_url=mine.url)
        (place / "logs/run/ga8").mkdir()
        done = ga_audit(place, "inspect", "run/ga8x")
        assert "Did you mean run/ga8?" in done.stderr + done.stdout
        assert not mine.operations
        # the entity is the account's, not theirs
        done = ga_audit(place, "inspect", "--show-series", "proj/run00008", WANDB_DIR=str(place / "logs/run"))
        assert done.returncode == 0, done.stdout + done.stderr
        assert mine.operations["HistoryPage"] == 1
        assert other.requests == []


def test_settings_beside_logs_get_no_upload_and_run_no_code(place):
    (place / "logs/wandb.py").write_text("open('executed', 'w').close()\n")
    with Recorder() as other, serving({}) as mine:
        hostile_settings(place, other)
        own_settings(place, base_url=mine.url)
        done = ga_audit(place, "fix", str(SAMPLE), "--upload", "-o", "fixed")
        assert done.returncode == 0, done.stdout + done.stderr
        assert len(mine.uploads) == 1
        assert other.requests == []
        assert not (place / "logs/executed").exists()


def test_the_address_of_a_log_is_not_asked_for_a_key(place):
    """A URL of a server that nobody configured; the entry `default` of netrc is for every host, so for none of ours."""
    (place / "home/.netrc").write_text(f"default login user password {KEY}\n")
    (place / "home/.netrc").chmod(0o600)
    with Recorder() as other, serving({}) as mine:
        for variables in ({}, {"WANDB_API_KEY": None}):
            done = ga_audit(place, "inspect", f"{other.url}/team/proj/runs/x1", WANDB_BASE_URL=mine.url, **variables)
            assert done.returncode == 3
            assert "no W&B API key for this server" in done.stdout + done.stderr
        assert other.requests == []
        assert not mine.operations


def test_a_redirect_takes_no_key_along(place):
    with Recorder() as other, Recorder(f"http://localhost:{other.port}") as mine:
        ga_audit(place, "inspect", "team/proj/run00008", "--timeout", "5", WANDB_BASE_URL=mine.url)
        assert mine.requests[0][2] is not None
        assert other.requests
        assert {authorization for _, _, authorization in other.requests} == {None}


def test_a_file_on_another_host_is_asked_for_without_the_key(place, monkeypatch):
    with Recorder() as other, serving(project((8,))) as mine:
        ours = mine.url
        files = Stub.on_RunFiles

        def elsewhere(self, variables):
            return json.loads(json.dumps(files(self, variables)).replace(ours, f"http://localhost:{other.port}"))

        monkeypatch.setattr(Stub, "on_RunFiles", elsewhere)
        ga_audit(place, "inspect", "team/proj/run00008", "--timeout", "5", WANDB_BASE_URL=mine.url)
        assert other.requests
        assert {authorization for _, _, authorization in other.requests} == {None}


def test_no_telemetry(place):
    """A fix of a local run connects to nothing; an upload to its server, which gets the run and nothing else."""
    with Recorder() as proxy, serving({}) as mine:
        outside = dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"), proxy.url)
        done = ga_audit(place, "fix", str(SAMPLE), "-o", "fixed", **outside)
        assert done.returncode == 0, done.stdout + done.stderr
        assert list((place / "logs/fixed").rglob("*.wandb"))
        assert (proxy.requests, mine.others, dict(mine.operations)) == ([], [], {})
        done = ga_audit(place, "fix", str(SAMPLE), "-o", "sent", "--upload", WANDB_BASE_URL=mine.url, **outside)
        assert done.returncode == 0, done.stdout + done.stderr
        assert len(mine.uploads) == 1
        assert (proxy.requests, mine.others) == ([], [])
        assert not (place / "connections").exists()


def test_reading_a_server_sends_no_telemetry(place):
    with Recorder() as proxy, serving(project((1, 8))) as mine:
        outside = dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"), proxy.url)
        done = ga_audit(place, "fix", "team/proj", "-o", "fixed", "--annotate", WANDB_BASE_URL=mine.url, **outside)
        assert done.returncode == 0, done.stdout + done.stderr
        assert (proxy.requests, mine.others) == ([], [])
        assert not (place / "connections").exists()


def test_the_environment_and_the_directory_are_restored(tmp_path):
    code = (
        "import os\nfrom ga_audit.logs.formats._wandb.sdk import open_sdk\n"
        "before, here, getcwd = dict(os.environ), os.getcwd(), os.getcwd\n"
        "with open_sdk() as wandb:\n    assert os.environ['WANDB_ERROR_REPORTING'] == 'false'\n"
        "    assert 'WANDB_SERVICE' not in os.environ\n"
        "assert (dict(os.environ), os.getcwd(), os.getcwd) == (before, here, getcwd)\n"
        "from wandb.sdk import wandb_setup\n"
        "settings = wandb_setup.singleton().settings\n"
        "assert (settings.root_dir, settings.base_url) == (here, 'https://own.example'), settings\n"
    )
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb/settings").write_text("[default]\nbase_url = https://evil.example\n")
    (tmp_path / "config").mkdir()
    (tmp_path / "config/settings").write_text("[default]\nbase_url = https://own.example\n")
    variables = {
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "WANDB_CONFIG_DIR": "config",
        "WANDB_SERVICE": "3-unix-x-/no",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_variables_of_a_process_of_the_sdk(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_CONFIG_DIR", "config")
    monkeypatch.setenv("WANDB_SERVICE", "3-unix-x-/no")
    variables = wandb_sdk.build_environment()
    assert variables["WANDB_ERROR_REPORTING"] == "false"
    assert variables["WANDB_CONFIG_DIR"] == str(tmp_path / "config")
    assert "WANDB_SERVICE" not in variables
