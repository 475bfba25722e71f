"""The examples in the docstrings of `stats` are right."""

import doctest

import pytest

from ga_audit import registry

STATS = registry.load_all("ga_audit.stats")
WITH_EXAMPLES = {"alignment", "kindred", "levels", "scaling", "theil_sen"}


@pytest.mark.parametrize("name", sorted(STATS))
def test_examples(name):
    failed, attempted = doctest.testmod(STATS[name])
    assert failed == 0
    assert (attempted > 0) == (name in WITH_EXAMPLES)
