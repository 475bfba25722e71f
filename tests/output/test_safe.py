import pytest
from hypothesis import given
from hypothesis import strategies as st

from ga_audit.output._safe import plain, redact, short

SECRETS = [
    "hf_abcdefghijklmnopqrstuvwxyz0123",
    "0123456789abcdef0123456789abcdef01234567",
    "sk-proj-abcdefghijklmnopqrstuvwx1234",
    "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "AKIAABCDEFGHIJKLMNOP",
    "person@example.org",
    "api_key=verysecretvalue",
    "https://user:password1@host.example/x",
    "10.1.2.3",
    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_secrets_go(secret):
    out = redact(f"before {secret} after")
    assert secret not in out
    assert "before" in out
    assert "after" in out


@pytest.mark.parametrize(
    "path",
    [
        "/home/someone/runs/a.json",
        "/Users/someone/runs/a.json",
        "/data/home/someone/runs/a.json",
        "/scratch/someone/runs/a.json",
    ],
)
def test_homes_go_and_the_rest_of_the_path_stays(path):
    out = redact(f"read {path}")
    assert "someone" not in out
    assert "runs/a.json" in out


def test_the_host_in_the_name_of_an_event_file_goes():
    out = redact("runs/events.out.tfevents.1795465968.gpu-box-7.corp.123.0")
    assert "gpu-box-7" not in out
    assert "1795465968" in out


def test_entities_and_hosts_go():
    assert "acme" not in redact("https://wandb.ai/acme/project/runs/ab12cd34")
    assert "gpu-box-7" not in redact("on gpu-box-7 today", names=("gpu-box-7",))


@given(st.text())
def test_plain_text_has_no_control_characters(text):
    assert all(c == "\n" or c.isprintable() for c in plain(text))


@given(st.text(), st.integers(8, 60))
def test_short_is_short(text, width):
    assert len(short(text, width)) <= max(width, 1)
