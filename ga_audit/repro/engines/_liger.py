"""Liger's kernels: on a GPU as they are, on a CPU its loss alone, run by Triton's interpreter.

A standalone script's helper: standard library; triton and liger-kernel where they are asked for. No ga_audit.
"""

from __future__ import annotations

import os
import sys

INTERPRETED = "Liger's fused linear cross-entropy alone, by the Triton interpreter on the CPU"
# its other kernels: they have no part in the loss's count, and the interpreter lacks what some of them need
_OTHERS = ("rope", "rms_norm", "layer_norm", "swiglu", "geglu")


def make_ready(device: str) -> str | None:
    """Before the Trainer is made: kernels that run on `device`; what a number so measured must say of itself.

    Triton decides as it is imported whether it interprets. Where that has happened, this process starts itself again.
    """
    if device not in ("cpu", "cuda"):
        raise SystemExit(
            f"the variant liger runs on a GPU that Triton knows or on the CPU, not on {device}: --device cpu"
        )
    if device == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        os.environ["TRITON_INTERPRET"] = "1"
        if "triton" in sys.modules:
            sys.stdout.flush()
            sys.stderr.flush()
            os.execv(sys.executable, [sys.executable, *sys.argv])
    for module, package in (("triton", "triton"), ("liger_kernel.transformers", "liger-kernel")):
        try:
            __import__(module)
        except ImportError as error:
            raise SystemExit(f"the variant liger needs {package}: pip install {package} ({error})") from error
    if device == "cuda":
        return None
    _loss_alone()
    return INTERPRETED


def _loss_alone() -> None:
    """What the Trainer asks Liger to patch, without the other kernels."""
    from liger_kernel import transformers as liger

    patch = liger._apply_liger_kernel_to_instance

    def patch_the_loss(model, **settings):
        return patch(model=model, **{**settings, **dict.fromkeys(_OTHERS, False)})

    liger._apply_liger_kernel_to_instance = patch_the_loss


def check(model) -> None:
    """The model's forward must be Liger's, or nothing of Liger was measured; after the training: releases patch late."""
    module = model.forward.__module__
    if not module.startswith("liger_kernel"):
        raise SystemExit(f"Liger has not patched the model: its forward is that of {module}")
