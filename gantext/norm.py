"""Norms that take a condition: a language model is told what to write through the scale and shift of its norms.

The chapter is `conditional-layer-norm`. `ConditionalLayerNorm` and `ConditionalRMSNorm` compute the scale and shift of
a norm from a condition vector, `condition_all_norms` puts one in the place of every norm of a trained model without
changing its output, and `conditioned` sets the condition. The operations are those of `gantext.kernels.layer_norm`.

Statistics are float32 or better and everything can be differentiated twice. An argument of the wrong kind raises
TypeError, one outside its stated range ValueError, before anything is computed.
"""

from __future__ import annotations

import collections
import contextlib
import copy
import inspect
import math
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.utils.parametrize import is_parametrized

from gantext._checks import check_count, check_number, wide
from gantext.kernels.layer_norm import DTYPES, conditional_layer_norm, conditional_rms_norm

__all__ = ["ConditionalLayerNorm", "ConditionalRMSNorm", "condition_all_norms", "conditioned"]

Activation = Callable[[Tensor], Tensor]
Place = torch.device | str | None


class _Given(NamedTuple):
    condition: Tensor | None
    beams: bool
    thread: int


class _Form(NamedTuple):
    """The arithmetic of a library's own norm, and what it adds to its weight: 1 in Gemma, else 0."""

    norm: nn.Module  # on the meta device: without numbers of its own
    offset: int

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return functional_call(self.norm, {"weight": weight} | ({} if bias is None else {"bias": bias}), (x,))


class _Conditional(nn.Module):
    """What the two conditional norms share; it stands before PyTorch's norm among the bases of each."""

    normalized_shape: tuple[int, ...]
    weight: nn.Parameter | None
    bias: nn.Parameter | None
    W_hidden: nn.Parameter | None
    W_gamma: nn.Parameter
    W_beta: nn.Parameter
    _form: _Form | None = None  # a tuple: as a module of its own its parameters would be counted
    _given: _Given | None = None

    def _add_maps(self, size: int, hidden: int | None, activation: Activation, device: Place, dtype: Any) -> None:
        self.condition_size, self.hidden_size, self.activation = size, hidden, activation
        # Parameters, not nn.Linear: what initialises the linear layers of a model must leave these zeros alone.
        new = lambda *shape: nn.Parameter(torch.zeros(*shape, device=device, dtype=dtype))
        self.W_hidden = None if hidden is None else new(hidden, size)
        self.W_gamma, self.W_beta = (new(*self.normalized_shape, hidden or size) for _ in range(2))
        self.reset_maps()
        # nn.TransformerEncoderLayer has a fast path that reads weight and bias and calls no norm; hooks turn it off.
        self.register_forward_pre_hook(_no_fast_path)

    @classmethod
    def _from(cls, caller: str, norm: nn.Module, size: int, options: dict[str, Any]) -> Self:
        """Share the parameters of a norm, and its arithmetic where that is its own."""
        form, weight = _form_of(caller, norm, cls), getattr(norm, "weight", None)
        if weight is not None:
            options |= {"device": weight.device, "dtype": weight.dtype}
        width = int(norm.normalized_shape[0] if weight is None else len(weight))  # pyright: ignore[reportIndexIssue]
        own = {"elementwise_affine": weight is not None} | ({} if form else {"eps": norm.eps})
        new = cls(width, size, **own, **options)
        new.weight, new.bias, new._form = weight, getattr(norm, "bias", None), form
        return new.train(norm.training)

    def reset_parameters(self) -> None:
        """Weight, bias and maps as a new norm has them; after `to_empty`, for one."""
        super().reset_parameters()  # pyright: ignore[reportAttributeAccessIssue]  # that of PyTorch's norm
        if self._form and self.weight is not None:
            nn.init.constant_(self.weight, 1 - self._form.offset)
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
            if self._given is None:
                raise RuntimeError(
                    f"{name}: condition is missing, must be given. Call the model within `with conditioned(model, "
                    "condition):`, the backward pass too if it recomputes activations; `conditioned(model, None)` is "
                    "the unconditional norm."
                )
            condition, beams, _ = self._given
        form, weight = self._form, self.weight
        if condition is None:
            return super().forward(input) if form is None or weight is None else form(input, weight, self.bias)
        if input.is_nested:
            raise ValueError(
                f"{name}: input is nested, must be dense. Set use_nested_tensor = False on the nn.TransformerEncoder "
                "that made it so."
            )
        gamma, beta = self.gamma_beta(_fit(name, condition, input, self.condition_size, beams))
        if form is None or weight is None:
            return self._normalize(input, gamma, beta)
        gamma, beta = gamma.to(weight.dtype), beta.to(weight.dtype)
        if self.bias is not None:
            return form(input, gamma, beta)
        y = form(input, gamma, None)
        return y + beta.to(y.dtype)

    def extra_repr(self) -> str:
        form, hidden = self._form, "" if self.hidden_size is None else f", hidden_size={self.hidden_size}"
        own = super().extra_repr() if form is None else f"{self.normalized_shape}, as {type(form.norm).__name__}"
        terms = ["1"] * (self.weight is None or bool(form and form.offset)) + ["weight"] * (self.weight is not None)
        return f"{own}, condition_size={self.condition_size}{hidden}, scale = {' + '.join([*terms, 'W_gamma h'])}"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_given": None}  # what is copied or saved within `conditioned` starts without


class ConditionalLayerNorm(_Conditional, nn.LayerNorm):
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
    token. It is moved to the device and the dtype of the maps.

    Raises:
        RuntimeError: no condition was given. None, as in `with conditioned(model, None)`, is the unconditional norm;
            the maps have no gradient then, which `DistributedDataParallel` must be told (`find_unused_parameters`).
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
        device: Place = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        sizes = _check_sizes("ConditionalLayerNorm", normalized_shape, condition_size, hidden_size)
        eps = check_number("ConditionalLayerNorm", "eps", eps, 0)
        nn.LayerNorm.__init__(self, sizes[0], eps, elementwise_affine, bias, device, dtype)
        self._add_maps(*sizes[1:], activation, device, dtype)
        self.backend = backend

    @classmethod
    def from_layer_norm(
        cls,
        norm: nn.Module,
        condition_size: int,
        *,
        hidden_size: int | None = None,
        activation: Activation = F.silu,
        backend: str | None = None,
        device: Place = None,
        dtype: torch.dtype | None = None,
    ) -> ConditionalLayerNorm:
        """A conditional norm that shares the very parameters of a layer norm, and for now computes the same.

        Args:
            norm: an `nn.LayerNorm` over the last dimension, or a library's own norm that `condition_all_norms` takes
                for a layer norm; without hooks and parametrizations, which would be lost.
            condition_size, hidden_size, activation, backend: as in the class.
            device, dtype: of the maps of a norm that has no weight. Maps go where the weight is.
        Returns:
            The conditional norm, in the training mode of the norm.
        """
        options = {"hidden_size": hidden_size, "activation": activation, "backend": backend}
        return cls._from("from_layer_norm", norm, condition_size, options | {"device": device, "dtype": dtype})

    def _normalize(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        return conditional_layer_norm(x, gamma, beta, self.eps, backend=self.backend)


class ConditionalRMSNorm(_Conditional, nn.RMSNorm):  # pyright: ignore[reportIncompatibleMethodOverride]  # input is x there
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
    def from_rms_norm(
        cls,
        norm: nn.Module,
        condition_size: int,
        *,
        hidden_size: int | None = None,
        activation: Activation = F.silu,
        device: Place = None,
        dtype: torch.dtype | None = None,
    ) -> ConditionalRMSNorm:
        """A conditional norm that shares the very weight of an RMS norm, and for now computes the same.

        Args:
            norm: an `nn.RMSNorm` over the last dimension, or a library's own that `condition_all_norms` takes for one.
                The latter's arithmetic is kept: where it rounds, and whether it adds 1 to its weight.
            condition_size, hidden_size, activation: as in the class.
            device, dtype: as in `ConditionalLayerNorm.from_layer_norm`.
        """
        options = {"hidden_size": hidden_size, "activation": activation, "device": device, "dtype": dtype}
        return cls._from("from_rms_norm", norm, condition_size, options)

    def _normalize(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        return conditional_rms_norm(x, gamma, beta, self.eps)


def condition_all_norms(
    module: nn.Module,
    condition_size: int,
    *,
    hidden_size: int | None = None,
    activation: Activation = F.silu,
    select: Callable[[str], bool] | None = None,
    backend: str | None = None,
) -> list[str]:
    """Put a conditional norm in the place of every layer norm and RMS norm; what the model computes does not change.

    Args:
        module: any model, such as BERT, GPT-2, T5 or Llama of Hugging Face; it is changed in place. Parameters stay the
            same objects under the same names, so that optimizers and checkpoints go on working.
        condition_size, hidden_size, activation, backend: as in `ConditionalLayerNorm`. The hidden layer is each
            norm's own; the parameters of the condition are those named `W_...`.
        select: of the name of a norm, whether to replace it; None replaces all.
    Returns:
        The names of the norms replaced; one that is used in two places has two, and stays one module.
    Raises:
        TypeError, ValueError: no norm to replace, module itself is a norm, or one that cannot be replaced, with the
            reason. Then nothing has been changed.

    The rule: a norm is an `nn.LayerNorm`, an `nn.RMSNorm`, or a module whose class has LayerNorm or RMSNorm in its name
    and no modules inside. What is not PyTorch's own is tried, on a copy with random weights: it must take one tensor,
    have a weight (D,) and at most a bias (D,), compute `n weight + bias` or `n (1 + weight) + bias`, where n is the
    layer or RMS normalization of the last dimension (T5LayerNorm is an RMS norm, and the 1 is Gemma's), and take a
    weight for each sequence. Then the condition moves the weight that is handed to the norm's own code.
    Other norms (batch, group, instance) are left as they are. Maps go to the device and dtype of the weight; without a
    weight, to those of the parameters nearest to the norm.

    To save, use `model.save_pretrained(folder)` or a state dict as ever. To load, build, condition and fill the model:

        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
        condition_all_norms(model, condition_size)
        safetensors.torch.load_model(model, f"{folder}/model.safetensors")

    The commonest surprise: the `from_pretrained` of Hugging Face builds a model without conditional norms and drops the
    maps with no more than a warning. A subclass that conditions itself in its constructor has all of `from_pretrained`;
    the chapter shows one. There a checkpoint without maps leaves them as the memory was: call `reset_maps`.

    >>> model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.RMSNorm(4))
    >>> condition_all_norms(model, 2)
    ['1', '2']
    >>> with conditioned(model, torch.randn(1, 2)):
    ...     model(torch.ones(5, 3)).shape
    torch.Size([5, 4])
    """
    others = {name: m for name, m in module.named_modules(remove_duplicate=False) if not isinstance(m, _Conditional)}
    found = {name: m for name, m in others.items() if _is_norm(m) and (select is None or select(name))}
    if not found or "" in found:
        kinds = (type(m).__name__ for m in module.modules())
        met = collections.Counter(kind for kind in kinds if re.search("norm(?!al)", kind, re.IGNORECASE))
        raise ValueError(
            f"condition_all_norms: module is a {type(module).__name__} with the norms {list(found)} to replace, must "
            f"contain at least one layer or RMS norm below itself. Norms met: {dict(met) or 'none'}. Write others by "
            "hand; for a norm by itself use ConditionalLayerNorm.from_layer_norm or ConditionalRMSNorm.from_rms_norm."
        )

    options: dict[str, Any] = {"hidden_size": hidden_size, "activation": activation}
    new: dict[nn.Module, _Conditional] = {}
    for name, norm in found.items():
        try:
            if norm not in new:
                new[norm] = _conditional(norm, condition_size, backend, options | _nearest(module, name))
        except (TypeError, ValueError) as error:
            alike = [other for other, m in found.items() if type(m) is type(norm)]
            raise type(error)(f"{error} Or leave out with select what is to stay as it is: {alike}.") from None
    for name, norm in found.items():
        parent, _, attribute = name.rpartition(".")
        setattr(module.get_submodule(parent), attribute, new[norm])
    return list(found)


@contextlib.contextmanager
def conditioned(module: nn.Module, condition: Tensor | None, *, beams: bool = False) -> Iterator[None]:
    """Give every conditional norm of a model its condition for a while, however the model is called within.

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
    norms = [m for m in module.modules() if isinstance(m, _Conditional)]
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


def _fit(name: str, condition: Tensor, x: Tensor, size: int, beams: bool) -> Tensor:
    """The condition with the dimensions of x, to whose batch, and tokens if it has any, it broadcasts; or (C,)."""
    _check_condition(name, condition, size)
    given, sizes = tuple(condition.shape[:-1]), tuple(x.shape[:-1])
    if beams and given and sizes and given[0] > 0 and sizes[0] % given[0] == 0:
        condition = condition.repeat_interleave(sizes[0] // given[0], 0)
    fits = len(given) <= 1 or len(given) == len(sizes)
    if not fits or any(c not in (1, n) for c, n in zip(condition.shape[:-1], sizes, strict=False)):
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


def _is_norm(module: nn.Module) -> bool:
    """Whether it is to be made conditional: PyTorch's, or by its class's name."""
    named = bool(re.search(r"(layer|rms)_?norm", type(module).__name__, re.IGNORECASE))
    whole = all(name == "parametrizations" for name, _ in module.named_children())
    return isinstance(module, nn.LayerNorm | nn.RMSNorm) or (named and whole)


HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def _kind(caller: str, norm: nn.Module) -> tuple[type[_Conditional], _Form | None]:
    """Which conditional norm takes the place of a norm, and the arithmetic that is kept, if it is not PyTorch's."""
    fail = lambda error, rule, remedy: error(
        f"{caller}: norm is a {type(norm).__name__}: {norm}, must {rule}. {remedy}"
    )
    by_hand = "Put PyTorch's own in its place first, if that computes the same, or write its conditional form by hand."
    if isinstance(norm, _Conditional) or not isinstance(norm, nn.Module):
        raise fail(TypeError, "be a norm without a condition", "Give the norm that it was made of.")
    if any(getattr(norm, hooks, None) for hooks in HOOKS) or "forward" in vars(norm) or is_parametrized(norm):
        rule = "be without hooks, parametrizations and a forward function set on it, which would be lost"
        raise fail(ValueError, rule, "Condition the norms first, then add them.")
    if type(norm) in (nn.LayerNorm, nn.RMSNorm):
        if len(norm.normalized_shape) != 1:  # pyright: ignore[reportArgumentType]
            raise fail(ValueError, "be over one dimension", by_hand)
        return (ConditionalLayerNorm if isinstance(norm, nn.LayerNorm) else ConditionalRMSNorm), None
    parameters = dict(norm.named_parameters())
    if "weight" not in parameters or set(parameters) - {"weight", "bias"} or next(norm.buffers(), None) is not None:
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
        y = _Form(form, 0)(x, w, b)
    except Exception as error:  # any code may run here
        raise fail(TypeError, f"take a weight for each sequence, (B, 1, D), and raises {error!r}", by_hand) from error
    for cls, n in (
        (ConditionalRMSNorm, F.rms_norm(x, (D,), None, 1e-6)),
        (ConditionalLayerNorm, F.layer_norm(x, (D,), None, None, 1e-6)),
    ):
        for offset in (0, 1):
            if y.shape == x.shape and torch.allclose(y.float(), n * (w + offset) + (0 if b is None else b), 0, 1e-2):
                return cls, _Form(form, offset)
    raise fail(TypeError, "compute weight or 1 + weight times the layer or RMS normalization of its input", by_hand)


def _form_of(caller: str, norm: nn.Module, cls: type[_Conditional]) -> _Form | None:
    kind, form = _kind(caller, norm)
    if kind is not cls:
        other = "from_layer_norm" if kind is ConditionalLayerNorm else "from_rms_norm"
        raise TypeError(f"{caller}: norm is {norm}, must be of the other kind. Use {kind.__name__}.{other}.")
    return form


def _conditional(norm: nn.Module, size: int, backend: str | None, options: dict[str, Any]) -> _Conditional:
    if _kind("condition_all_norms", norm)[0] is ConditionalRMSNorm:
        return ConditionalRMSNorm.from_rms_norm(norm, size, **options)
    return ConditionalLayerNorm.from_layer_norm(norm, size, backend=backend, **options)


def _nearest(module: nn.Module, name: str) -> dict[str, Any]:
    """Device and dtype of the first parameter below the closest module above a norm that has any."""
    while name:
        name = name.rpartition(".")[0]
        for p in module.get_submodule(name).parameters():
            if p.dtype in DTYPES:
                return {"device": p.device, "dtype": p.dtype}
    return {}
