"""Conditional layer normalization: a language model is told what to write through the scale and shift of its norms.

The chapter is `conditional-layer-norm`. `ConditionalLayerNorm` computes the scale and shift of a layer normalization
from a condition vector, `condition_all_norms` puts one in the place of every `nn.LayerNorm` of a trained model without
changing its output, and `conditioned` sets the condition. The operation is `gantext.kernels.layer_norm`.

Statistics are float32 or better and everything can be differentiated twice. An argument of the wrong kind raises
TypeError, one outside its stated range ValueError, before anything is computed.
"""

from __future__ import annotations

import contextlib
import functools
import math
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gantext._checks import check_count, check_number
from gantext.kernels.layer_norm import conditional_layer_norm

__all__ = ["ConditionalLayerNorm", "condition_all_norms", "conditioned"]

Activation = Callable[[Tensor], Tensor]


class _Given(NamedTuple):
    condition: Tensor | None
    beams: bool
    thread: int


class ConditionalLayerNorm(nn.LayerNorm):
    """`nn.LayerNorm` whose scale and shift are moved by a condition vector: gamma + W_gamma h and beta + W_beta h.

    Equation `conditional-layer-norm:definition` with h the condition itself, or `activation(W_hidden condition)`.
    gamma and beta are the `weight` and `bias` of a layer norm, so that its checkpoints load (`strict=False`). The
    form is the residual one: the maps give what is *added*, to 1 and 0 where there is no weight and bias. They start at
    zero and have no bias of their own: at the start, whatever the condition, this is the plain layer norm.

    Args:
        normalized_shape: D, an int: only the last dimension is normalized.
        condition_size: C, the length of the condition vector.
        eps, elementwise_affine, bias: as in `nn.LayerNorm`.
        hidden_size: width of a hidden layer between condition and maps, of each norm's own; None has none.
        activation: of the hidden layer. Its map starts random, not at zero: two zero maps in a row would never move.
        backend: as in `conditional_layer_norm`.

    Called as `norm(x, condition)`, or `norm(x)` within `conditioned`. x is (B, ..., D), the result too. The condition
    is floating, (C,) for all, (B, C) or (1, C) for each sequence, or as many dimensions as x, (B, L, C), for each
    token. It is cast to the dtype of the maps.

    Raises:
        RuntimeError: no condition was given. None, as in `with conditioned(model, None)`, is the unconditional norm.
        TypeError, ValueError: a condition that is not as above, in particular of another batch size than x.

    The commonest surprise: on the first step the maps learn and the condition does not; its gradient passes through
    maps that are still zero. An embedding of labels must not start at zero either, or nothing ever moves.
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
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        normalized_shape = check_count("ConditionalLayerNorm", "normalized_shape", normalized_shape)
        condition_size = check_count("ConditionalLayerNorm", "condition_size", condition_size)
        eps = check_number("ConditionalLayerNorm", "eps", eps, 0)
        if hidden_size is not None:
            hidden_size = check_count("ConditionalLayerNorm", "hidden_size", hidden_size)
        super().__init__(normalized_shape, eps, elementwise_affine, bias, device, dtype)
        self.condition_size, self.hidden_size, self.activation = condition_size, hidden_size, activation
        self.backend = backend
        self._given: _Given | None = None
        # Parameters, not nn.Linear: what initialises the linear layers of a model must leave these zeros alone.
        new = lambda *shape: nn.Parameter(torch.zeros(*shape, device=device, dtype=dtype))
        self.W_hidden = None if hidden_size is None else new(hidden_size, condition_size)
        self.W_gamma, self.W_beta = (new(normalized_shape, hidden_size or condition_size) for _ in range(2))
        if self.W_hidden is not None:
            nn.init.kaiming_uniform_(self.W_hidden, a=math.sqrt(5))  # as nn.Linear
        # nn.TransformerEncoderLayer has a fast path that reads weight and bias and calls no norm; hooks turn it off.
        self.register_forward_pre_hook(_no_fast_path)

    @classmethod
    def from_layer_norm(
        cls,
        norm: nn.LayerNorm,
        condition_size: int,
        *,
        hidden_size: int | None = None,
        activation: Activation = F.silu,
        backend: str | None = None,
    ) -> ConditionalLayerNorm:
        """A conditional norm that shares the very parameters of a layer norm, and for now computes the same.

        Args:
            norm: an `nn.LayerNorm` over the last dimension; not of a subclass and without hooks, which would be lost.
            condition_size, hidden_size, activation, backend: as in the class.
        Returns:
            The conditional norm, on the device and in the dtype of the norm, in its training mode.
        """
        if type(norm) is not nn.LayerNorm:
            raise TypeError(
                f"from_layer_norm: norm is of type {type(norm).__name__}, must be exactly nn.LayerNorm. A subclass may "
                "compute something else: write its conditional form by hand, or leave it out with select."
            )
        if len(norm.normalized_shape) != 1 or norm._forward_hooks or norm._forward_pre_hooks or norm._backward_hooks:
            raise ValueError(
                f"from_layer_norm: norm is {norm}, must be over one dimension and without hooks. Condition the norms "
                "first, then add hooks."
            )
        like = norm.weight
        new = cls(
            norm.normalized_shape[0],
            condition_size,
            norm.eps,
            norm.elementwise_affine,
            norm.bias is not None,
            hidden_size=hidden_size,
            activation=activation,
            backend=backend,
            device=None if like is None else like.device,
            dtype=None if like is None else like.dtype,
        )
        new.weight, new.bias = norm.weight, norm.bias
        return new.train(norm.training)

    def gamma_beta(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """`gamma + W_gamma h` and `beta + W_beta h`, (..., D) for conditions (..., C)."""
        h = condition.to(self.W_gamma.dtype)
        if self.W_hidden is not None:
            h = self.activation(F.linear(h, self.W_hidden))
        gamma, beta = F.linear(h, self.W_gamma), F.linear(h, self.W_beta)
        return gamma + (1 if self.weight is None else self.weight), beta if self.bias is None else beta + self.bias

    def forward(self, input: Tensor, condition: Tensor | None = None) -> Tensor:  # noqa: A002  nn.LayerNorm's name
        beams = False
        if condition is None:
            if self._given is None:
                raise RuntimeError(
                    "ConditionalLayerNorm: condition is missing, must be given. Call the model within `with "
                    "conditioned(model, condition):`, the backward pass too if it recomputes activations; "
                    "`conditioned(model, None)` is the unconditional norm."
                )
            condition, beams, _ = self._given
            if condition is None:
                return super().forward(input)
        if input.is_nested:
            raise ValueError(
                "ConditionalLayerNorm: input is nested, must be dense. Set use_nested_tensor = False on the "
                "nn.TransformerEncoder that made it so."
            )
        gamma, beta = self.gamma_beta(_fit(condition, input, self.condition_size, beams))
        return conditional_layer_norm(input, gamma, beta, self.eps, backend=self.backend)

    def extra_repr(self) -> str:
        hidden = "" if self.hidden_size is None else f", hidden_size={self.hidden_size}"
        form = "1 + W_gamma h" if self.weight is None else "weight + W_gamma h"
        return f"{super().extra_repr()}, condition_size={self.condition_size}{hidden}, scale = {form}"


def condition_all_norms(
    module: nn.Module,
    condition_size: int,
    *,
    hidden_size: int | None = None,
    activation: Activation = F.silu,
    select: Callable[[str], bool] | None = None,
    backend: str | None = None,
) -> list[str]:
    """Put a `ConditionalLayerNorm` in the place of every `nn.LayerNorm` of a model; what it computes does not change.

    Args:
        module: any model, such as BERT or GPT-2 of Hugging Face; it is changed in place. Parameters stay the same
            objects under the same names, so that optimizers and checkpoints go on working.
        condition_size, hidden_size, activation, backend: as in `ConditionalLayerNorm`. The hidden layer is each
            norm's own; the parameters of the condition are those named `W_...`.
        select: of the name of a norm, whether to replace it; None replaces all.
    Returns:
        The names of the norms replaced; one that is used in two places has two, and stays one module.
    Raises:
        TypeError, ValueError: no norm to replace, module itself is a norm, or one that `from_layer_norm` refuses. Then
            nothing has been changed.

    The commonest surprise: RMSNorm is not layer norm, and is not replaced.

    >>> model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    >>> condition_all_norms(model, 2)
    ['1']
    >>> with conditioned(model, torch.randn(1, 2)):
    ...     model(torch.ones(5, 3)).shape
    torch.Size([5, 4])
    """
    found = {
        name: norm
        for name, norm in module.named_modules(remove_duplicate=False)
        if isinstance(norm, nn.LayerNorm)
        and not isinstance(norm, ConditionalLayerNorm)
        and (select is None or select(name))
    }
    if not found or "" in found:
        raise ValueError(
            f"condition_all_norms: module is a {type(module).__name__} with the norms {list(found)} to replace, must "
            "contain at least one below itself. Use ConditionalLayerNorm.from_layer_norm for a norm by itself."
        )
    convert = functools.cache(
        lambda norm: ConditionalLayerNorm.from_layer_norm(
            norm, condition_size, hidden_size=hidden_size, activation=activation, backend=backend
        )
    )
    for norm in found.values():
        convert(norm)
    for name, norm in found.items():
        parent, _, attribute = name.rpartition(".")
        setattr(module.get_submodule(parent), attribute, convert(norm))
    return list(found)


@contextlib.contextmanager
def conditioned(module: nn.Module, condition: Tensor | None, *, beams: bool = False) -> Iterator[None]:
    """Give every `ConditionalLayerNorm` of a model its condition for a while, however the model is called within.

    Args:
        module: a model with at least one conditional norm; calls of it, and its `generate`, keep their signature.
        condition: as in `ConditionalLayerNorm`; with its graph, so that what computed it learns. None: unconditional.
        beams: a batch k times as large as the condition's is taken for k beams of each sequence, one after the other,
            as `generate` of Hugging Face has them; without it such a batch is an error.
            `gantext.seq2seq.decoding.sample` keeps the samples of a source together, (B, k, D), and does not need it;
            its beam search drops finished sources from the batch, so give it one source or a condition (C,) at a time.

    It may be nested: the inner condition holds within. Gradient checkpointing computes the forward pass again during
    the backward pass, so call both within.

    Raises:
        TypeError, ValueError: a condition of the wrong kind or size, or a model without conditional norms.
        RuntimeError: another thread has conditioned the same model at the moment; give each thread a copy of its own.

    The commonest surprise: outside there is no condition, and the model raises rather than guess.

    >>> norm = ConditionalLayerNorm(4, condition_size=2)
    >>> with conditioned(norm, torch.zeros(3, 2)):
    ...     norm(torch.randn(3, 7, 4)).shape
    torch.Size([3, 7, 4])
    """
    norms = [m for m in module.modules() if isinstance(m, ConditionalLayerNorm)]
    if not norms:
        raise ValueError(
            f"conditioned: module is a {type(module).__name__} without conditional norms, must have one. Call "
            "condition_all_norms(module, condition_size) first."
        )
    if condition is not None:
        for size in {norm.condition_size for norm in norms}:
            _check_condition("conditioned", condition, size)
    given = _Given(condition, beams, threading.get_ident())
    with _LOCK:
        before = [norm._given for norm in norms]
        if any(other is not None and other.thread != given.thread for other in before):
            raise RuntimeError(
                "conditioned: module is conditioned by another thread, must be by one at a time. Give each thread a "
                "copy.deepcopy of the model, made before."
            )
        for norm in norms:
            norm._given = given
    try:
        yield
    finally:
        with _LOCK:
            for norm, other in zip(norms, before, strict=True):
                norm._given = other


_LOCK = threading.Lock()


def _no_fast_path(*_: object) -> None:
    pass


def _check_condition(name: str, condition: Tensor, size: int) -> None:
    if not isinstance(condition, Tensor) or not condition.is_floating_point():
        got = condition.dtype if isinstance(condition, Tensor) else type(condition).__name__
        raise TypeError(f"{name}: condition is {got}, must be a floating tensor. Embed labels with nn.Embedding.")
    if condition.dim() == 0 or condition.shape[-1] != size:
        raise ValueError(
            f"{name}: condition has shape {tuple(condition.shape)}, must end with {size}, the condition_size of the "
            "norms. Give the vector that they were made for."
        )


def _fit(condition: Tensor, x: Tensor, size: int, beams: bool) -> Tensor:
    """The condition with a batch, and tokens if it has any, that broadcast to those of x."""
    _check_condition("ConditionalLayerNorm", condition, size)
    given, sizes = tuple(condition.shape[:-1]), tuple(x.shape[:-1])
    if beams and given and sizes and given[0] > 0 and sizes[0] % given[0] == 0:
        condition = condition.repeat_interleave(sizes[0] // given[0], 0)
    fits = len(given) <= 1 or len(given) == len(sizes)
    if not fits or any(c not in (1, n) for c, n in zip(condition.shape[:-1], sizes, strict=False)):
        raise ValueError(
            f"ConditionalLayerNorm: condition has shape {tuple(condition.shape)} for input of shape {tuple(x.shape)}, "
            "must be one vector for all, for each sequence, or for each token. For k beams of each sequence use "
            "conditioned(..., beams=True)."
        )
    return condition
