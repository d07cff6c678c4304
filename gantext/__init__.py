"""gantext: the thin package behind an executable book of derivations.

:mod:`gantext.matexp` (the matrix exponential), :mod:`gantext.gan` (adversarial training), :mod:`gantext.sphere` (JoSE,
descent on the sphere), :mod:`gantext.seq2seq` (prefix-LM attention, Transformer, decoding), :mod:`gantext.norm` (norms
that take a condition), :mod:`gantext.qa` (reading comprehension). Below them :mod:`gantext.kernels` (every GPU kernel
beside its reference), :mod:`gantext.docstrings` (text that is always at hand), :mod:`gantext.statistics` (intervals of
means over seeds) and :mod:`gantext.book` (what notebooks share). The checked equations are the package `texledger`.
"""

from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from gantext import book, docstrings, gan, kernels, matexp, norm, qa, seq2seq, sphere, statistics

__version__ = "0.1.0"
__all__ = [
    "at_scale", "book", "docstrings", "environment", "gan", "kernels", "matexp", "norm", "qa", "seq2seq", "sphere",
    "statistics",
]  # fmt: skip


_Choice = TypeVar("_Choice")


def at_scale(scale: str, choices: Mapping[str, _Choice]) -> _Choice:
    """What a chapter does at this size: `choices[scale]`.

    Args:
        scale: the chapter's `SCALE`.
        choices: what there is at each size that the chapter has; not every one has "paper", a source's configuration.

    >>> at_scale("gpu", {"reduced": 500, "gpu": 4000})
    4000
    """
    if not isinstance(scale, str):
        kind = type(scale).__name__
        raise TypeError(f"SCALE is {scale!r} ({kind}), must be one of {', '.join(map(repr, choices))}. Write a str.")
    if scale not in choices:
        import difflib

        near = difflib.get_close_matches(scale.strip().lower(), choices, 1, 0.5)
        hint = f"Do you mean {near[0]!r}?" if near else "What each is, the chapter says."
        raise ValueError(f"SCALE is {scale!r}, must be one of {', '.join(map(repr, choices))} here. {hint}")
    return choices[scale]


def environment() -> str:
    """One readable line on what this runs on: versions, device, the kernels' backend, and the `SCALE` that fits it.

    >>> environment().split(" ")[0]
    'gantext'
    """
    import platform
    from importlib.util import find_spec

    import torch

    cuda = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if cuda else "CPU"
    fits = '"gpu" (the chapter says for how long)' if cuda else '"reduced" (a chapter takes a few minutes)'
    return " · ".join(
        [
            f"gantext {__version__}",
            f"Python {platform.python_version()}",
            f"torch {torch.__version__}",
            f"device {device}",
            f"backend {'Triton' if cuda and find_spec('triton') else 'PyTorch'}",
            f"SCALE that fits: {fits}",
        ]
    )


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return import_module(f"gantext.{name}")
    raise AttributeError(f"module 'gantext' has no attribute {name!r}")
