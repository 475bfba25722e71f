"""JUnit XML: well-formed, of its schema, with the right counts."""

from pathlib import Path
from xml.etree import ElementTree

import pytest
import xmlschema
from checks import every_check
from factories import twins

from ga_audit import pipeline
from ga_audit.output import junit

SCHEMA = xmlschema.XMLSchema(str(Path(__file__).with_name("junit.xsd")))
CHECKS = every_check()


@pytest.mark.parametrize("name", CHECKS)
def test_the_schema_accepts_it(name):
    check = CHECKS[name]
    SCHEMA.validate(junit.render(check.audit, check=check).encode("utf-8"))


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("healthy", (1, 0, 0, 0)),
        ("scaled", (1, 1, 0, 0)),
        ("warning", (1, 0, 0, 0)),
        ("accepted", (1, 0, 0, 1)),
        ("baseline", (1, 0, 0, 1)),
        ("inconclusive", (1, 0, 1, 0)),
        ("nothing", (1, 0, 1, 0)),
        ("hostile", (3, 1, 2, 0)),
    ],
)
def test_counts(name, counts):
    check = CHECKS[name]
    suite = ElementTree.fromstring(junit.render(check.audit, check=check).encode())[0]
    assert tuple(int(suite.get(key)) for key in ("tests", "failures", "errors", "skipped")) == counts


def test_without_a_check_the_default_policy_holds():
    assert '<failure type="loss-summed-over-ga"' in junit.render(pipeline.audit_runs(twins(1)))
