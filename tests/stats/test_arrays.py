import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ga_audit.stats.arrays import distinct, known_median, median, row_median

TABLES = arrays.arrays(
    np.float64, st.tuples(st.integers(0, 4), st.integers(1, 9)), elements=st.floats(-1e300, 1e300) | st.just(np.nan)
)


@settings(deadline=None)
@given(TABLES)
def test_rows_are_as_numpy_has_them(d):
    np.testing.assert_allclose(row_median(d), np.median(d, axis=1), rtol=1e-15, equal_nan=True)


@settings(deadline=None)
@given(TABLES.filter(lambda d: d.size > 0))
def test_all_values_are_as_numpy_has_them(d):
    np.testing.assert_allclose(median(d), np.median(d), rtol=1e-15, equal_nan=True)


def test_what_is_missing_does_not_count():
    d = np.array([[1.0, np.nan, 3.0, np.inf], [np.nan] * 4, [4.0, 1.0, 3.0, 2.0]])
    np.testing.assert_array_equal(known_median(d), [2.0, np.nan, 2.5])
    assert np.isnan(known_median(np.empty((2, 0)))).all()


@settings(deadline=None)
@given(arrays.arrays(np.int64, st.integers(0, 20), elements=st.integers(-5, 5)))
def test_distinct_values_are_as_numpy_has_them(values):
    np.testing.assert_array_equal(distinct(values), np.unique(values))


def test_nothing_has_no_median():
    assert np.isnan(median([]))


@pytest.mark.parametrize("module", ["numpy.ma", "urllib.request", "email", "pandas", "scipy"])
def test_an_audit_does_not_import_what_it_does_not_use(module):
    code = (
        "import sys; from ga_audit.cli import cli\n"
        "try: cli(['inspect', 'sample_logs/transformers-4.48.0'])\n"
        f"except SystemExit: sys.exit({module!r} in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
