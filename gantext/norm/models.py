"""Conditional norms in a trained model: put in the place of its own, and given their condition for a while."""

from __future__ import annotations

import collections
import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from gantext._checks import check_type
from gantext.kernels.layer_norm import DTYPES
from gantext.norm.forms import is_norm, recognise
from gantext.norm.modules import (
    Activation,
    Conditional,
    ConditionalLayerNorm,
    ConditionalRMSNorm,
    Given,
    check_condition,
)

__all__ = ["condition_all_norms", "conditioned"]

_LOCK = threading.Lock()


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

    A norm is an `nn.LayerNorm`, an `nn.RMSNorm`, or a module whose class has LayerNorm or RMSNorm in its name and no
    modules inside; other norms (batch, group, instance) are left as they are. What is not PyTorch's own is tried, on a
    copy with random weights: it must take one tensor, have a weight (D,) and at most a bias (D,), compute
    `n weight + bias` or `n (1 + weight) + bias`, n the layer or RMS normalisation of the last dimension (the 1 is
    Gemma's), and take a weight for each sequence. Then the condition moves the weight that is handed to its own code.
    Maps go to the device and dtype of the weight; without a weight, to those of the parameters nearest to the norm.

    To save, use `model.save_pretrained(folder)` or a state dict as ever. To load, build, condition and fill the model::

        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
        condition_all_norms(model, condition_size)
        safetensors.torch.load_model(model, f"{folder}/model.safetensors")

    The commonest surprise: `from_pretrained` builds a model without conditional norms and drops the maps with no more
    than a warning. The chapter shows a subclass that conditions itself in its constructor; there a checkpoint without
    maps leaves them as the memory was: call `reset_maps`.

    >>> import torch
    >>> model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.RMSNorm(4))
    >>> condition_all_norms(model, 2)
    ['1', '2']
    >>> with conditioned(model, torch.randn(1, 2)):
    ...     model(torch.ones(5, 3)).shape
    torch.Size([5, 4])
    """
    check_type("condition_all_norms", "module", module, nn.Module, "Give the model.")
    check_type("condition_all_norms", "select", select or str, Callable, "Write a function of a norm's name.")
    others = {name: m for name, m in module.named_modules(remove_duplicate=False) if not isinstance(m, Conditional)}
    found = {name: m for name, m in others.items() if is_norm(m) and (select is None or select(name))}
    if not found or "" in found:
        kinds = (type(m).__name__ for m in module.modules())
        met = collections.Counter(kind for kind in kinds if re.search("norm(?!al)", kind, re.IGNORECASE))
        raise ValueError(
            f"condition_all_norms: module is a {type(module).__name__} with the norms {list(found)} to replace, must "
            f"contain at least one layer or RMS norm below itself. Norms met: {dict(met) or 'none'}. Write others by "
            "hand; for a norm by itself use ConditionalLayerNorm.from_layer_norm or ConditionalRMSNorm.from_rms_norm."
        )

    new: dict[nn.Module, Conditional] = {}
    for name, norm in found.items():
        try:
            if norm not in new:
                kind, form = recognise("condition_all_norms", norm)
                options = {"hidden_size": hidden_size, "activation": activation, **_nearest(module, name)}
                if kind == "rms":
                    new[norm] = ConditionalRMSNorm.sharing(norm, form, condition_size, **options)
                else:
                    new[norm] = ConditionalLayerNorm.sharing(norm, form, condition_size, backend=backend, **options)
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
            as `generate` of Hugging Face has them; without it such a batch is an error. `seq2seq.decoding.sample` does
            not need it; beam search there drops finished sources: give it one source or a condition (C,) at a time.

    It may be nested: the inner condition holds within. Gradient checkpointing computes the forward pass again during
    the backward pass, so call both within.

    Raises:
        TypeError, ValueError: a condition of the wrong kind or size, or a model without conditional norms.
        RuntimeError: another thread has conditioned the same model at the moment; give each thread a copy of its own.

    >>> import torch
    >>> norm = ConditionalLayerNorm(4, condition_size=2)
    >>> with conditioned(norm, torch.zeros(3, 2)):
    ...     norm(torch.randn(3, 7, 4)).shape
    torch.Size([3, 7, 4])
    """
    check_type("conditioned", "module", module, nn.Module, "Give the model.")
    norms = [m for m in module.modules() if isinstance(m, Conditional)]
    if not norms:
        found, rule = type(module).__name__, "must have one. Call condition_all_norms(module, condition_size) first."
        raise ValueError(f"conditioned: module is a {found} without conditional norms, {rule}")
    if condition is not None:
        for size in {norm.condition_size for norm in norms}:
            check_condition("conditioned", condition, size)
    given = Given(condition, beams, threading.get_ident())
    with _LOCK:
        before = [norm.given for norm in norms]
        if any(other is not None and other.thread != given.thread for other in before):
            rule = "must be by one at a time. Give each thread a copy.deepcopy of the model, made before."
            raise RuntimeError(f"conditioned: module is conditioned by another thread, {rule}")
        for norm in norms:
            norm.given = given
    try:
        yield
    finally:
        with _LOCK:
            for norm, other in zip(norms, before, strict=True):
                norm.given = other


def _nearest(module: nn.Module, name: str) -> dict[str, Any]:
    """Device and dtype of the first parameter below the closest module above a norm that has any."""
    while name:
        name = name.rpartition(".")[0]
        for p in module.get_submodule(name).parameters():
            if p.dtype in DTYPES:
                return {"device": p.device, "dtype": p.dtype}
    return {}
