"""libyaml and PyYAML's own parser read a trainer's YAML alike."""

import pytest
import yaml

from ga_audit.logs.formats._text import yaml_text

TEXTS = ("gradient_accumulation_steps: 8\nbeta: 1e-5\nlr: 0.00001\n", "a: .nan\nb: -.inf\nc: 1_000\nd: 12:30:45\ne: yes\nf: ~",
         "a: &x [1, 2]\nb: *x", "a: 2024-01-02", "a: '1'\nb: \"\\u00e9\"\nc: é", "a: 1\na: 2", "- {a: 1}\n- b", "")  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("compiled", [True, False])
def test_the_same_values(text, compiled, monkeypatch):
    if not compiled:
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    assert repr(yaml_text.load(text)) == repr(yaml.safe_load(text))


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "- " * 100_000, "a: !!python/object:os.system x", "a: [", "a: 2024-01-99", "\x07"]
)
@pytest.mark.parametrize("compiled", [True, False])
def test_what_is_no_plain_yaml_is_refused(text, compiled, monkeypatch):
    if not compiled:
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    with pytest.raises((yaml.YAMLError, ValueError, RecursionError)):
        yaml_text.load(text)
