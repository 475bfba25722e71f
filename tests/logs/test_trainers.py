import pytest

from ga_audit.logs.trainers import LOSS_PACKAGES, PACKAGES, canonical_name


@pytest.mark.parametrize("name", ["Liger_Kernel", "liger.kernel", "LIGER-KERNEL", "liger--kernel"])
def test_one_spelling(name):
    assert canonical_name(name) == "liger-kernel"


def test_every_name_is_canonical():
    assert [name for name in LOSS_PACKAGES | PACKAGES if canonical_name(name) != name] == []
