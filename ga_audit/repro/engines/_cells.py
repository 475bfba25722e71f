"""Train several cells after one import: a standalone script, standard library only.

Importing the stack takes longer than a tiny training. Each cell runs in a process forked after the import, so nothing
but the import is shared. Reads a JSON list of {"argv": [script, option, ...], "console": path} from standard input and
prints a JSON list of exit statuses. Needs `os.fork`.
"""

import importlib
import json
import os
import runpy
import sys
import traceback


def one(argv: list[str], console: str) -> int:
    """Exit status of one cell, trained in a child."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 1
    try:
        stream = os.open(console, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(stream, 1)
        os.dup2(stream, 2)
        sys.argv = argv
        sys.path.insert(0, os.path.dirname(argv[0]))
        runpy.run_path(argv[0], run_name="__main__")
        status = 0
    except BaseException:  # the child must not go on as its parent
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def main() -> None:
    """All cells, one after the other."""
    cells = json.load(sys.stdin)
    for name in ("torch", "transformers.trainer", "transformers.models.llama.modeling_llama"):
        try:
            importlib.import_module(name)
        except ImportError:
            traceback.print_exc()  # the cells will say it again, each in its console
    print(json.dumps([one(cell["argv"], cell["console"]) for cell in cells]))


if __name__ == "__main__":
    main()
