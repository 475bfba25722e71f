"""Makes `ga_audit/bugs/models.toml` from installed releases of transformers: what each stock model does with loss arguments.

python tests/bugs/scan_models.py SITE_PACKAGES... > ga_audit/bugs/models.toml
"""

import ast
import re
import sys
from pathlib import Path

KINDS = re.compile(r"(ForCausalLM|LMHeadModel|ForConditionalGeneration|ForSequenceClassification|ForTokenClassification|"
                   r"ForMaskedLM|ForQuestionAnswering|ForImageClassification)$")  # fmt: skip


def models(package: Path):
    """(class, "uses" | "ignores" | "none") of every stock model that computes a loss."""
    for file in sorted(package.glob("models/*/modeling_*.py")):
        if "_flax_" in file.name or "_tf_" in file.name:
            continue
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef) and KINDS.search(node.name):
                for d in node.body:
                    if isinstance(d, ast.FunctionDef) and d.name == "forward" and _takes(d, "labels"):
                        yield node.name, _does(d)


def _takes(function: ast.FunctionDef, name: str) -> bool:
    return any(a.arg == name for a in function.args.args + function.args.kwonlyargs)


def _does(forward: ast.FunctionDef) -> str:
    if forward.args.kwarg is None:
        return "none"
    name = forward.args.kwarg.arg
    for call in ast.walk(forward):
        is_loss = isinstance(call, ast.Call) and ast.unparse(call.func).endswith("loss_function")
        if is_loss and any(k.arg is None and ast.unparse(k.value) == name for k in call.keywords):
            return "uses"
    return "ignores"


def main() -> None:
    print(
        "# What stock models do with the loss arguments that the Trainer passes, by release of transformers: the models"
    )
    print(
        "# whose forward takes **kwargs and hands them to the loss, those that take and ignore them; all others have none."
    )
    print("# Made by `python tests/bugs/scan_models.py SITE_PACKAGES...` from the released wheels.")
    stock: set[str] = set()
    for site in map(Path, sys.argv[1:]):
        release = next(site.glob("transformers-*.dist-info")).name.split("-")[1].removesuffix(".dist")
        found = dict(models(site / "transformers"))
        stock |= set(found)
        print(f'\n["{release}"]')
        for what in ("uses", "ignores"):
            _list(what, sorted(n for n, does in found.items() if does == what))
    print("\n[stock]")
    _list("models", sorted(stock))


def _list(key: str, names: list[str]) -> None:
    lines, line = [], " "
    for name in names:
        if len(line) + len(name) > 115:
            lines.append(line)
            line = " "
        line += f' "{name}",'
    print(f"{key} = [", *lines, line, "]", sep="\n")


if __name__ == "__main__":
    main()
