"""Where the policy is found."""

from pathlib import Path

import pytest

from ga_audit.check.config import find_policy
from ga_audit.check.policy import Level
from ga_audit.errors import WrongUsage


def test_the_nearest_file_with_a_policy_counts(tmp_path):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text('[tool.ga-audit.levels]\nscaled = "off"\n')
    (tmp_path / "a" / "pyproject.toml").write_text("[tool.other]\n")  # holds no policy
    policy, root = find_policy(inner)
    assert (policy.levels, root) == ({"scaled": Level.OFF}, tmp_path)
    assert policy.source == str(tmp_path / "pyproject.toml")
    (tmp_path / "ga-audit.toml").write_text('levels.scaled = "warning"\n')
    assert find_policy(inner)[0].levels == {"scaled": Level.WARNING}


def test_none_is_the_default(tmp_path):
    policy, root = find_policy(tmp_path)
    assert (policy.source, policy.levels, root) == (None, {}, tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("ga-audit.toml", "levels =", "is not TOML"),
        ("ga-audit.toml", b"\xff\xfe", "is not TOML"),
        ("pyproject.toml", "[tool]\nga-audit = 1\n", "tool.ga-audit is not a table"),
        ("pyproject.toml", "[tool.x]\n", "holds no policy"),
        (None, "", "cannot read the policy: No such file"),
    ],
)
def test_a_given_file_must_hold_a_policy(tmp_path, name, content, message):
    file = tmp_path / (name or "none.toml")
    if name:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(WrongUsage, match=message):
        find_policy(Path("/"), file)
