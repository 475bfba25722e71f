"""The version of ga-audit, alone so that every module can read it."""

__version__ = "0.1.0"
