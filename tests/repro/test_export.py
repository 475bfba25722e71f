"""Exported scripts: self-contained, of bearable length, and right about the installed release."""

import ast
import json
import subprocess
import sys

import pytest

from ga_audit.errors import WrongUsage
from ga_audit.repro import export
from ga_audit.repro.engine import engines

# what transformers from 5.15.0 on does in each variant, as the release table has it
VERDICTS = {
    "A": "healthy",
    "B": "unequally weighted micro-batches",
    "B2": "gradients scale with GA^1.00, the logged loss with GA^1.00",
    "B2-flagged": "unequally weighted micro-batches",
    "B3": "unequally weighted micro-batches",
    "C": "healthy",
    "C2": "gradients scale with GA^1.00, the logged loss with GA^1.00",
    "C3": "gradients scale with GA^1.00, the logged loss with GA^1.00",
    "D": "gradients scale with GA^1.00, the logged loss with GA^1.00",
    "D2": "unequally weighted micro-batches",
    "D-flagged": "unequally weighted micro-batches",
    "E": "healthy",
}


def test_every_variant_without_a_further_package_can_be_exported():
    stock = engines()["transformers"]
    assert set(export.variants()) == set(stock.variants) - set(stock.variant_needs) == set(VERDICTS)
    for name in ("liger", "lora", "A-deepspeed", "Z"):
        with pytest.raises(WrongUsage, match=f"the variant '{name}' cannot be exported"):
            export.script(name, {})


@pytest.mark.parametrize("variant", export.variants())
def test_a_script_is_short_and_imports_torch_and_the_library_alone(variant):
    text = export.script(variant, {"transformers": "5.3.0", "accelerate": "1.13.0"})
    assert text.count("\n") <= 80
    assert max(map(len, text.splitlines())) <= 120
    tree = ast.parse(text)
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert names == {"math", "tempfile", "torch", "torch.optim.optimizer", "transformers"}
    assert "    pip install transformers==5.3.0 accelerate==1.13.0 torch\n" in text
    assert f"Variant {variant} of ga-audit: {engines()['transformers'].variants[variant]}.\n" in text


# one process, which imports the library once
RUN = """
import contextlib, io, json, runpy, sys
found = {}
for place in sys.argv[1:]:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        runpy.run_path(place, run_name="__main__")
    found[place] = printed.getvalue()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("export")
    places = {name: folder / f"{name}.py" for name in export.variants()}
    for name, place in places.items():
        place.write_text(export.script(name, {}))
    command = [sys.executable, "-c", RUN, *map(str, places.values())]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    return {name: found[str(place)] for name, place in places.items()}


@pytest.mark.torch
@pytest.mark.parametrize("variant", export.variants())
def test_a_script_says_what_the_installed_release_does(variant, printed):
    shown = [line for line in printed[variant].splitlines() if line.startswith(("GA ", "verdict: "))]
    assert [line.partition(":")[0] for line in shown] == ["GA 1", "GA 4", "verdict"]
    assert shown[-1] == f"verdict: {VERDICTS[variant]}", printed[variant]
