"""gantext: the thin package behind an executable book of derivations.

Each topic is one module. Matrices: :mod:`gantext.matexp`. Distances between distributions: :mod:`gantext.divergences`
(exact distances of laws), :mod:`gantext.objectives` (what critics and generators minimise, gradient penalties),
:mod:`gantext.tangent` (the penalties without double backward), :mod:`gantext.games` (the methods), :mod:`gantext.gan`
(the training loop) with :mod:`gantext.data`, :mod:`gantext.nets` and :mod:`gantext.metrics`. Orthogonal decompositions:
:mod:`gantext.orthogonal`. Text: :mod:`gantext.corpus` (the documents), :mod:`gantext.sphere` and :mod:`gantext.jose`
(vectors on the sphere) with :mod:`gantext.vocabulary`, :mod:`gantext.prefixlm`, :mod:`gantext.transformer`,
:mod:`gantext.generate` and :mod:`gantext.cache` (sequence to sequence), :mod:`gantext.questions`,
:mod:`gantext.readers` and :mod:`gantext.reading` (reading comprehension), :mod:`gantext.condnorm` (conditional layer
normalization).
For all of them: :mod:`gantext.kernels` (what runs where) and :mod:`gantext.ledger` (checked equations).
"""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gantext import (
        cache,
        condnorm,
        corpus,
        data,
        divergences,
        games,
        gan,
        generate,
        jose,
        kernels,
        ledger,
        matexp,
        metrics,
        nets,
        objectives,
        orthogonal,
        prefixlm,
        questions,
        readers,
        reading,
        sphere,
        tangent,
        transformer,
        vocabulary,
    )

__version__ = "0.1.0"
__all__ = [
    "cache", "condnorm", "corpus", "data", "divergences", "environment", "games", "gan", "generate", "jose", "kernels",
    "ledger", "matexp", "metrics", "nets", "objectives", "orthogonal", "prefixlm", "questions", "readers", "reading",
    "sphere", "tangent", "transformer", "vocabulary",
]  # fmt: skip


def environment() -> str:
    """One readable line on what this runs on: versions, device and the kernels' backend.

    >>> environment().split(" ")[0]
    'gantext'
    """
    import platform
    from importlib.util import find_spec

    import torch

    cuda = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if cuda else "CPU"
    return " · ".join(
        [
            f"gantext {__version__}",
            f"Python {platform.python_version()}",
            f"torch {torch.__version__}",
            f"device {device}",
            f"backend {'Triton' if cuda and find_spec('triton') else 'PyTorch'}",
        ]
    )


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return import_module(f"gantext.{name}")
    raise AttributeError(f"module 'gantext' has no attribute {name!r}")
