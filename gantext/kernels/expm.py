"""The operators of the Triton kernels for the matrix exponential: traced, and differentiated twice.

Where only autograd looks on, an `autograd.Function` launches the same kernels without them. The function is
`gantext.matexp.expm`, its reference `gantext.matexp.expm_ref`, the formula that the kernels compute
`gantext.kernels.expm_formula.composed`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gantext._checks import transformed
from gantext.kernels import unobserved
from gantext.kernels.expm_formula import WIDEST, composed

__all__ = ["exponential"]


def exponential(X: Tensor, squarings: int | None, theta: float) -> Tensor:
    """exp of X (B, n, n), float32 or float64, by the kernel; `squarings` and `theta` as in `gantext.matexp.expm`."""
    if X.shape[-1] > WIDEST.get(X.dtype, 0):
        raise ValueError(
            f"expm: A is of order {X.shape[-1]} in {X.dtype}, must be at most {WIDEST.get(X.dtype, 0)} for the kernel. "
            "Leave backend None."
        )
    if not unobserved(X):
        return torch.ops.gantext.expm(X, squarings, theta)[0]
    if torch.is_grad_enabled() and X.requires_grad:
        return _Exponential.apply(X, squarings, theta)
    return _launch(X, squarings, theta)[0]


class _Exponential(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, X: Tensor, squarings: int | None, theta: float) -> Tensor:
        out, *kept = _launch(X, squarings, theta)
        ctx.save_for_backward(X, *kept)
        ctx.theta = theta
        return out

    @staticmethod
    def backward(ctx: Any, G: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]  # the base takes anything
        X, means, counts = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated again
            return torch.ops.gantext.expm_adjoint(G, X, means, counts, ctx.theta), None, None
        if transformed(G):  # a batch of gradients
            most, theta = int(counts.max()) if len(X) else 0, ctx.theta
            return torch.func.vjp(lambda X: composed(X, most, theta), X)[1](G)[0], None, None
        return _launch_adjoint(G, X, means, counts, ctx.theta), None, None


def _launch(A: Tensor, squarings: int | None, theta: float) -> tuple[Tensor, Tensor, Tensor]:
    from gantext.kernels.expm_triton import forward

    out, means, counts = _outputs(A)
    forward(A, out, means, counts, squarings, theta)
    return out, means, counts


def _launch_adjoint(G: Tensor, A: Tensor, means: Tensor, counts: Tensor, theta: float) -> Tensor:
    from gantext.kernels.expm_triton import adjoint

    grad = A.new_empty(A.shape)
    with torch.cuda.device_of(A):
        adjoint(G, A, means, counts, grad)
    return grad


_forward = torch.library.custom_op("gantext::expm", _launch, mutates_args=())
_adjoint = torch.library.custom_op("gantext::expm_adjoint", _launch_adjoint, mutates_args=())


def _outputs(A: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return A.new_empty(A.shape), A.new_empty(len(A)), A.new_empty(len(A), dtype=torch.int32)


@_forward.register_fake
def _(A: Tensor, squarings: int | None, theta: float) -> tuple[Tensor, Tensor, Tensor]:
    return _outputs(A)


@_adjoint.register_fake
def _(G: Tensor, A: Tensor, *rest: object) -> Tensor:
    return A.new_empty(A.shape)


def _save_forward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    A, _, ctx.theta = inputs
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(A, *output[1:])


def _differentiate_forward(ctx: Any, G: Tensor, *_: object) -> tuple[Tensor, None, None]:
    return torch.ops.gantext.expm_adjoint(G, *ctx.saved_tensors, ctx.theta), None, None


def _save_adjoint(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    G, A, _, counts, ctx.theta = inputs
    ctx.save_for_backward(G, A, counts)


def _differentiate_adjoint(ctx: Any, H: Tensor) -> tuple[Tensor | None, ...]:
    G, A, counts = ctx.saved_tensors
    most = int(counts.max()) if len(A) else 0

    def gradient(G: Tensor, A: Tensor) -> Tensor:
        return torch.func.vjp(lambda A: composed(A, most, ctx.theta), A)[1](G)[0]

    return *torch.func.vjp(gradient, G, A)[1](H), None, None, None


_forward.register_autograd(_differentiate_forward, setup_context=_save_forward)
_adjoint.register_autograd(_differentiate_adjoint, setup_context=_save_adjoint)
