"""Measure releases of a package, each in an environment of its own."""
