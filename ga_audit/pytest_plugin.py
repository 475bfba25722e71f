"""The pytest plugin: the fixture `ga_invariant`, with options on the command line or in the ini file.

    def test_gradient_accumulation(ga_invariant):
        ga_invariant(my_training)

`--ga-values 1,2,8` and `--ga-tolerance 0.05`, or `ga_values` and `ga_tolerance` in the ini file, say how it is compared.
Nothing of ga_audit is imported before the fixture is used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ga_audit.testing import Invariance


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--ga-values` and `--ga-tolerance`."""
    group = parser.getgroup("ga-audit", "invariance under gradient accumulation")
    group.addoption(
        "--ga-values", metavar="N,N,...", help="gradient_accumulation_steps that `ga_invariant` compares (1,2,4)"
    )
    group.addoption("--ga-tolerance", type=float, metavar="X", help="relative difference that is no fault (0.02)")
    parser.addini("ga_values", "gradient_accumulation_steps that `ga_invariant` compares", default="1,2,4")
    parser.addini("ga_tolerance", "relative difference that is no fault", default="0.02")


@pytest.fixture
def ga_invariant(request: pytest.FixtureRequest) -> Callable[..., Invariance]:
    """`assert_ga_invariant` with the options of this session; what is given in the call wins."""
    from ga_audit.testing import assert_ga_invariant

    config = request.config
    given = config.getoption("--ga-values") or config.getini("ga_values")
    try:
        values = tuple(int(part) for part in str(given).replace(",", " ").split())
    except ValueError:
        raise pytest.UsageError(f"--ga-values {given!r} is no list of numbers such as 1,2,4") from None
    tolerance = config.getoption("--ga-tolerance")
    limit = float(config.getini("ga_tolerance")) if tolerance is None else float(tolerance)

    def check(train: Callable[[int], Any], ga: tuple[int, ...] = values, **options: Any) -> Invariance:
        return assert_ga_invariant(train, ga, **{"tolerance": limit, **options})

    return check
