"""Small dense networks in plain PyTorch: generators and critics for points and for 8 x 8 digits.

Layers start with PyTorch's own initialisation: call `torch.manual_seed` before, and one seed gives one network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from gantext._checks import check_count

__all__ = ["critic", "generator", "mlp"]

_POINTS = {(1,), (2,), (3,)}
_DIGITS = (64,)


def mlp(
    sizes: Sequence[int],
    activation: Callable[[], nn.Module] = nn.ReLU,
    norm: Callable[[int], nn.Module] | None = None,
    *,
    spectral: bool = False,
) -> nn.Sequential:
    """Dense layers of the given sizes; after each but the last the norm, if any, and the activation.

    Args:
        sizes: at least two ints >= 1, input first, output last.
        activation: makes one, e.g. `nn.ReLU` or `lambda: nn.LeakyReLU(0.2)`.
        norm: makes one for a width, e.g. `nn.BatchNorm1d`.
        spectral: divide each weight matrix by an estimate of its largest singular value, refined at each forward pass
            in training mode (Miyato et al. 2018).

    >>> mlp([2, 8, 1])
    Sequential(
      (0): Linear(in_features=2, out_features=8, bias=True)
      (1): ReLU()
      (2): Linear(in_features=8, out_features=1, bias=True)
    )
    """
    if not isinstance(sizes, Iterable):
        raise TypeError(f"mlp: sizes is {sizes!r}, must be a list of ints. Begin with the input's width.")
    sizes = [check_count("mlp", "sizes", size) for size in sizes]
    if len(sizes) < 2:
        raise ValueError(f"mlp: sizes is {sizes}, must have two entries or more. Begin with the input's width.")
    layers: list[nn.Module] = []
    for i, (width, following) in enumerate(pairwise(sizes), 1):
        linear = nn.Linear(width, following)
        layers.append(spectral_norm(linear) if spectral else linear)
        if i < len(sizes) - 1:
            layers += [norm(following), activation()] if norm else [activation()]
    return nn.Sequential(*layers)


def generator(shape: tuple[int, ...], latent: int = 16) -> nn.Sequential:
    """From latent vectors (N, latent) to samples: latent-96-96-d for points, latent-128-128-64 and tanh for digits.

    Both with ReLU, the one for digits with batch norm: call `eval()` to sample, else each digit depends on its batch.

    Args:
        shape: of one sample, (d,) with d <= 3 or (64,).
        latent: >= 1, numbers in a latent vector.

    >>> generator((64,))[-1]
    Tanh()
    """
    latent = check_count("generator", "latent", latent)
    if _is_digits("generator", shape):
        return mlp([latent, 128, 128, 64], norm=nn.BatchNorm1d).append(nn.Tanh())
    return mlp([latent, 96, 96, *shape])


def critic(shape: tuple[int, ...], *, spectral: bool = False) -> nn.Sequential:
    """From samples to scores (N,), large for real: d-96-96-1 for points, 64-128-64-1 for digits, LeakyReLU(0.2).

    No batch norm: it would mix the samples, and `gantext.gan.objectives.gradient_penalty` refuses it.

    Args:
        shape: of one sample, (d,) with d <= 3 or (64,).
        spectral: as in `mlp`.

    >>> import torch
    >>> critic((2,))(torch.zeros(5, 2)).shape
    torch.Size([5])
    """
    hidden = [128, 64] if _is_digits("critic", shape) else [96, 96]
    return mlp([*shape, *hidden, 1], lambda: nn.LeakyReLU(0.2), spectral=spectral).append(nn.Flatten(0))


def _is_digits(name: str, shape: tuple[int, ...]) -> bool:
    if not isinstance(shape, Iterable) or tuple(shape) not in _POINTS | {_DIGITS}:
        raise ValueError(f"{name}: shape is {shape!r}, must be (1,), (2,), (3,) or (64,). Build your own with mlp().")
    return tuple(shape) == _DIGITS
