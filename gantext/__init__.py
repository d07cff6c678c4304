"""gantext: the thin package behind an executable book of derivations.

Each topic is one module: :mod:`gantext.matexp` (matrix exponential), :mod:`gantext.divergences` (exact distances of
laws), :mod:`gantext.objectives` (what critics and generators minimise, gradient penalties), :mod:`gantext.tangent` (the
penalties without double backward), :mod:`gantext.games` (the methods), :mod:`gantext.gan` (the training loop) with
:mod:`gantext.data`, :mod:`gantext.nets` and :mod:`gantext.metrics` (what it is fed, what it trains, how the outcome is
measured), :mod:`gantext.orthogonal` (vectors split into a part along and a part across), :mod:`gantext.ledger` (checked
equations).
"""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gantext import data, divergences, games, gan, ledger, matexp, metrics, nets, objectives, orthogonal, tangent

__version__ = "0.1.0"
__all__ = [
    "data", "divergences", "environment", "games", "gan", "ledger", "matexp", "metrics", "nets", "objectives",
    "orthogonal", "tangent",
]  # fmt: skip


def environment() -> str:
    """One readable line on what this runs on: versions, device and the kernels' backend.

    >>> environment().split(" ")[0]
    'gantext'
    """
    import platform

    import torch

    cuda = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if cuda else "CPU"
    return " · ".join(
        [
            f"gantext {__version__}",
            f"Python {platform.python_version()}",
            f"torch {torch.__version__}",
            f"device {device}",
            "backend PyTorch",
        ]
    )


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return import_module(f"gantext.{name}")
    raise AttributeError(f"module 'gantext' has no attribute {name!r}")
