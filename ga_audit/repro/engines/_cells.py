"""Train several cells after one import: a standalone script, standard library only.

Importing the stack takes longer than a tiny training. Each cell runs in a process forked after the import, so nothing
but the import is shared. Reads from standard input a line {"preload": [module, ...]} and lines of
{"argv": [script, option, ...], "console": path, "timeout": seconds}, and prints one exit status for each as it ends.
Needs `os.fork`.
"""

import contextlib
import importlib
import json
import os
import runpy
import signal
import sys
import time
import traceback

CHILDREN: list[int] = []


def one(argv: list[str], console: str, timeout: float | None) -> int:
    """Exit status of one cell, trained in a child; a negative signal number if it had to be ended."""
    child = os.fork()
    if child:
        CHILDREN[:] = [child]
        return _wait(child, timeout, console)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    status = 1
    try:
        stream = os.open(console, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(stream, 1)
        os.dup2(stream, 2)
        sys.argv = argv
        sys.path.insert(0, os.path.dirname(argv[0]))
        runpy.run_path(argv[0], run_name="__main__")
        status = 0
    except SystemExit as error:
        status = 0 if error.code in (None, 0) else 1
        if isinstance(error.code, str):
            print(error.code)
    except BaseException:  # the child must not go on as its parent
        traceback.print_exc()
        _keep(console, traceback.format_exc())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _keep(console: str, text: str) -> None:
    """Write what broke a cell before its output went to its console."""
    with contextlib.suppress(OSError):
        if os.path.getsize(console) == 0:
            with open(console, "a", encoding="utf-8") as stream:
                stream.write(text)


def _wait(child: int, timeout: float | None, console: str) -> int:
    end, pause = time.monotonic() + (timeout or float("inf")), 0.01
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            CHILDREN.clear()  # its number may soon be another process's
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            with open(console, "a", encoding="utf-8") as stream:
                stream.write(f"\nnot finished after {timeout:.0f} s: give it longer with --timeout SECONDS\n")
            return -signal.SIGKILL
        time.sleep(pause)
        pause = min(0.2, pause * 1.5)


def _stop(*_: object) -> None:
    """Ended by the one who started us: the cell ends too."""
    for child in CHILDREN:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGTERM)
    os._exit(143)


def main() -> None:
    """All cells, one after the other."""
    head, *cells = [json.loads(line) for line in sys.stdin if line.strip()]
    signal.signal(signal.SIGTERM, _stop)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print while they are imported is no answer
    for name in head["preload"]:
        # whatever it is (a library of another torch is an OSError), the cells will say it, each in its console
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    for cell in cells:
        print(one(cell["argv"], cell["console"], cell.get("timeout")), file=answers, flush=True)


if __name__ == "__main__":
    main()
