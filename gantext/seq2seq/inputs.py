"""What `gantext.seq2seq.decoding` is given, checked, and its model in evaluation mode for as long as it runs."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from gantext._checks import check_count, check_dtype, check_shape, check_type
from gantext.seq2seq.transformer import Transformer

__all__ = ["allowed", "evaluating", "opened"]


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; each module as it was after the last of those who need it, in whatever thread."""
    modules = list(model.modules())
    with _LOCK:
        for module in modules:
            users, training = _EVALUATED.get(module, (0, module.training))
            _EVALUATED[module] = users + 1, training
        model.eval()
    try:
        yield
    finally:
        with _LOCK:
            for module in modules:
                users, training = _EVALUATED.pop(module)
                if users > 1:
                    _EVALUATED[module] = users - 1, training
                else:
                    module.training = training


_LOCK = threading.Lock()
_EVALUATED: weakref.WeakKeyDictionary[nn.Module, tuple[int, bool]] = weakref.WeakKeyDictionary()  # users, mode before


def opened(
    name: str,
    model: Transformer,
    sources: Tensor,
    lengths: Tensor | None,
    separator: int,
    steps: int,
    valid: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """What a decoder is given, checked: tokens (Q, N, L), lengths (Q, N), at least 1, and valid (Q, N), on the CPU.

    There because the checks read them: from a GPU each tensor is copied once, and no check waits for it.
    """
    check_type(name, "model", model, Transformer, "Make one, or take that which is wrapped, as `.module`.")
    steps = check_count(name, "steps", steps)
    separator = check_count(name, "separator", separator, 0)
    V = model.config.vocabulary
    if separator >= V:
        rule = f"must be a token of the model's vocabulary, below {V}. Add it."
        raise ValueError(f"{name}: separator is {separator}, {rule}")
    check_dtype(name, "sources", sources, torch.int64)
    if sources.dim() not in (2, 3) or sources.numel() == 0:
        rule = "must be (Q, N, L) or (Q, L), not empty. Give at least one token."
        raise ValueError(f"{name}: sources has shape {tuple(sources.shape)}, {rule}")
    tokens = sources if sources.dim() == 3 else sources[:, None]
    Q, N, L = tokens.shape
    for argument, t, kinds in (("lengths", lengths, (torch.int64, torch.int32)), ("valid", valid, (torch.bool,))):
        if t is not None:
            check_dtype(name, argument, t, *kinds)
            check_shape(name, argument, t, sources.shape[:-1], "Give one a source.")
    tokens, n = tokens.cpu(), torch.full((Q, N), L)
    valid = torch.ones(Q, N, dtype=torch.bool) if valid is None else valid.cpu().reshape(Q, N)
    if lengths is not None:
        n = lengths.cpu().reshape(Q, N).long()
        if (n > L).any() or (n[valid] < 1).any():
            rule = f"must be from 1 to {L} where valid. Mark sources that are missing in valid."
            raise ValueError(f"{name}: lengths is from {n.min().item()} to {n.max().item()}, {rule}")
    n = n.where(valid, 1)
    longest = int(n.max())
    tokens = tokens[..., :longest].where(torch.arange(longest) < n[..., None], separator)
    model.check(tokens.flatten(0, 1), steps - 1)  # the last one is never read
    return tokens, n, valid


def allowed(name: str, allow: Tensor | None, V: int) -> Tensor | None:
    """The tokens that may be generated, (V,) bool on the CPU; None: all."""
    if allow is None:
        return None
    check_dtype(name, "allow", allow, torch.bool)
    check_shape(name, "allow", allow, (V,), "Mark every token of the vocabulary.")
    return allow.cpu()
