"""The gradient penalty of a piecewise linear critic without double backward: exact, and cheaper.

`gantext.gan.objectives.gradient_penalty` differentiates a gradient, and autograd then propagates second derivatives of
the activations, which are zeros for ReLU and LeakyReLU. Without them one more forward pass is left. Let layer l map
h_(l-1) to z_l = W_l h_(l-1) + b_l and h_l = M_l z_l, with the activation's slopes in the diagonal matrix M_l; h_0 is a
sample x_i, and the last z its score T(x_i). Near x_i, off the kinks, no M_l changes, so:

1. d_last = 1 and d_l = M_l W_(l+1)^T d_(l+1) are dT/dz_l, and g_i = W_1^T d_1 is the gradient.
2. Hence dT/dW_l = d_l h_(l-1)^T and dT/db_l = d_l, which is what an ordinary backward pass computes.
3. Of the penalty P = (1/N) sum_i `||g_i| - c|^p` let v_i = dP/dg_i = (p/N) `||g_i| - c|^(p-2) (|g_i| - c) g_i / |g_i|`.
   By the chain rule dP/dW_l = sum_i d<g_i, v_i>/dW_l, v_i held constant.
4. <g_i, v_i> is the derivative of T at x_i along v_i: the output of the network with the same weights and slopes, but
   without biases, that pushes the tangent t_0 = v_i forward, t_l = M_l W_l t_(l-1).
5. Step 2 for that network: dP/dW_l = sum_i d_l,i t_(l-1),i^T; dP/db_l = 0; and T being affine near x_i, dP/dx_i = 0.
6. For a loss L of scores and penalty with c_i = dL/dT(x_i) and w = dL/dP, both steps at once: u_0 = c_i x_i + w v_i and
   u_l = M_l (W_l u_(l-1) + c_i b_l) give dL/dW_l = sum_i d_l,i u_(l-1),i^T, dL/db_l = sum_i c_i d_l,i and
   dL/dx_i = c_i g_i.

In a convolution, sums run over the places too. With F the products of a forward pass, steps 1 and 6 cost 2 F each, for
scores *and* penalty; double backward takes 6 F (dense) or 6.4 F (convolutional), as a test counts. At a kink the slope
is PyTorch's choice. The d_l are not differentiated here: asking for a second derivative raises.

Sources: gradients of gradients by a second pass, Drucker and Le Cun, IEEE Trans. Neural Networks 3 (1992) 991; tangents
pushed through a network, Pearlmutter, Neural Computation 6 (1994) 147. Steps 5 and 6 for penalties are our derivation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv1d_input, conv1d_weight, conv2d_input, conv2d_weight, conv3d_input, conv3d_weight
from torch.nn.utils.parametrize import type_before_parametrizations

from gantext._checks import check_number, floating
from gantext.gan.objectives import check_scores, safe_power, scaled_squares, squared_norms

__all__ = ["is_piecewise_linear", "scores_and_penalty", "tangent_penalty"]

_CONVOLUTIONS: dict[type[nn.Module], tuple[Any, Any, Any]] = {
    nn.Conv1d: (F.conv1d, conv1d_input, conv1d_weight),
    nn.Conv2d: (F.conv2d, conv2d_input, conv2d_weight),
    nn.Conv3d: (F.conv3d, conv3d_input, conv3d_weight),
}
_AFFINE = (nn.Linear, *_CONVOLUTIONS)
_ACTIVATIONS = (nn.ReLU, nn.LeakyReLU)
_RESHAPES = (nn.Identity, nn.Flatten, nn.Unflatten)
_POOLS = (
    nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
)  # fmt: skip
# Without public names; where PyTorch renames them, no layer is known, and double backward does the work.
_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
_KNOWN = (*_AFFINE, *_ACTIVATIONS, *_RESHAPES, *_POOLS)


def tangent_penalty(critic: nn.Module, x: Tensor, *, centre: float = 1.0, power: float = 2.0) -> Tensor:
    """`gradient_penalty`, exactly, of a piecewise linear critic; its backward pass is an ordinary one.

    The mean over the samples of `||grad T(x_i)| - centre|^power` (equations `wasserstein:gradient-penalty` and
    `w-divergence:definition`), by steps 1 to 5 above.

    Args:
        critic: an `nn.Sequential`, nested or not, of the layers that `is_piecewise_linear` knows.
        x, centre, power: as in `gantext.gan.objectives.gradient_penalty`.
    Returns:
        Scalar, float32 or better. Biases receive gradients 0, where double backward leaves that of the last layer None.
    Raises:
        ValueError: a layer that is not known to be piecewise linear or that mixes samples, weights in another dtype
            than x, and what `gradient_penalty` refuses.
        RuntimeError: at a backward pass with `create_graph=True`; second derivatives need `gradient_penalty`.

    >>> critic = nn.Sequential(nn.Linear(2, 1, bias=False))
    >>> _ = nn.init.constant_(critic[0].weight, 3.0)
    >>> tangent_penalty(critic, torch.zeros(5, 2), centre=0.0, power=2.0)  # 3^2 + 3^2
    tensor(18., grad_fn=<_ScoresAndPenaltyBackward>)
    """
    return _apply("tangent_penalty", critic, x, centre, power)[1]


def scores_and_penalty(
    critic: nn.Module, x: Tensor, *, centre: float = 1.0, power: float = 2.0
) -> tuple[Tensor, Tensor]:
    """Scores and their gradient penalty at the same samples, for the arithmetic of the penalty alone (steps 1 to 6).

    Args and Raises: as in `tangent_penalty`.

    Returns:
        `critic(x)` in its shape and dtype, differentiable once, also with respect to x; and the scalar penalty.

    The commonest surprise: interpolates are other points than those that the loss scores; there `tangent_penalty` is
    the cheaper one.

    >>> critic = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1), nn.Flatten(0))
    >>> scores, penalty = scores_and_penalty(critic, torch.zeros(6, 2), centre=0.0, power=6.0)
    >>> (scores[3:].mean() - scores[:3].mean() + 2 * penalty).backward()  # WGAN-div, real samples first
    """
    return _apply("scores_and_penalty", critic, x, centre, power)


def is_piecewise_linear(critic: object) -> bool:
    """Whether `tangent_penalty` applies: every layer is known, and known to be piecewise linear in its input.

    Known are Linear, Conv1d to Conv3d (padded with zeros), ReLU, LeakyReLU, average pooling, Flatten, Unflatten and
    Identity, alone or in Sequentials of any depth; not their subclasses, and without hooks. Weights may be parametrised
    (spectral norm). A wrapper (DistributedDataParallel, torch.compile, mixed precision) hides the layers.

    >>> is_piecewise_linear(nn.Sequential(nn.Linear(2, 1))), is_piecewise_linear(nn.Sequential(nn.SiLU()))
    (True, False)
    """
    try:
        _layers("is_piecewise_linear", critic)
    except (TypeError, ValueError):
        return False
    return True


def _apply(name: str, critic: object, x: Tensor, centre: float, power: float) -> tuple[Tensor, Tensor]:
    centre = check_number(name, "centre", centre, 0, included=True)
    power = check_number(name, "power", power, 0)
    layers = _layers(name, critic)
    weights = [t for layer in layers if isinstance(layer, _AFFINE) for t in (layer.weight, layer.bias)]  # read once
    dtype = floating(name, "x", x).dtype
    if any(t is not None and t.dtype != dtype for t in weights):
        raise ValueError(f"{name}: x has dtype {dtype}, must have that of the critic's weights. Convert x.")
    return _ScoresAndPenalty.apply(name, layers, centre, power, x, *weights)


def _layers(name: str, module: object, path: str = "") -> list[nn.Module]:
    """The leaves of nested Sequentials, each known to be piecewise linear."""
    if not isinstance(module, nn.Module):
        kind = type(module).__name__
        raise TypeError(f"{name}: critic is {kind}, must be an nn.Sequential. Use gradient_penalty for a function.")
    kind, fault = type_before_parametrizations(module), ""
    if kind is not nn.Sequential and kind not in _KNOWN:
        fault = "must be a layer known to be piecewise linear"
    elif "forward" in vars(module) or any(getattr(module, hooks, True) for hooks in _HOOKS):
        fault = "with hooks or a replaced forward, must be without"
    elif kind in _CONVOLUTIONS and (module.padding_mode != "zeros" or isinstance(module.padding, str)):
        fault = f"with padding {module.padding!r} of {module.padding_mode!r}, must be padded with a number of zeros"
    if fault:
        place = f"critic's layer '{path}'" if path else "critic"
        raise ValueError(f"{name}: {place} is {kind.__name__}, {fault}. Use gradient_penalty, which takes any layer.")
    if kind is not nn.Sequential:
        return [module]
    below = module.named_modules(remove_duplicate=False)  # named_children leaves out a layer that stands there twice
    children = [(key, child) for key, child in below if key and "." not in key]
    return [leaf for key, child in children for leaf in _layers(name, child, f"{path}.{key}".strip("."))]


class _ScoresAndPenalty(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, name: str, layers: list[Any], centre: float, power: float, x: Tensor, *weights: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        with torch.autocast(x.device.type, enabled=False):
            scores, g, deltas, entering = _scores_and_deltas(name, layers, x, weights)
        if centre == 0 and power >= 2:  # of the norms themselves no root is needed
            squares = squared_norms(g)
            penalties, along = safe_power(squares, power / 2), safe_power(squares, power / 2 - 1)
        else:
            squares, unit = scaled_squares(g)
            norms = squares.sqrt() * unit  # nothing here is differentiated: the root needs no guard
            gap, inverse = norms - centre, norms.reciprocal().masked_fill(norms == 0, 0)
            if power == 2:
                penalties, along = gap.square(), gap * inverse
            elif power < 2:
                penalties, along = safe_power(gap.abs(), power), gap.sign() * inverse * safe_power(gap.abs(), power - 1)
            else:
                squares = gap.square()
                penalties, along = safe_power(squares, power / 2), gap * inverse * safe_power(squares, power / 2 - 1)
        along = along * (power / len(x))  # v_i = along_i g_i (step 3)
        ctx.called, ctx.layers, ctx.n = name, layers, len(deltas)
        ctx.set_materialize_grads(False)
        kinks = [z for layer, z in zip(layers, entering, strict=True) if isinstance(layer, _ACTIVATIONS)]
        ctx.save_for_backward(x, g, along, *weights, *deltas, *kinks)
        return scores, penalties.mean()

    @staticmethod  # torch annotates the base with *args: each Function has arguments of its own
    def backward(ctx: Any, c: Tensor | None, w: Tensor | None) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]  # torch: *args
        if torch.is_grad_enabled():  # create_graph=True: what is computed below would count as constant
            raise RuntimeError(f"{ctx.called}: this gradient has no derivative of its own. Use gradient_penalty.")
        x, g, along, *saved = ctx.saved_tensors
        weights, deltas, kinks = iter(saved[: 2 * ctx.n]), iter(saved[2 * ctx.n :]), iter(saved[3 * ctx.n :])
        needs_x, *needs = ctx.needs_input_grad[4:]
        needed = iter(needs)
        c = None if c is None else c.reshape(len(x))
        u = torch.zeros_like(x) if w is None else (_rows(w * along, x) * g).to(x.dtype)  # 1 / |g| may be no half
        u = u if c is None else u + _rows(c, x) * x  # u_0 = c x + w v (step 6)
        out: list[Tensor | None] = []
        with torch.autocast(x.device.type, enabled=False):
            for layer in ctx.layers:
                if isinstance(layer, _ACTIVATIONS):
                    u = _masked(layer, u, next(kinks))
                elif isinstance(layer, _AFFINE):
                    W, b, delta = next(weights), next(weights), next(deltas)
                    out.append(_weight_gradient(layer, delta, u, W) if next(needed) else None)
                    out.append(_bias_gradient(delta, c, b, W) if next(needed) else None)
                    if len(out) == 2 * ctx.n:
                        break  # no weights follow
                    u = _affine(layer, u, W, None)
                    if b is not None and c is not None:
                        u.addcmul_(_rows(c, u), _beside(b, W))
                else:
                    u = layer(u)
        x_gradient = None
        if needs_x:
            x_gradient = torch.zeros_like(x) if c is None else _rows(c, g) * g  # the penalty gives 0 (step 5)
        return None, None, None, None, x_gradient, *out


def _scores_and_deltas(
    name: str, layers: list[Any], x: Tensor, weights: Sequence[Tensor | None]
) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
    """T(x_i), g_i, every d_l and what enters each layer (step 1)."""
    h, entering, ahead = x, [], iter(weights)
    for layer in layers:
        entering.append(h)
        if isinstance(layer, _AFFINE):
            W, b = next(ahead), next(ahead)
            if W is None or h.dim() < W.dim() or len(h) != len(x):
                raise ValueError(
                    f"{name}: x of shape {tuple(x.shape)} reaches {layer} in shape {tuple(h.shape)}, must keep one row "
                    "per sample: (N, features) or (N, channels, ...). Reshape x."
                )
            h = _affine(layer, h, W, b)
        elif isinstance(layer, _ACTIVATIONS):
            h = F.relu(h) if isinstance(layer, nn.ReLU) else F.leaky_relu(h, layer.negative_slope)  # not in place
        else:
            h = layer(h)
    check_scores(name, h, x)
    delta, deltas, back = torch.ones_like(h), [], iter(weights[-2::-2])
    for layer, z in zip(layers[::-1], entering[::-1], strict=True):
        if isinstance(layer, _AFFINE):
            deltas.append(delta)
            delta = _transposed(layer, delta, cast(Tensor, next(back)), z.shape)
        elif isinstance(layer, _ACTIVATIONS):
            delta = _masked(layer, delta, z)
        else:
            delta = _pulled_back(layer, delta, z)
    return h, delta, deltas[::-1], entering


def _affine(layer: Any, h: Tensor, W: Tensor, b: Tensor | None) -> Tensor:
    if isinstance(layer, nn.Linear):
        return F.linear(h, W, b)
    convolve, _, _ = _CONVOLUTIONS[type_before_parametrizations(layer)]
    return convolve(h, W, b, layer.stride, layer.padding, layer.dilation, layer.groups)


def _transposed(layer: Any, delta: Tensor, W: Tensor, shape: torch.Size) -> Tensor:
    """W^T d, in the shape of what entered the layer."""
    if isinstance(layer, nn.Linear):
        return delta @ W
    _, transpose, _ = _CONVOLUTIONS[type_before_parametrizations(layer)]
    return transpose(shape, W, delta, layer.stride, layer.padding, layer.dilation, layer.groups)


def _masked(layer: Any, u: Tensor, z: Tensor) -> Tensor:
    """M u. A diagonal matrix is its own transpose, so PyTorch's backward formula serves, with its choice at z = 0."""
    if isinstance(layer, nn.ReLU):
        return torch.ops.aten.threshold_backward(u, z, 0)
    return torch.ops.aten.leaky_relu_backward(u, z, layer.negative_slope, False)


def _pulled_back(layer: nn.Module, delta: Tensor, z: Tensor) -> Tensor:
    """The transpose of a linear layer without weights."""
    if type(layer) in _RESHAPES:
        return delta.reshape(z.shape)
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        return torch.autograd.grad(layer(z), z, delta)[0]


def _weight_gradient(layer: Any, delta: Tensor, u: Tensor, W: Tensor) -> Tensor:
    """sum_i d_i u_i^T, in a convolution over the places too."""
    if isinstance(layer, nn.Linear):
        return delta.reshape(-1, len(W)).T @ u.reshape(-1, W.shape[1])
    _, _, gradient = _CONVOLUTIONS[type_before_parametrizations(layer)]
    return gradient(u, W.shape, delta, layer.stride, layer.padding, layer.dilation, layer.groups)


def _bias_gradient(delta: Tensor, c: Tensor | None, b: Tensor, W: Tensor) -> Tensor:
    """sum_i c_i d_i."""
    if c is None:
        return torch.zeros_like(b)
    sums = (c @ delta.reshape(len(c), -1)).reshape(delta.shape[1:])
    return sums.sum_to_size(_beside(b, W).shape).reshape(b.shape)


def _beside(b: Tensor, W: Tensor) -> Tensor:
    """(features,) for a linear layer, (channels, 1, ...) for a convolution."""
    return b.reshape(-1, *[1] * (W.dim() - 2))


def _rows(c: Tensor, like: Tensor) -> Tensor:
    """One number per sample, (N, 1, ...)."""
    return c.reshape(-1, *[1] * (like.dim() - 1))
