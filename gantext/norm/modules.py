"""The modules: layer norm and RMS norm whose scale and shift are moved by a condition vector."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gantext._checks import check_count, check_number, check_type, wide
from gantext.kernels import BACKENDS
from gantext.kernels.layer_norm import conditional_layer_norm, conditional_rms_norm
from gantext.norm.forms import Form, recognise

__all__ = ["Activation", "Conditional", "ConditionalLayerNorm", "ConditionalRMSNorm", "Given", "check_condition"]

Activation = Callable[[Tensor], Tensor]
Place = torch.device | str | None


class Given(NamedTuple):
    """The condition of a while, and the thread that gave it."""

    condition: Tensor | None
    beams: bool
    thread: int


class Conditional(nn.Module):
    """What the two conditional norms share; it stands before PyTorch's norm among the bases of each."""

    normalized_shape: tuple[int, ...]
    weight: nn.Parameter | None
    bias: nn.Parameter | None
    W_hidden: nn.Parameter | None
    W_gamma: nn.Parameter
    W_beta: nn.Parameter
    form: Form | None = None  # no module: its parameters would be counted
    given: Given | None = None

    def _add_maps(self, size: int, hidden: int | None, activation: Activation, device: Place, dtype: Any) -> None:
        check_type(type(self).__name__, "activation", activation, Callable, "Use F.silu, for example.")
        self.condition_size, self.hidden_size, self.activation = size, hidden, activation
        # Parameters, not nn.Linear: what initialises the linear layers of a model must leave these zeros alone.
        new = lambda *shape: nn.Parameter(torch.zeros(*shape, device=device, dtype=dtype))
        self.W_hidden = None if hidden is None else new(hidden, size)
        self.W_gamma, self.W_beta = (new(*self.normalized_shape, hidden or size) for _ in range(2))
        self.reset_maps()
        # nn.TransformerEncoderLayer has a fast path that reads weight and bias and calls no norm; hooks turn it off.
        self.register_forward_pre_hook(_no_fast_path)

    @classmethod
    def sharing(cls, norm: nn.Module, form: Form | None, size: int, **options: Any) -> Self:
        """One that shares the parameters of a norm, and its arithmetic where that is its own."""
        weight = getattr(norm, "weight", None)
        if weight is not None:
            options |= {"device": weight.device, "dtype": weight.dtype}
        width = int(norm.normalized_shape[0] if weight is None else len(weight))  # pyright: ignore[reportIndexIssue]  # recognised: PyTorch's own
        own = {"elementwise_affine": weight is not None} | ({} if form else {"eps": norm.eps})
        new = cls(width, size, **own, **options)
        new.weight, new.bias, new.form = weight, getattr(norm, "bias", None), form
        return new.train(norm.training)

    def reset_parameters(self) -> None:
        """Weight, bias and maps as a new norm has them; after `to_empty`, for one."""
        super().reset_parameters()  # pyright: ignore[reportAttributeAccessIssue]  # that of PyTorch's norm
        if self.form and self.weight is not None:
            nn.init.constant_(self.weight, 1 - self.form.offset)
        if hasattr(self, "W_gamma"):  # PyTorch's constructor calls this before there are any
            self.reset_maps()

    def reset_maps(self) -> None:
        """The maps as a new norm has them: those to scale and shift zero, that of the hidden layer random."""
        for W in (self.W_gamma, self.W_beta):
            nn.init.zeros_(W)
        if self.W_hidden is not None:
            nn.init.kaiming_uniform_(self.W_hidden, a=math.sqrt(5))  # as nn.Linear

    def gamma_beta(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """`gamma + W_gamma h` and `beta + W_beta h`, (..., D) for conditions (..., C), in float32 at least."""
        h = condition.to(self.W_gamma)
        if self.W_hidden is not None:
            h = self.activation(F.linear(h, self.W_hidden))
        gamma, beta = wide(F.linear(h, self.W_gamma)), wide(F.linear(h, self.W_beta))
        return gamma + (1 if self.weight is None else self.weight), beta if self.bias is None else beta + self.bias

    def _normalize(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, input: Tensor, condition: Tensor | None = None) -> Tensor:  # noqa: A002  PyTorch's name
        name, beams = type(self).__name__, False
        if condition is None:
            if self.given is None:
                raise RuntimeError(
                    f"{name}: condition is missing, must be given. Call the model within `with conditioned(model, "
                    "condition):`, the backward pass too if it recomputes activations; `conditioned(model, None)` is "
                    "the unconditional norm."
                )
            condition, beams, _ = self.given
        form, weight = self.form, self.weight
        if condition is None:
            return super().forward(input) if form is None or weight is None else form(input, weight, self.bias)
        if input.is_nested:
            rule = "must be dense. Set use_nested_tensor = False on the nn.TransformerEncoder that made it so."
            raise ValueError(f"{name}: input is nested, {rule}")
        gamma, beta = self.gamma_beta(_fit(name, condition, input, self.condition_size, beams))
        if form is None or weight is None:
            return self._normalize(input, gamma, beta)
        gamma, beta = gamma.to(weight.dtype), beta.to(weight.dtype)
        if self.bias is not None:
            return form(input, gamma, beta)
        y = form(input, gamma, None)
        return y + beta.to(y.dtype)

    def extra_repr(self) -> str:
        form, hidden = self.form, "" if self.hidden_size is None else f", hidden_size={self.hidden_size}"
        own = super().extra_repr() if form is None else f"{self.normalized_shape}, as {type(form.norm).__name__}"
        terms = ["1"] * (self.weight is None or bool(form and form.offset)) + ["weight"] * (self.weight is not None)
        return f"{own}, condition_size={self.condition_size}{hidden}, scale = {' + '.join([*terms, 'W_gamma h'])}"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "given": None}  # what is copied or saved within `conditioned` starts without


class ConditionalLayerNorm(Conditional, nn.LayerNorm):
    """`nn.LayerNorm` whose scale and shift are moved by a condition vector: gamma + W_gamma h and beta + W_beta h.

    Equation `conditional-layer-norm:definition` with h the condition itself, or `activation(W_hidden condition)`.
    gamma and beta are the `weight` and `bias` of a layer norm, so that its checkpoints load (`strict=False`), or 1 and
    0 where it has none. The maps W start at zero: at the start, whatever the condition, this is the plain layer norm.

    Args:
        normalized_shape: D, an int: only the last dimension is normalised.
        condition_size: C, the length of the condition vector.
        eps, elementwise_affine, bias: as in `nn.LayerNorm`.
        hidden_size: width of a hidden layer between condition and maps, of each norm's own; None has none.
        activation: of the hidden layer, whose map starts random: two zero maps in a row would never move.
        backend: as in `conditional_layer_norm`.

    Called as `norm(x, condition)`, or `norm(x)` within `conditioned`. x is (B, ..., D), the result too. The condition
    is floating, (C,) for all, (B, C) or (1, C) for each sequence, or as many dimensions as x, (B, L, C), for each
    token. It is moved to the device and the dtype of the maps.

    Raises:
        RuntimeError: no condition was given. None, as in `with conditioned(model, None)`, is the unconditional norm;
            the maps have no gradient then, which `DistributedDataParallel` must be told (`find_unused_parameters`).
        TypeError, ValueError: a condition that is not as above, in particular of another batch size than x.

    The commonest surprise: on the first step the condition does not learn, since its gradient passes through maps that
    are zero. An embedding of labels must not start at zero either, or nothing ever moves.
    Source: Su's article (see `conditional_layer_norm`), and bert4keras.

    >>> norm = ConditionalLayerNorm(4, condition_size=2)
    >>> x = torch.randn(3, 5, 4)
    >>> torch.equal(norm(x, torch.randn(3, 2)), F.layer_norm(x, (4,)))
    True
    """

    def __init__(
        self,
        normalized_shape: int,
        condition_size: int,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        hidden_size: int | None = None,
        activation: Activation = F.silu,
        backend: str | None = None,
        device: Place = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        sizes = _check_sizes("ConditionalLayerNorm", normalized_shape, condition_size, hidden_size)
        eps = check_number("ConditionalLayerNorm", "eps", eps, 0)
        if backend not in (None, *BACKENDS):
            rule = f"must be None or one of {BACKENDS}. Leave it None."
            raise ValueError(f"ConditionalLayerNorm: backend is {backend!r}, {rule}")
        nn.LayerNorm.__init__(self, sizes[0], eps, elementwise_affine, bias, device, dtype)
        self._add_maps(*sizes[1:], activation, device, dtype)
        self.backend = backend

    @classmethod
    def from_layer_norm(cls, norm: nn.Module, condition_size: int, **options: Any) -> Self:
        """A conditional norm that shares the very parameters of a layer norm, and for now computes the same.

        Args:
            norm: an `nn.LayerNorm` over the last dimension, or a library's own norm that `condition_all_norms` takes
                for a layer norm; without hooks and parametrizations, which would be lost.
            condition_size: as in the class.
            options: `hidden_size`, `activation`, `backend` as in the class; `device` and `dtype` of the maps of a norm
                that has no weight. Maps go where the weight is.
        """
        return cls.sharing(norm, _form("from_layer_norm", norm, "layer"), condition_size, **options)

    def _normalize(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        return conditional_layer_norm(x, gamma, beta, self.eps, backend=self.backend)


class ConditionalRMSNorm(Conditional, nn.RMSNorm):  # pyright: ignore[reportIncompatibleMethodOverride]  # input is x there
    """`nn.RMSNorm` whose scale is moved by a condition vector, and which gets a shift: gamma + W_gamma h and W_beta h.

    The layer norm without its mean: `y = g x / (mean(x^2) + eps)^(1/2) + b`. Everything else, the condition too, is as
    in `ConditionalLayerNorm`; an RMS norm has no shift, so b starts at zero.

    Args:
        normalized_shape, condition_size, hidden_size, activation: as in `ConditionalLayerNorm`.
        eps, elementwise_affine: as in `nn.RMSNorm`; an eps of None is the resolution of float32, or of a float64 input.

    >>> norm = ConditionalRMSNorm(4, condition_size=2)
    >>> x = torch.randn(3, 5, 4)
    >>> torch.equal(norm(x, torch.randn(3, 2)), F.rms_norm(x, (4,)))
    True
    """

    def __init__(
        self,
        normalized_shape: int,
        condition_size: int,
        eps: float | None = None,
        elementwise_affine: bool = True,
        *,
        hidden_size: int | None = None,
        activation: Activation = F.silu,
        device: Place = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        sizes = _check_sizes("ConditionalRMSNorm", normalized_shape, condition_size, hidden_size)
        eps = None if eps is None else check_number("ConditionalRMSNorm", "eps", eps, 0)
        nn.RMSNorm.__init__(self, sizes[0], eps, elementwise_affine, device, dtype)
        self.register_parameter("bias", None)
        self._add_maps(*sizes[1:], activation, device, dtype)

    @classmethod
    def from_rms_norm(cls, norm: nn.Module, condition_size: int, **options: Any) -> Self:
        """A conditional norm that shares the very weight of an RMS norm, and for now computes the same.

        As `ConditionalLayerNorm.from_layer_norm`. A library's own arithmetic is kept: where it rounds, and whether it
        adds 1 to its weight.
        """
        return cls.sharing(norm, _form("from_rms_norm", norm, "rms"), condition_size, **options)

    def _normalize(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        return conditional_rms_norm(x, gamma, beta, self.eps)


def _form(caller: str, norm: nn.Module, kind: str) -> Form | None:
    if isinstance(norm, Conditional) or not isinstance(norm, nn.Module):
        rule = "must be a norm without a condition. Give the norm that it was made of."
        raise TypeError(f"{caller}: norm is a {type(norm).__name__}: {norm}, {rule}")
    found, form = recognise(caller, norm)
    if found != kind:
        other = "ConditionalLayerNorm.from_layer_norm" if found == "layer" else "ConditionalRMSNorm.from_rms_norm"
        raise TypeError(f"{caller}: norm is {norm}, must be of the other kind. Use {other}.")
    return form


def _no_fast_path(*_: object) -> None:
    pass


def check_condition(name: str, condition: Tensor, size: int) -> None:
    """TypeError unless floating, ValueError unless it ends with the norms' condition size."""
    if not isinstance(condition, Tensor) or not condition.is_floating_point() or condition.layout != torch.strided:
        got = f"{condition.dtype} {condition.layout}" if isinstance(condition, Tensor) else type(condition).__name__
        raise TypeError(f"{name}: condition is {got}, must be a dense floating tensor. Embed labels with nn.Embedding.")
    if condition.dim() == 0 or condition.shape[-1] != size:
        rule = f"must end with {size}, the condition_size. Give the vector that the norms were made for."
        raise ValueError(f"{name}: condition has shape {tuple(condition.shape)}, {rule}")


def _fit(name: str, condition: Tensor, x: Tensor, size: int, beams: bool) -> Tensor:
    """The condition with the dimensions of x, to whose batch, and tokens if it has any, it broadcasts; or (C,)."""
    check_condition(name, condition, size)
    given, sizes = tuple(condition.shape[:-1]), tuple(x.shape[:-1])
    if beams and given and sizes and given[0] > 0 and sizes[0] % given[0] == 0:
        condition = condition.repeat_interleave(sizes[0] // given[0], 0)
    given = tuple(condition.shape[:-1])
    fits = len(given) <= min(1, len(sizes)) or len(given) == len(sizes)
    if not fits or any(c not in (1, n) for c, n in zip(given, sizes[: len(given)], strict=True)):
        raise ValueError(
            f"{name}: condition has shape {tuple(condition.shape)} for input of shape {tuple(x.shape)}, must be one "
            "vector for all, for each sequence, or for each token. For k beams of each sequence use conditioned(..., "
            "beams=True)."
        )
    if len(given) != 1:
        return condition
    return condition.reshape(len(condition), *(1,) * (len(sizes) - 1), size)


def _check_sizes(name: str, width: int, size: int, hidden: int | None) -> tuple[int, int, int | None]:
    return (
        check_count(name, "normalized_shape", width),
        check_count(name, "condition_size", size),
        None if hidden is None else check_count(name, "hidden_size", hidden),
    )
