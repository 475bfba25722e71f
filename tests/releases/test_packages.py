import pytest
from packaging.version import Version

from ga_audit.errors import AuditError
from ga_audit.releases import packages
from ga_audit.repro.engine import engines


def test_between_is_by_release_number_not_by_text():
    assert packages.between("4.9.0", "4.46.1") == ("4.9.0", "4.45.2", "4.46.0", "4.46.1")
    with pytest.raises(AuditError, match="newer"):
        packages.between("5.0.0", "4.45.2")


def test_packages_of_its_time_stand_beside_a_release_and_pins_win():
    assert packages.requirements("transformers", "4.47.0") == ("transformers==4.47.0", "accelerate==1.10.1")
    assert packages.requirements("transformers", "5.3.0") == ("transformers==5.3.0", "accelerate==1.13.0")
    assert packages.requirements("trl", "0.13.0")[:2] == ("trl==0.13.0", "transformers==4.48.3")
    assert packages.requirements("deepspeed", "0.18.3")[:3] == (
        "deepspeed==0.18.3", "transformers==4.57.6", "accelerate==1.10.1",
    )  # fmt: skip
    assert "transformers==4.53.0" in packages.requirements("trl", "0.13.0", ("transformers==4.53.0",))
    with pytest.raises(AuditError, match="not PACKAGE==RELEASE"):
        packages.requirements("trl", "0.13.0", ("transformers; rm",))
    # what is held beside brings what it needs
    held = packages.requirements("transformers", "4.46.3", ("liger-kernel==0.3.1",))
    assert held == ("transformers==4.46.3", "accelerate==1.10.1", "liger-kernel==0.3.1", "triton")


@pytest.mark.parametrize("package", packages.packages().values(), ids=lambda p: p.name)
def test_the_table_is_in_order_and_its_engines_and_variants_exist(package):
    assert list(package.releases) == sorted(package.releases, key=Version)
    since = [Version(row["since"]) for row in package.companions]
    assert since == sorted(since)
    known = engines()[package.engine]
    assert package.variants
    assert set(package.variants) <= {*known.variants, *known.models}


def test_what_would_pull_another_torch_is_installed_without_dependencies():
    assert packages.without_dependencies("trl==0.13.0")
    assert not packages.without_dependencies("transformers==5.0.0")


def test_a_pinned_package_brings_what_it_needs_beside_the_one_that_is_bisected():
    found = packages.requirements("transformers", "4.46.3", ("deepspeed==0.16.4",))
    assert found[:3] == ("transformers==4.46.3", "accelerate==1.10.1", "deepspeed==0.16.4")
    assert "hjson" in found
    assert packages.without_dependencies("deepspeed==0.16.4")
    assert packages.install_environment()["DS_BUILD_OPS"] == "0"


def test_a_release_that_is_written_shorter_is_the_known_one():
    assert packages.between("4.48", "4.48.1") == ("4.48.0", "4.48.1")
