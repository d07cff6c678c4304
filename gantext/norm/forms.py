"""Which module is a norm, of which kind, and by which arithmetic."""

from __future__ import annotations

import copy
import inspect
import re
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.utils.parametrize import is_parametrized

__all__ = ["Form", "Kind", "is_norm", "recognise"]

Kind = Literal["layer", "rms"]


@dataclass(frozen=True)  # no named tuple: PyTorch 2.9 cannot trace a call of one
class Form:
    """The arithmetic of a library's own norm, and what it adds to its weight: 1 in Gemma, else 0."""

    norm: nn.Module  # on the meta device: without numbers of its own
    offset: int

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return functional_call(self.norm, {"weight": weight} | ({} if bias is None else {"bias": bias}), (x,))


def is_norm(module: nn.Module) -> bool:
    """Whether it is to be made conditional: PyTorch's, or by its class's name."""
    named = bool(re.search(r"(layer|rms)_?norm", type(module).__name__, re.IGNORECASE))
    whole = all(name == "parametrizations" for name, _ in module.named_children())
    return isinstance(module, nn.LayerNorm | nn.RMSNorm) or (named and whole)


HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def recognise(caller: str, norm: nn.Module) -> tuple[Kind, Form | None]:
    """The kind of a norm, and its arithmetic if that is not PyTorch's; TypeError or ValueError if it cannot be used."""
    fail = lambda error, rule, remedy: error(
        f"{caller}: norm is a {type(norm).__name__}: {norm}, must {rule}. {remedy}"
    )
    by_hand = "Put PyTorch's own in its place first, if that computes the same, or write its conditional form by hand."
    if any(getattr(norm, hooks, None) for hooks in HOOKS) or "forward" in vars(norm) or is_parametrized(norm):
        rule = "be without hooks, parametrizations and a forward function set on it, which would be lost"
        raise fail(ValueError, rule, "Condition the norms first, then add them.")
    parameters = dict(norm.named_parameters())
    more = bool(set(parameters) - {"weight", "bias"}) or next(norm.buffers(), None) is not None
    if not more and type(norm).forward in (nn.LayerNorm.forward, nn.RMSNorm.forward):  # a subclass may add a mere name
        if len(norm.normalized_shape) != 1:  # pyright: ignore[reportArgumentType]  # a tuple by now
            raise fail(ValueError, "be over one dimension", by_hand)
        return ("layer" if isinstance(norm, nn.LayerNorm) else "rms"), None
    if "weight" not in parameters or more:
        raise fail(TypeError, "have a weight (D,), at most a bias (D,), and nothing else to keep", by_hand)
    if any(p.shape != parameters["weight"].shape or p.dim() != 1 for p in parameters.values()):
        raise fail(TypeError, "have a weight (D,) and at most a bias (D,)", by_hand)
    if len(inspect.signature(norm.forward).parameters) != 1:
        raise fail(TypeError, "take one tensor and nothing else, such as a gate", by_hand)
    form, rng = copy.deepcopy(norm).to("meta").requires_grad_(False), torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(shape, generator=rng, dtype=torch.float32, device="cpu")
    D = len(parameters["weight"])
    x, w, b = draw(2, 3, D), draw(2, 1, D), draw(2, 1, D) if "bias" in parameters else None
    try:
        y = Form(form, 0)(x, w, b)
    except Exception as error:  # any code may run here
        raise fail(TypeError, f"take a weight for each sequence, (B, 1, D), and raises {error!r}", by_hand) from error
    kinds: dict[Kind, Tensor] = {
        "rms": F.rms_norm(x, (D,), None, 1e-6),
        "layer": F.layer_norm(x, (D,), None, None, 1e-6),
    }
    for kind, n in kinds.items():
        for offset in (0, 1):
            if y.shape == x.shape and torch.allclose(y.float(), n * (w + offset) + (0 if b is None else b), 0, 1e-2):
                return kind, Form(form, offset)
    raise fail(TypeError, "compute weight or 1 + weight times the layer or RMS normalisation of its input", by_hand)
