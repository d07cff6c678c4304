"""Layer and RMS normalisation with a scale and shift of each sequence's own; the modules are in `gantext.norm`."""

from __future__ import annotations

import functools
import importlib.util
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from gantext._checks import check_number, transformed
from gantext.kernels import dispatch, forced, unobserved

__all__ = [
    "conditional_layer_norm",
    "conditional_layer_norm_backward_ref",
    "conditional_layer_norm_ref",
    "conditional_rms_norm",
]

WIDEST = 2**15  # bytes of a row in the kernel's precision: beyond it a row and its gradients do not fit the registers
FEW = 2**16  # numbers below which PyTorch's own gradients are as fast on a CPU
CALLED = 2**22  # numbers below which a GPU waits for its host: 4 million twice at the 300 GB/s of a T4 are 0.1 ms
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def conditional_layer_norm(
    x: Tensor, gamma: Tensor, beta: Tensor, eps: float = 1e-5, *, backend: str | None = None
) -> Tensor:
    """Layer normalisation over the last dimension with a scale and shift that depend on the sequence, or on the token.

    `y = gamma (x - mu) / (sigma^2 + eps)^(1/2) + beta` with mean mu and population variance sigma^2 of the last
    dimension (equation `conditional-layer-norm:definition`).

    Args:
        x: floating, (B, ..., D) with D >= 1, usually (B, L, D); any strides, and the other sizes may be 0.
        gamma: (D,) for all, (B, D) one for each sequence, or as many dimensions as x, (B, L, D), one for each token;
            a size other than D may be 1. It is the scale itself: pass `1 + scale` where a model predicts a residual.
        beta: the shift, likewise; the two need not have one shape.
        eps: > 0, inside the root. As PyTorch's; Keras has 1e-3, BERT 1e-12, bert4keras from 1e-14 to 1e-7.
        backend: None takes the Triton kernel on a GPU and else PyTorch, also on a GPU for up to four million numbers in
            one dtype, float32 or float64, if not in a CUDA graph: called from Python these take the host's time, of
            which the kernel needs twice as much. "triton" or "reference" forces it.
    Returns:
        The shape and dtype of x, also under autocast. Computed in the widest dtype of the three, float32 at least.

    In float32 and float64 the result is that of `torch.nn.functional.layer_norm` bit for bit where gamma and beta are
    the same for all. On a CPU the gradients of large batches come from one pass compiled by numba, if it is installed.
    `torch.compile` and function transforms see the formula. The Triton kernel is deterministic; on an NVIDIA H200 it
    was right in all four dtypes and repeated its bits, but for the launch that now adds the chunks of the gradients of
    gamma and beta: PyTorch added them there.

    Raises:
        TypeError, ValueError: an argument that is not as above, also one on another device.

    The commonest surprise: at x of shape (L, D), without a batch, a gamma (L, D) is one for each token.
    Source: Su, "Conditional text generation based on conditional layer normalization" (in Chinese, 2019).

    >>> x = torch.tensor([[[-1.0, 1.0]], [[-1.0, 1.0]]])
    >>> conditional_layer_norm(x, torch.tensor([[2.0, 2.0], [3.0, 3.0]]), torch.zeros(2), eps=1e-12)
    tensor([[[-2.,  2.]],
            [[-3.,  3.]]])
    """
    given = gamma, beta
    gamma, beta = _check(x, gamma, beta, eps)
    eps, tracing = float(eps), torch.compiler.is_compiling()
    if backend is None and (tracing or _called(x, gamma, beta) or transformed()):
        return _plain(x, gamma, beta, eps)
    plain, triton = (lambda: _plain(x, gamma, beta, eps)), (lambda: _kernel(x, given, (gamma, beta), eps))
    if tracing:
        return triton() if backend == "triton" else plain()
    if backend is None and x.shape[-1] * work_dtype(x, gamma, beta).itemsize > WIDEST:
        return plain()
    kinds: dict[str, Any] = {"dtypes": DTYPES, "strided": True}
    return dispatch("conditional_layer_norm", backend, (x, gamma, beta), reference=plain, triton=triton, **kinds)


def _called(x: Tensor, gamma: Tensor, beta: Tensor) -> bool:
    """Whether PyTorch takes no longer than a kernel, for want of one or because the host is what takes the time."""
    if not x.is_cpu:
        few = x.numel() < CALLED and x.dtype == gamma.dtype == beta.dtype and x.dtype.itemsize >= 4
        if not few or (x.is_cuda and torch.cuda.is_current_stream_capturing()):
            return False
    return not forced()


def _plain(x: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> Tensor:
    D, kind = x.shape[-1], x.dtype
    if not kind == gamma.dtype == beta.dtype or kind.itemsize < 4:
        work = work_dtype(x, gamma, beta)
        return _plain(x.to(work), gamma.to(work), beta.to(work), eps).to(kind)
    if gamma.numel() == beta.numel() == D:
        return torch.layer_norm(x, (D,), gamma.reshape(D), beta.reshape(D), eps)
    if not torch.compiler.is_compiling() and x.numel() >= FEW and not transformed():
        if not (torch.is_grad_enabled() and (x.requires_grad or gamma.requires_grad or beta.requires_grad)):
            return _affine(x, gamma, beta, eps)[0]
        many = type(x) is Tensor and x.is_cpu and _compiles()
        if many and gamma.numel() == len(gamma) * D and beta.numel() == len(beta) * D:  # by the tokens of a sequence
            each = (t.reshape(-1, D).expand(len(x), D) for t in (gamma, beta))
            return _Sequences.apply(x.reshape(len(x), x.shape[1:-1].numel(), D), *each, eps).reshape(x.shape)
    return torch.addcmul(beta, gamma, torch.layer_norm(x, (D,), None, None, eps))


def _affine(x: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """The result, in the memory of the normalised rows; means, and 1 over deviations. For no autograd to see."""
    y, mean, rstd = torch.native_layer_norm(x, x.shape[-1:], None, None, eps)
    return torch.addcmul(beta, gamma, y, out=y), mean, rstd


class _Sequences(torch.autograd.Function):
    """x (B, L, D), gamma and beta (B, D), float32 or float64, on a CPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> Tensor:
        y, mean, rstd = _affine(x, gamma[:, None], beta[:, None], eps)
        ctx.save_for_backward(x, gamma, mean, rstd)
        ctx.eps = eps
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]  # the base takes anything
        from gantext.kernels.layer_norm_cpu import backward

        x, gamma, mean, rstd = ctx.saved_tensors
        if torch.is_grad_enabled() or transformed(grad):  # to be differentiated again, or a batch of gradients at once
            return *conditional_layer_norm_backward_ref(grad, x, gamma, ctx.eps), None
        return *backward(grad, x, gamma, mean, rstd), None


@functools.cache
def _compiles() -> bool:
    return importlib.util.find_spec("numba") is not None


def conditional_layer_norm_ref(x: Tensor, gamma: Tensor, beta: Tensor, eps: float = 1e-5) -> Tensor:
    """Conditional layer normalisation by the textbook, line for line (equation `conditional-layer-norm:definition`).

    Args and returns as `conditional_layer_norm`, except that everything is computed in the dtype of its arguments.

    >>> conditional_layer_norm_ref(torch.tensor([[1.0, 3.0]]), torch.tensor([[2.0, 2.0]]), torch.tensor([[0.0, 5.0]]))
    tensor([[-2.0000,  7.0000]])
    """
    gamma, beta = _check(x, gamma, beta, eps)
    mean = x.mean(-1, keepdim=True)  # (B, L, 1)
    variance = (x - mean).square().mean(-1, keepdim=True)  # (B, L, 1)
    normalized = (x - mean) / (variance + eps).sqrt()  # (B, L, D)
    return gamma * normalized + beta


def conditional_layer_norm_backward_ref(
    grad: Tensor, x: Tensor, gamma: Tensor, eps: float = 1e-5
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of conditional layer normalisation, line for line (equation `conditional-layer-norm:backward`).

    With `t = grad gamma` and the normalised x^, `dx = (t - mean(t) - x^ mean(t x^)) / (sigma^2 + eps)^(1/2)`, `dgamma`
    the sum of `grad x^` and `dbeta` the sum of `grad` over the tokens that share one gamma. `grad` has the shape of x;
    returned are dx, dgamma and dbeta, for a beta of gamma's shape.

    >>> x, gamma = torch.tensor([[-1.0, 1.0]]), torch.ones(2)
    >>> conditional_layer_norm_backward_ref(torch.tensor([[1.0, 1.0]]), x, gamma, 1e-12)[1:]  # dx is 0: shifts are lost
    (tensor([-1.,  1.]), tensor([1., 1.]))
    """
    scale = _check_gradient(grad, x, gamma, eps)
    centred = x - x.mean(-1, keepdim=True)
    deviation = (centred.square().mean(-1, keepdim=True) + eps).sqrt()  # (B, L, 1)
    normalized = centred / deviation
    t = grad * scale
    dx = (t - t.mean(-1, keepdim=True) - normalized * (t * normalized).mean(-1, keepdim=True)) / deviation
    dgamma, dbeta = (grad * normalized).sum_to_size(scale.shape), grad.sum_to_size(scale.shape)
    return dx, dgamma.reshape(gamma.shape), dbeta.reshape(gamma.shape)


def conditional_rms_norm(x: Tensor, gamma: Tensor, beta: Tensor, eps: float | None = None) -> Tensor:
    """RMS normalisation over the last dimension with a scale and shift that depend on the sequence, or on the token.

    `y = gamma x / (mean(x^2) + eps)^(1/2) + beta`: PyTorch's own RMS normalisation, multiplied and added to; arguments
    and result as in `conditional_layer_norm`, except that eps may be None: the resolution of what is computed in, as in
    PyTorch.

    >>> x = torch.tensor([[[3.0, 4.0]], [[3.0, 4.0]]])
    >>> conditional_rms_norm(x, torch.tensor([[5.0, 5.0], [0.0, 0.0]]) / 2**0.5, torch.ones(2), eps=1e-12)
    tensor([[[4., 5.]],
            [[1., 1.]]])
    """
    gamma, beta = _check(x, gamma, beta, 1 if eps is None else eps, "conditional_rms_norm")
    eps = None if eps is None else float(eps)
    work = work_dtype(x, gamma, beta)
    return torch.addcmul(beta.to(work), gamma.to(work), F.rms_norm(x.to(work), x.shape[-1:], None, eps)).to(x.dtype)


def _kernel(x: Tensor, given: tuple[Tensor, Tensor], placed: tuple[Tensor, Tensor], eps: float) -> Tensor:
    """By the Triton kernel, D within WIDEST; gamma and beta as given, and with as many dimensions as x."""
    D, most = x.shape[-1], WIDEST // work_dtype(x, *given).itemsize
    if most < D:
        raise ValueError(
            f"conditional_layer_norm: x has width {D}, must be at most {most} for the kernel. Leave backend None."
        )
    rows, one = x.shape[:-1].numel(), all(t.numel() == D for t in placed)
    token = not one and (x.dim() < 3 or any(t.shape[1:-1].numel() != 1 for t in placed))
    B = 1 if one or token else len(x)

    def place(t: Tensor, as_given: Tensor) -> Tensor:  # in few views: each is a node of the graph
        if token:
            return _shaped(t.expand(x.shape), (1, rows, D))
        return as_given if as_given.shape == (B, D) else t.reshape(-1, D).expand(B, D)

    gamma, beta = (place(*both) for both in zip(placed, given, strict=True))
    if gamma.dtype != beta.dtype:
        dtype = torch.promote_types(gamma.dtype, beta.dtype)
        gamma, beta = gamma.to(dtype), beta.to(dtype)
    tensors = _shaped(x, (B, rows // max(B, 1), D)), gamma, beta
    if not unobserved(*tensors):
        y = torch.ops.gantext.layer_norm(*tensors, eps)[0]
    elif torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        y = _Rows.apply(*tensors, eps)
    else:
        y = _launch(*tensors, eps)[0]
    return _shaped(y, x.shape)


def _shaped(t: Tensor, shape: tuple[int, ...]) -> Tensor:
    return t if t.shape == shape else t.reshape(shape)


class _Rows(torch.autograd.Function):
    """The operators below, without their cost, where only autograd looks on."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> Tensor:
        y, *statistics = _launch(x, gamma, beta, eps)
        ctx.save_for_backward(x, gamma, *statistics)
        ctx.eps = eps
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]  # the base takes anything
        if torch.is_grad_enabled():  # to be differentiated again
            return _differentiate_forward(ctx, grad)
        x, gamma, mean, rstd = ctx.saved_tensors
        if transformed(grad):  # a batch of gradients at once
            return *_gradients(grad, x, gamma, ctx.eps), None
        (by_input, by_gamma, by_beta, _), token = ctx.needs_input_grad, gamma.dim() == 3
        scale = by_gamma or (by_beta and not token)
        dx, dgamma, dbeta = _launch_backward(grad, x, gamma, mean, rstd, by_input, scale)
        if token and by_beta:
            dbeta = grad.to(gamma.dtype)
        return dx, dgamma if by_gamma else None, dbeta if by_beta else None, None


def _dense(t: Tensor) -> Tensor:
    return t if t.stride(-1) == 1 or t.shape[-1] == 1 else t.contiguous()


def _statistics(x: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
    shape, dtype = x.shape[:-1], work_dtype(x, gamma)
    return x.new_empty(shape, dtype=dtype), x.new_empty(shape, dtype=dtype)


def _launch(x: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    from gantext.kernels.layer_norm_triton import forward

    y, mean, rstd = x.new_empty(x.shape), *_statistics(x, gamma)
    forward(_dense(x), _dense(gamma), _dense(beta), y, mean, rstd, eps)
    return y, mean, rstd


def _launch_backward(
    grad: Tensor, x: Tensor, gamma: Tensor, mean: Tensor, rstd: Tensor, by_input: bool = True, scale: bool = True
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    from gantext.kernels.layer_norm_triton import backward

    dx = x.new_empty(x.shape) if by_input else None
    if dx is None and not scale:
        return None, None, None
    with torch.cuda.device_of(x):
        dgamma, dbeta = backward(_dense(grad), _dense(x), _dense(gamma), mean, rstd, dx, scale)
    return dx, dgamma, dbeta


_forward = torch.library.custom_op("gantext::layer_norm", _launch, mutates_args=())


@torch.library.custom_op("gantext::layer_norm_backward", mutates_args=())
def _backward(
    grad: Tensor, x: Tensor, gamma: Tensor, mean: Tensor, rstd: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    found = _launch_backward(grad, x, gamma, mean, rstd)
    dx, dgamma, dbeta = cast(tuple[Tensor, Tensor, Tensor | None], found)  # all are asked for
    return dx, dgamma, gamma.new_empty(0) if dbeta is None else dbeta


@_forward.register_fake
def _(x: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), *_statistics(x, gamma)


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
    gradients = lambda grad, x, gamma: _gradients(grad, x, gamma, ctx.eps)[: len(wanted)]
    return *torch.func.vjp(gradients, *tensors)[1](wanted), None, None, None


def _gradients(grad: Tensor, x: Tensor, gamma: Tensor, eps: float) -> tuple[Tensor, ...]:
    """The formula, in the precision of the kernels."""
    work = work_dtype(x, gamma)
    out = conditional_layer_norm_backward_ref(grad.to(work), x.to(work), gamma.to(work), eps)
    return tuple(t.to(like.dtype) for t, like in zip(out, (x, gamma, gamma), strict=True))


_forward.register_autograd(_differentiate_forward, setup_context=_save_forward)
_backward.register_autograd(_differentiate_backward, setup_context=_save_backward)


def work_dtype(*tensors: Tensor) -> torch.dtype:
    """The widest dtype of the tensors, float32 at least."""
    dtypes = [t.dtype for t in tensors]
    if dtypes.count(torch.float32) == len(dtypes):
        return torch.float32
    return functools.reduce(torch.promote_types, dtypes, torch.float32)


def _check(
    x: Tensor, gamma: Tensor, beta: Tensor, eps: float, name: str = "conditional_layer_norm"
) -> tuple[Tensor, Tensor]:
    """gamma and beta with as many dimensions as x, to which they broadcast. Lean: a small call waits for it."""
    check_number(name, "eps", eps, 0)
    for argument, t in (("x", x), ("gamma", gamma), ("beta", beta)):
        if not isinstance(t, Tensor) or t.dtype not in DTYPES or t.layout != torch.strided:
            got = f"{t.dtype} {t.layout}" if isinstance(t, Tensor) else type(t).__name__
            raise TypeError(f"{name}: {argument} is {got}, must be a dense floating tensor. Use .float().")
        shape, whole = t.shape, x.shape
        if not shape or not shape[-1] == whole[-1] > 0 or t.device != x.device:
            raise ValueError(
                f"{name}: {argument} has shape {tuple(shape)} on {t.device}, must end with the width "
                f"D >= 1 of x, whose shape is {tuple(whole)}, on {x.device}. Put the features last."
            )
    return _placed(name, "gamma", gamma, x), _placed(name, "beta", beta, x)


def _check_gradient(grad: Tensor, x: Tensor, gamma: Tensor, eps: float) -> Tensor:
    name = "conditional_layer_norm_backward_ref"
    scale, _ = _check(x, gamma, gamma, eps, name)
    if not isinstance(grad, Tensor) or not grad.is_floating_point():
        got = grad.dtype if isinstance(grad, Tensor) else type(grad).__name__
        raise TypeError(f"{name}: grad is {got}, must be a floating tensor as x. Use .float().")
    if grad.shape != x.shape or grad.device != x.device:
        found, rule = f"{tuple(grad.shape)} on {grad.device}", f"{tuple(x.shape)} on {x.device} as x"
        raise ValueError(f"{name}: grad is {found}, must be {rule}. Pass the gradient of the result.")
    return scale


def _placed(name: str, argument: str, t: Tensor, x: Tensor) -> Tensor:
    given, whole = t.shape, x.shape
    if len(given) == 2 and len(whole) == 3 and given[0] in (1, whole[0]):
        return t.unsqueeze(1)
    middle = (1,) * (len(whole) - len(given))
    shape = (*middle, *given) if len(given) == 1 else (given[0], *middle, *given[1:])
    fits = len(given) in (1, 2, len(whole)) and len(shape) == len(whole)
    if not fits or any(s not in (1, n) for s, n in zip(shape, whole, strict=True)):
        raise ValueError(
            f"{name}: {argument} has shape {tuple(given)} for x of shape {tuple(whole)}, must be "
            "(D,), (B, D), or broadcast to x. For k beams of each sequence repeat it with repeat_interleave(k, 0)."
        )
    return t.reshape(shape)
