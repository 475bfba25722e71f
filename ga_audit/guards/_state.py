"""Leave a training bit for bit as it was: random numbers, buffers, flags, gradients, plain attributes."""

from __future__ import annotations

import copy
import random
import sys
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

_PLAIN = (int, float, bool, str, bytes, type(None), complex)
_CONTAINERS = (dict, defaultdict, OrderedDict, list, set, deque)
_OF_TORCH = frozenset(vars(torch.nn.Module()))  # _parameters, _buffers, hooks: restored otherwise or not ours
_LARGEST = 10_000  # items of a container that is copied


@dataclass(frozen=True, slots=True)
class RandomState:
    """The state of every random number generator that a forward pass may use."""

    python: Any
    numpy: Any
    cpu: torch.Tensor
    devices: tuple[tuple[str, int, torch.Tensor], ...]

    @classmethod
    def now(cls) -> RandomState:
        """Read all of them."""
        numpy = sys.modules.get("numpy")
        devices: list[tuple[str, int, torch.Tensor]] = []
        for name in ("cuda", "xpu"):
            backend = getattr(torch, name, None)
            if backend is not None and backend.is_available() and backend.is_initialized():
                devices += [(name, i, backend.get_rng_state(i)) for i in range(backend.device_count())]
        if torch.backends.mps.is_available():
            devices.append(("mps", 0, torch.mps.get_rng_state()))
        return cls(
            random.getstate(), numpy.random.get_state() if numpy else None, torch.get_rng_state(), tuple(devices)
        )

    def restore(self) -> None:
        """Set all of them."""
        random.setstate(self.python)
        numpy = sys.modules.get("numpy")
        if numpy and self.numpy is not None:
            numpy.random.set_state(self.numpy)
        torch.set_rng_state(self.cpu)
        for name, i, state in self.devices:
            if name == "mps":
                torch.mps.set_rng_state(state)
            else:
                getattr(torch, name).set_rng_state(state, i)


@contextmanager
def untouched(model: torch.nn.Module, *objects: object) -> Iterator[None]:
    """Whatever runs inside, the model and the plain attributes of `objects` are afterwards as they were.

    Restored: random number generators, `.grad`, buffers, training flags, and attributes that are plain values,
    containers of plain values or tensors. Not restored: parameters (a forward pass that changes them is refused before)
    and what forward hooks of the user do outside the model.
    """
    rng = RandomState.now()
    modules = list(model.modules())
    gradients = [(p, p.grad) for p in model.parameters()]
    buffers = [
        (m, name, b, None if b is None else b.detach().clone()) for m in modules for name, b in m._buffers.items()
    ]
    attributes = [(m, _attributes(vars(m), without=_OF_TORCH - {"training"})) for m in modules]
    attributes += [(o, _attributes(vars(o), without=frozenset())) for o in objects]
    try:
        for p, _ in gradients:
            p.grad = None
        yield
    finally:
        for p, gradient in gradients:
            p.grad = gradient
        with torch.no_grad():
            for module, name, buffer, value in buffers:
                if buffer is not None and value is not None and not _same(buffer, value):
                    buffer.copy_(value)
                module._buffers[name] = buffer
        for owner, kept in attributes:
            _restore(vars(owner), kept)
        rng.restore()


def _same(buffer: torch.Tensor, value: torch.Tensor) -> bool:
    return buffer.shape == value.shape and bool(torch.equal(buffer, value))


@dataclass(frozen=True, slots=True)
class _Kept:
    value: Any
    copy: Any


def _attributes(held: dict[str, Any], *, without: frozenset[str]) -> dict[str, _Kept]:
    kept: dict[str, _Kept] = {}
    for name, value in held.items():
        if name in without:
            continue
        if isinstance(value, _PLAIN):
            kept[name] = _Kept(value, value)
        elif isinstance(value, torch.Tensor) and not isinstance(value, torch.nn.Parameter):
            kept[name] = _Kept(value, value.detach().clone())
        elif type(value) in _CONTAINERS and _is_plain(value, depth=4):
            kept[name] = _Kept(value, copy.deepcopy(value))
    return kept


def _is_plain(value: Any, *, depth: int) -> bool:
    """Whether a container holds plain values only, so that a copy of it is the whole of it."""
    if isinstance(value, (torch.Tensor, *_PLAIN)):
        return not isinstance(value, torch.nn.Parameter) and not getattr(value, "requires_grad", False)
    if depth == 0 or len(value) > _LARGEST if type(value) in (*_CONTAINERS, tuple) else True:
        return False
    parts = [*value.keys(), *value.values()] if isinstance(value, dict) else list(value)
    return all(_is_plain(part, depth=depth - 1) for part in parts)


def _restore(held: dict[str, Any], kept: dict[str, _Kept]) -> None:
    for name, was in kept.items():
        if isinstance(was.value, _PLAIN):
            held[name] = was.value
        elif isinstance(was.value, torch.Tensor):
            with torch.no_grad():
                if not _same(was.value, was.copy):
                    was.value.copy_(was.copy)
            held[name] = was.value
        else:
            _refill(was.value, was.copy)
            held[name] = was.value


def _refill(container: Any, was: Any) -> None:
    """The container's own object with the content that it had: others may hold it too."""
    if isinstance(container, (dict, set)):
        container.clear()
        container.update(was)
    else:
        container.clear()
        container.extend(was)
