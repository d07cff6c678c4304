"""The kernels of conditional layer normalization as operators of PyTorch: traced, differentiated twice.

Call `gantext.condnorm.conditional_layer_norm`, which checks arguments and picks the route; the references are there.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gantext.condnorm import WIDEST, conditional_layer_norm_backward_ref, work_dtype

__all__ = ["conditional_layer_norm"]


def conditional_layer_norm(x: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> Tensor:
    """`gantext.condnorm.conditional_layer_norm` by the Triton kernel, forward and backward.

    Args:
        x: (B, ..., D) with D up to 8192, 4096 in float64, any strides.
        gamma, beta: as many dimensions as x, to which they broadcast. eps: inside the root.
    Raises:
        ValueError: D is larger.
    """
    D, most = x.shape[-1], WIDEST // work_dtype(x, gamma, beta).itemsize
    if most < D:
        raise ValueError(
            f"conditional_layer_norm: x has width {D}, must be at most {most} for the kernel. Leave backend None."
        )
    rows, one = x.shape[:-1].numel(), gamma.numel() == beta.numel() == D
    if one or (x.dim() > 2 and gamma.shape[1:-1].numel() == beta.shape[1:-1].numel() == 1):
        B = 1 if one else len(x)
        place = lambda t: t.reshape(-1, D).expand(B, D)
    else:
        B = 1
        place = lambda t: t.expand(x.shape).reshape(1, rows, D)
    dtype = torch.promote_types(gamma.dtype, beta.dtype)
    sequences = x.reshape(B, rows // max(B, 1), D)
    y, _, _ = torch.ops.gantext.layer_norm(sequences, place(gamma.to(dtype)), place(beta.to(dtype)), float(eps))
    return y.reshape(x.shape)


def _dense(t: Tensor) -> Tensor:
    return t if t.stride(-1) == 1 or t.shape[-1] == 1 else t.contiguous()


def _statistics(x: Tensor, gamma: Tensor) -> Tensor:
    return x.new_empty(x.shape[:-1], dtype=work_dtype(x, gamma))


@torch.library.custom_op("gantext::layer_norm", mutates_args=())
def _forward(x: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    from gantext.kernels.layer_norm_triton import forward

    y, mean, rstd = x.new_empty(x.shape), _statistics(x, gamma), _statistics(x, gamma)
    forward(_dense(x), _dense(gamma), _dense(beta), y, mean, rstd, eps)
    return y, mean, rstd


@torch.library.custom_op("gantext::layer_norm_backward", mutates_args=())
def _backward(
    grad: Tensor, x: Tensor, gamma: Tensor, mean: Tensor, rstd: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    from gantext.kernels.layer_norm_triton import backward

    dx = x.new_empty(x.shape)
    with torch.cuda.device_of(x):
        return dx, *backward(_dense(grad), _dense(x), _dense(gamma), mean, rstd, dx)


@_forward.register_fake
def _(x: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), _statistics(x, gamma), _statistics(x, gamma)


@_backward.register_fake
def _(grad: Tensor, x: Tensor, gamma: Tensor, *rest: object) -> tuple[Tensor, Tensor, Tensor]:
    shape = (0,) if gamma.dim() == 3 else gamma.shape
    return x.new_empty(x.shape), gamma.new_empty(gamma.shape), gamma.new_empty(shape)


def _save_forward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, gamma, _, ctx.eps = inputs
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(x, gamma, *output[1:])


def _differentiate_forward(ctx: Any, grad: Tensor, *_: object) -> tuple[Tensor, Tensor, Tensor, None]:
    gamma = ctx.saved_tensors[1]
    dx, dgamma, dbeta = torch.ops.gantext.layer_norm_backward(grad, *ctx.saved_tensors, ctx.eps)
    return dx, dgamma, grad.to(gamma.dtype) if gamma.dim() == 3 else dbeta, None


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.eps = inputs[-1]


def _differentiate_backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    tensors = ctx.saved_tensors
    wanted = grads[: 2 if tensors[2].dim() == 3 else 3]  # that of one beta for each token is not an output

    def gradients(grad: Tensor, x: Tensor, gamma: Tensor) -> tuple[Tensor, ...]:
        work = work_dtype(x, gamma)
        out = conditional_layer_norm_backward_ref(grad.to(work), x.to(work), gamma.to(work), ctx.eps)
        return tuple(t.to(g.dtype) for t, g in zip(out, wanted, strict=False))

    return *torch.func.vjp(gradients, *tensors)[1](wanted), None, None, None


_forward.register_autograd(_differentiate_forward, setup_context=_save_forward)
_backward.register_autograd(_differentiate_backward, setup_context=_save_backward)
