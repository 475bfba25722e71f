"""Ranges of releases."""

import pytest

from ga_audit.bugs import releases


@pytest.mark.parametrize(("told", "left"), [
    ([">=4.46.0,<=4.46.1", ">=4.46.0", ">=4.46.2,<=4.48.3", ">=4.49.0"], [">=4.46.0"]),
    ([">=4.54.0", ">=4.47.0", ">=4.46.0,<=4.46.3"], [">=4.46.0,<=4.46.3", ">=4.47.0"]),
    (["==4.48.0", "==4.47.0"], ["==4.47.0", "==4.48.0"]),
    (["<0.4.0", "<=0.4.0"], ["<=0.4.0"]),
    ([">=4.10", ">=4.9,<4.11"], [">=4.9,<4.11", ">=4.10"]),
    (["<0.6", ">=0.2"], ["<0.6", ">=0.2"]),
    (["==4.48.0", ">=4.46,<=4.48"], [">=4.46,<=4.48"]),
])  # fmt: skip
def test_a_range_that_lies_in_another_is_not_told_twice(told, left):
    assert releases.union(told) == left


def test_a_development_version_counts_as_the_release_that_it_leads_to():
    assert releases.within(">=4.46,<4.47", "4.46.0.dev0")
    assert not releases.within(">=4.46", "main")
