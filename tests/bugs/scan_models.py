"""Makes `ga_audit/bugs/models.json`: what each stock model of each release of transformers does with loss arguments.

python tests/bugs/scan_models.py PYTHON...    # interpreters that have transformers and torch, such as those of `bisect`

Releases that were read before and are not asked again stay as they are.

Every modeling module is imported, and each class with a head is asked what its release's Trainer asks it: whether its
forward takes loss arguments (before 4.47.0 a parameter `loss_kwargs`, then any `**kwargs`; from 4.48.0 on
`accepts_loss_kwargs` decides where a class has it). Whether it also uses them is read in the source of its forward: it does
if it hands them to its loss; a model that leaves its loss to another one is left out. `tests/bugs/test_stock_models.py` holds the
answers against the losses of the installed release, and against what was measured of other releases.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PLACE = Path(__file__).parents[2] / "ga_audit" / "bugs" / "models.json"

ASK = r"""
import ast, contextlib, importlib, inspect, io, json, pkgutil, re, sys, textwrap, warnings
warnings.simplefilter("ignore")
import transformers, transformers.models
from importlib.metadata import version
HEADS = re.compile(r"(ForCausalLM|LMHeadModel|ForConditionalGeneration|ForSequenceClassification|ForTokenClassification|"
                   r"ForMaskedLM|ForImageClassification|ForVision2Seq|ForMultipleChoice)$")
release = tuple(int(p) for p in version("transformers").split(".")[:2])

def does(kind):
    parameters = inspect.signature(kind.forward).parameters.values()
    taken = [p.name for p in parameters if p.kind is inspect.Parameter.VAR_KEYWORD]
    accepts = bool(taken) if release >= (4, 47) else "loss_kwargs" in taken
    if release >= (4, 48) and hasattr(kind, "accepts_loss_kwargs"):
        accepts = kind.accepts_loss_kwargs
    if not accepts:
        return "none"
    return {True: "uses", False: "ignores", None: None}[hands_on(kind, kind.forward)]

def hands_on(kind, forward):
    function = inspect.unwrap(forward)
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    called = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    own = tree.body[0].args.kwarg.arg if tree.body[0].args.kwarg else None
    for call in called:
        spread = any(k.arg is None and own in ast.unparse(k.value).split(".") for k in call.keywords)
        named = any(k.arg == "num_items_in_batch" for k in call.keywords)
        name = ast.unparse(call.func)
        if spread and not name.endswith("loss_function") and any(k.arg == "labels" for k in call.keywords):
            return None  # another model's loss: not read
        if name.endswith("loss_function") and (spread or named):
            return True
        if name == "super().forward" and spread:
            after = kind.__mro__[kind.__mro__.index(owner(kind, function)) + 1:]
            return any(hands_on(k, k.__dict__["forward"]) for k in after[:1] if "forward" in k.__dict__)
    return False

def owner(kind, function):
    return next(k for k in kind.__mro__ if "forward" in k.__dict__ and inspect.unwrap(k.__dict__["forward"]) is function)

found, failed = {}, []
for info in pkgutil.walk_packages(transformers.models.__path__, "transformers.models."):
    last = info.name.rpartition(".")[2]
    if not last.startswith("modeling_") or last.startswith(("modeling_tf_", "modeling_flax_")):
        continue
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            module = importlib.import_module(info.name)
    except BaseException as error:
        failed.append(f"{info.name}: {type(error).__name__}")
        continue
    for name, kind in vars(module).items():
        if inspect.isclass(kind) and kind.__module__ == info.name and HEADS.search(name):
            with contextlib.suppress(AttributeError, TypeError):
                if "labels" in inspect.signature(kind.forward).parameters:
                    if (answer := does(kind)) is not None:
                        found[name] = answer
print(json.dumps({"release": version("transformers"), "models": found, "failed": failed}))
"""


def kept() -> list[dict[str, Any]]:
    """The answers of the releases that were read before."""
    table = json.loads(PLACE.read_text("utf-8"))
    answers = []
    for number, release in enumerate(table["releases"]):
        models = {}
        for name, changes in table["models"].items():
            held = [does for since, does in changes if table["releases"].index(since) <= number]
            if held and held[-1] is not None:
                models[name] = held[-1]
        answers.append({"release": release, "models": models, "failed": []})
    return answers


def main() -> None:
    """Ask each interpreter, and keep for each model the releases at which its answer changes."""
    asked = kept()
    for python in sys.argv[1:]:
        done = subprocess.run([python, "-c", ASK], capture_output=True, text=True, check=True)
        answer = json.loads(done.stdout.splitlines()[-1])
        asked = [*(one for one in asked if one["release"] != answer["release"]), answer]
        counted = {does: list(asked[-1]["models"].values()).count(does) for does in ("uses", "ignores", "none")}
        print(asked[-1]["release"], counted, f"{len(asked[-1]['failed'])} modules not imported", file=sys.stderr)
    asked.sort(key=lambda answer: [int(part) for part in answer["release"].split(".")])
    changes = {}
    for name in sorted({name for answer in asked for name in answer["models"]}):
        row, last = [], None
        for answer in asked:
            does = answer["models"].get(name)
            if does != last:
                row.append([answer["release"], does])
            last = does
        changes[name] = row
    head = {"releases": [answer["release"] for answer in asked]}
    rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in changes.items())
    text = f'{{\n "releases": {json.dumps(head["releases"])},\n "models": {{\n{rows}\n }}\n}}\n'
    PLACE.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
