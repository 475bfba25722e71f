"""Rows of JSON and CSV: what `table` reads, a module for each form."""
