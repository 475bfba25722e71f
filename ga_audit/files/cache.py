"""Where ga-audit keeps what it can make or fetch again."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "GA_AUDIT_CACHE"


def cache_dir(name: str) -> Path:
    """The folder of one kind of cached data; it need not exist.

    Parameters
    ----------
    name : of the kind: `wandb`, `environments`, `index`.

    Returns
    -------
    A folder `ga-audit/NAME` in `$GA_AUDIT_CACHE` if that is set, else in the user's cache directory of the platform.
    """
    own = os.environ.get(VARIABLE)
    if own:
        return Path(own) / "ga-audit" / name
    import platformdirs

    return platformdirs.user_cache_path("ga-audit", appauthor=False) / name
