"""`training_args.bin`: the Trainer's arguments, read without unpickling.

The file is a pickle, and a pickle can run anything. Only its opcodes are read (`pickletools.genops` executes nothing):
a field's name is followed by its value, so a small stack machine that knows literals, and takes everything else as
unknown, gives the plain fields.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ga_audit.errors import UnreadableLog
from ga_audit.logs import git_lfs, settings
from ga_audit.logs.formats import Claim, Format, Target
from ga_audit.run import Run, RunSettings, Setting, Source, Trust

_NAME = "training_args.bin"
_MAX_BYTES = 16 << 20  # arguments are kilobytes; more is something else
_UNKNOWN = object()
_MARK = object()
_WANTED_ENUMS = frozenset({"OptimizerNames", "SchedulerType", "IntervalStrategy"})


def claim(target: Target) -> Claim:
    """YES for a file of this name, which only a Trainer gives."""
    return Claim.YES if target.name == _NAME and not target.is_dir else Claim.NO


def read(target: Target) -> Iterator[Run]:
    """A run without series that carries the settings.

    Raises
    ------
    UnreadableLog
        no pickle inside, or one that is damaged.
    """
    fields = arguments(target.read_bytes(), target.path)
    found = _over_devices(settings.from_mapping(fields, source=_NAME, trust=Trust.SIBLING), fields.get("_n_gpu"))
    folder = str(Path(target.path).parent)
    yield Run(target.path, Path(folder).name, folder, found, (), (Source("training_args", target.path),))


def _over_devices(found: RunSettings, devices: Any) -> RunSettings:
    """One process that splits each batch over several devices (torch's DataParallel): they are its ranks."""
    if isinstance(devices, bool) or not isinstance(devices, int) or devices < 0:
        return found
    several = devices > 1 and not (found.world_size and found.world_size.value > 1)
    told = Setting(devices if several else 1, f"{_NAME}: _n_gpu{', DataParallel' if several else ''}", Trust.SIBLING)
    other = {**found.other, settings.DATA_PARALLEL: told}
    return replace(found, other=other, world_size=told) if several else replace(found, other=other)


def arguments(data: bytes, where: str) -> dict[str, Any]:
    """Plain fields (text, numbers, switches, None) of a pickled TrainingArguments."""
    git_lfs.refuse_pointer(data, where)
    try:
        return _fields(_pickle_of(data))
    except (
        Exception
    ) as error:  # a damaged or encrypted archive: zipfile, zlib, lzma and pickletools raise a dozen kinds
        what = str(error)[:200] or type(error).__name__
        remedy = "Give --ga NAME=N instead."
        raise UnreadableLog(f"is damaged or no torch file: {what}", where=where, remedy=remedy) from None


def _pickle_of(data: bytes) -> bytes:
    """The pickle inside torch's zip, or the bytes themselves (torch before 1.6, plain pickle)."""
    import io
    import zipfile

    if data[:2] != b"PK":
        return data[:_MAX_BYTES]
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        name = next((n for n in archive.namelist() if n.endswith("data.pkl")), None)
        if name is None:
            raise ValueError("the archive holds no data.pkl")
        if archive.getinfo(name).file_size > _MAX_BYTES:
            raise ValueError("its pickle is larger than any set of arguments")
        return archive.read(name)


def _fields(pickled: bytes) -> dict[str, Any]:
    """The attributes that a pickle would set, read off its opcodes; longer than others, for an opcode is a case."""
    import pickletools

    stack: list[Any] = []
    memo: dict[int, Any] = {}
    found: dict[str, Any] = {}

    def keep(key: Any, value: Any) -> None:
        # DeepSpeed's configuration is pickled inside and has names in common, mostly with "auto" for "as the arguments say"
        if isinstance(key, str) and value is not _UNKNOWN and value is not _MARK and found.get(key, "auto") == "auto":
            found[key] = value

    argument: Any
    for opcode, argument, _ in pickletools.genops(pickled):
        name = opcode.name
        if name in _LITERALS:
            stack.append(_LITERALS[name](argument))
        elif name == "MARK":
            stack.append(_MARK)
        elif name in {"BINPUT", "LONG_BINPUT", "PUT"}:
            memo[int(argument)] = stack[-1] if stack else _UNKNOWN
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1] if stack else _UNKNOWN
        elif name in {"BINGET", "LONG_BINGET", "GET"}:
            stack.append(memo.get(int(argument), _UNKNOWN))
        elif name == "GLOBAL":
            stack.append(("global", str(argument).split(" ")[-1]))
        elif name == "STACK_GLOBAL":
            last = stack.pop() if stack else _UNKNOWN
            if stack:
                stack.pop()
            stack.append(("global", last if isinstance(last, str) else ""))
        elif name in {"SETITEMS", "DICT", "LIST", "TUPLE", "APPENDS", "FROZENSET", "ADDITEMS"}:
            items = _pop_to_mark(stack)
            if name == "SETITEMS":
                for key, value in zip(items[::2], items[1::2], strict=False):
                    keep(key, value)
            elif name == "TUPLE":
                stack.append(tuple(items))
            elif name in {"DICT", "LIST", "FROZENSET"}:
                stack.append(_UNKNOWN)
        elif name == "SETITEM":
            value, key = (stack.pop() if stack else _UNKNOWN), (stack.pop() if stack else _UNKNOWN)
            keep(key, value)
        elif name in {"TUPLE1", "TUPLE2", "TUPLE3"}:
            n = int(name[-1])
            items = [stack.pop() if stack else _UNKNOWN for _ in range(n)][::-1]
            stack.append(tuple(items))
        elif name in {"REDUCE", "NEWOBJ"}:
            inner = stack.pop() if stack else _UNKNOWN
            made = stack.pop() if stack else _UNKNOWN
            stack.append(_enum_value(made, inner))
        elif name in {"BUILD", "POP", "APPEND"}:
            if stack:
                stack.pop()
        elif name in {"EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "EMPTY_SET", "PERSID", "BINPERSID", "NEXT_BUFFER"}:
            stack.append(_UNKNOWN)
    return found


def _enum_value(made: Any, inner: Any) -> Any:
    """`OptimizerNames("adamw_torch")` is an enum of one text: the text is what is wanted; all else is unknown."""
    if isinstance(made, tuple) and made[:1] == ("global",) and made[1] in _WANTED_ENUMS:
        value = inner[0] if isinstance(inner, tuple) and inner else inner
        return value if isinstance(value, str) else _UNKNOWN
    return _UNKNOWN


def _pop_to_mark(stack: list[Any]) -> list[Any]:
    items: list[Any] = []
    while stack:
        item = stack.pop()
        if item is _MARK:
            break
        items.append(item)
    return items[::-1]


_LITERALS: dict[str, Any] = {
    **dict.fromkeys(("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE"), str),
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4"), lambda a: a),
    **dict.fromkeys(("BINFLOAT", "FLOAT"), float),
    **dict.fromkeys(
        ("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "SHORT_BINSTRING", "BINSTRING", "STRING"), lambda a: _UNKNOWN
    ),
    "NONE": lambda _: None,
    "NEWTRUE": lambda _: True,
    "NEWFALSE": lambda _: False,
}


FORMAT = Format(claim=claim, read=read, settings_only=True)
