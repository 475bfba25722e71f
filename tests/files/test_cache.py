"""Where what can be made again is kept."""

from pathlib import Path

import platformdirs

from ga_audit.files.cache import cache_dir


def test_the_users_cache_directory_or_the_one_that_is_named(monkeypatch, tmp_path):
    monkeypatch.delenv("GA_AUDIT_CACHE", raising=False)
    assert cache_dir("wandb") == Path(platformdirs.user_cache_dir("ga-audit", appauthor=False)) / "wandb"
    monkeypatch.setenv("GA_AUDIT_CACHE", str(tmp_path))
    assert cache_dir("environments") == tmp_path / "ga-audit" / "environments"
