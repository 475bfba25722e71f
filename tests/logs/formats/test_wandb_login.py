"""Which key may go to which server; see test_wandb_sdk for what the SDK makes of it."""

import os

import pytest

from ga_audit.logs.formats._wandb import login as wandb_login
from ga_audit.logs.formats._wandb.login import NoKey

ENV, NETRC, SETTINGS, LOCAL = "a" * 40, "b" * 40, "c" * 40, "d" * 40


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The user's own server and keys, and another server in the directory that we are in."""
    for name in [name for name in os.environ if name.startswith("WANDB_")] + ["NETRC"]:
        monkeypatch.delenv(name, raising=False)
    for folder in ("home/.config/wandb", "here/wandb", "here/.wandb"):
        (tmp_path / folder).mkdir(parents=True)
    home = tmp_path / "home"
    (home / ".config/wandb/settings").write_text(f"[default]\nbase_url = https://own.example\napi_key = {SETTINGS}\n")
    for folder in ("wandb", ".wandb"):
        (tmp_path / "here" / folder / "settings").write_text(
            f"[default]\nbase_url = https://evil.example\napi_key = {LOCAL}\n"
        )
    (home / ".netrc").write_text(
        f"machine third.example login user password {NETRC}\ndefault login user password {'f' * 40}\n"
    )
    (home / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path / "here")
    return home


def test_the_server_is_that_of_the_environment_or_of_the_users_own_settings(home, monkeypatch, tmp_path):
    assert wandb_login.server() == "https://own.example"
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "here"))
    assert wandb_login.server() == "https://own.example"
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "nowhere"))
    assert wandb_login.server() == "https://api.wandb.ai"
    monkeypatch.setenv("WANDB_BASE_URL", "https://named.example/")
    assert wandb_login.server() == "https://named.example"


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("https://own.example", ENV),
        ("https://third.example", NETRC),
        ("http://own.example", None),  # not in clear text
        ("http://third.example", None),
        ("https://own.example:8443", None),  # another port is another server
        ("https://evil.example", None),
        ("https://api.wandb.ai", None),
        ("https://unknown.example", None),
    ],
)
def test_the_key_for_a_server(home, monkeypatch, host, key):
    monkeypatch.setenv("WANDB_API_KEY", ENV)
    if key is None:
        with pytest.raises(NoKey, match="no W&B API key for this server"):
            wandb_login._key_for(host)
    else:
        assert wandb_login._key_for(host) == key


def test_the_key_of_the_settings_is_for_their_server(home):
    assert wandb_login._key_for("https://own.example") == SETTINGS
    with pytest.raises(NoKey):
        wandb_login._key_for("https://evil.example")


def test_a_process_gets_one_server_and_the_one_key_that_belongs_to_it(home, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", ENV)
    monkeypatch.setenv("WANDB_IDENTITY_TOKEN_FILE", "token")
    names = ("WANDB_BASE_URL", "WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_ERROR_REPORTING")
    variables = wandb_login.environment("https://third.example")
    assert [variables.get(name) for name in names] == ["https://third.example", NETRC, None, "false"]
    monkeypatch.delenv("WANDB_API_KEY")
    variables = wandb_login.environment(None)
    assert [variables.get(name) for name in names] == ["https://own.example", None, "token", "false"]


def test_keys_are_not_quoted(home, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "short-and-secret")
    (home / ".config/wandb/settings").write_text("[default]\napi_key = also-secret\n")
    assert wandb_login.without_secrets("short-and-secret, also-secret") == "<key>, <key>"
