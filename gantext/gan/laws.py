"""What the GANs of this book imitate: mixtures of Gaussians and 8 x 8 digits behind one interface.

A law has the `shape` of one sample and draws n of them with `sample(n, rng)`, float32, on the device of the
`torch.Generator` rng; one seed gives one stream on one kind of device. An argument of the wrong kind raises TypeError,
one outside its stated range ValueError.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from gantext._checks import check_count, check_number, check_type, floating

__all__ = ["Digits", "Mixture", "digits", "grid", "normal", "ring"]


@dataclass(frozen=True, eq=False)
class Mixture:
    """The mixture of K round Gaussians N(means[k], std^2 I), equally likely, in d dimensions.

    Args:
        means: (K, d), floating, finite in float32, in which a copy is kept on the CPU.
        std: >= 0, in the unit of the means, one number for all; 0 gives K point masses.

    The commonest surprise: a batch does not hold n / K samples of each mode, since the mode is drawn too.

    >>> law = Mixture(torch.tensor([[0.0], [3.0]]), std=0)
    >>> law.shape, sorted(set(law.sample(50, torch.Generator().manual_seed(0)).flatten().tolist()))
    ((1,), [0.0, 3.0])
    """

    means: Tensor
    std: float

    def __post_init__(self) -> None:
        means = floating("Mixture", "means", self.means).detach().to("cpu", torch.float32, copy=True)
        if means.dim() != 2 or not means.isfinite().all():
            raise ValueError(
                f"Mixture: means of shape {tuple(means.shape)} must be (K, d) and finite in float32. One row is one "
                "mode."
            )
        object.__setattr__(self, "std", check_number("Mixture", "std", self.std, 0, included=True))
        object.__setattr__(self, "means", means)

    @property
    def shape(self) -> tuple[int]:
        return (self.means.shape[1],)

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        n = check_draw("Mixture.sample", n, rng)
        modes = torch.randint(len(self.means), (n,), generator=rng, device=rng.device)
        noise = torch.randn(n, *self.shape, generator=rng, device=rng.device, dtype=torch.float32)
        return self.means.to(rng.device)[modes] + self.std * noise  # (n, d)


def ring(modes: int = 8, radius: float = 2.0, std: float = 0.05) -> Mixture:
    """The mixture of Gaussians evenly spaced on a circle around 0, the first at (radius, 0), then anticlockwise.

    Args:
        modes: >= 1.
        radius: > 0; neighbours are 2 radius sin(pi / modes) apart, with the defaults 1.53 or 31 std.
        std: >= 0, in the unit of the radius.

    Source: Metz et al., Unrolled GANs, arXiv 1611.02163, section 3.1.

    >>> ring(4).means.round().abs().tolist()
    [[2.0, 0.0], [0.0, 2.0], [2.0, 0.0], [0.0, 2.0]]
    """
    modes = check_count("ring", "modes", modes)
    radius = check_number("ring", "radius", radius, 0)
    angle = torch.arange(modes, dtype=torch.float64) * (2 * math.pi / modes)
    return Mixture(radius * torch.stack([angle.cos(), angle.sin()], 1), std)


def grid(side: int = 5, spacing: float = 1.0, std: float = 0.05) -> Mixture:
    """The mixture of side x side Gaussians on a square lattice centred at 0, row by row from the lower left.

    Args:
        side: >= 1.
        spacing: > 0, between neighbours in a row or column.
        std: >= 0, in the unit of the spacing.

    Source: Srivastava et al., VEEGAN, arXiv 1705.07761, section 4.1.

    >>> grid(2).means.tolist()
    [[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]]
    """
    side = check_count("grid", "side", side)
    spacing = check_number("grid", "spacing", spacing, 0)
    ticks = spacing * (torch.arange(side, dtype=torch.float64) - (side - 1) / 2)
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    return Mixture(torch.stack([x.flatten(), y.flatten()], 1), std)


def normal(mean: float | Sequence[float] | np.ndarray, std: float = 1.0) -> Mixture:
    """The round Gaussian N(mean, std^2 I), a `Mixture` of one; std = 0 is the point mass at the mean.

    Args:
        mean: finite number for a law on the line, whose samples are (n, 1), or d of them.
        std: >= 0.

    >>> normal(0.5, 0).sample(2, torch.Generator()), normal([0, 0, 0]).shape
    (tensor([[0.5000], [0.5000]]), (3,))
    """
    if isinstance(mean, Tensor):
        mean = mean.numpy(force=True)
    at = np.asarray(mean, dtype=np.float64)
    if at.ndim > 1:
        raise ValueError(f"normal: mean has shape {at.shape}, must be one number or (d,). Use Mixture for several.")
    return Mixture(torch.from_numpy(np.atleast_2d(at)), std)


@dataclass(frozen=True, eq=False)
class Digits:
    """The empirical law of handwritten digits: each draw takes one of the images, with replacement. Made by `digits`.

    `images` is (N, 64), float32 in [-1, 1], a row the 8 x 8 pixels from the top left, ink +1; `labels` is (N,), int64.
    """

    images: Tensor
    labels: Tensor

    @property
    def shape(self) -> tuple[int]:
        return (self.images.shape[1],)

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        n = check_draw("Digits.sample", n, rng)
        rows = torch.randint(len(self.images), (n,), generator=rng, device=rng.device)
        return self.images.to(rng.device)[rows]  # (n, 64)


def digits(split: str = "train") -> Digits:
    """The 1797 handwritten digits that come with scikit-learn, in a fixed split of 1200 and 597.

    The grey levels 0 to 16 become [-1, 1]. The order is `numpy.random.RandomState(0).permutation(1797)`, a generator
    whose stream NumPy has frozen; its first 1200 entries are "train", the rest "test". Flat, for dense networks:
    `images.view(-1, 8, 8)` to draw them. Without scikit-learn it raises ModuleNotFoundError.

    The commonest surprise: scikit-learn holds only what the UCI set calls its test part, 13 writers, and both splits
    here know all of them. Source: Alpaydin, Kaynak, UCI Optical Recognition of Handwritten Digits, 1998.

    >>> train = digits()
    >>> train.shape, len(train.images), train.images.min().item(), train.images.max().item()
    ((64,), 1200, -1.0, 1.0)
    """
    if split not in ("train", "test"):
        raise ValueError(f"digits: split is {split!r}, must be 'train' or 'test'. There is no third part.")
    images, labels = _load_digits()
    order = np.random.RandomState(0).permutation(len(images))
    rows = order[:1200] if split == "train" else order[1200:]
    return Digits(torch.from_numpy(images[rows] / 8 - 1).float(), torch.from_numpy(labels[rows]).long())


@cache
def _load_digits() -> tuple[np.ndarray, np.ndarray]:
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "digits: scikit-learn is not installed, must be: the images are part of it. "
            "Install it with `pip install scikit-learn`."
        ) from error
    images, labels = load_digits(return_X_y=True)
    return images, labels


def check_draw(name: str, n: int, rng: torch.Generator) -> int:
    check_type(name, "rng", rng, torch.Generator, "Use torch.Generator().manual_seed(0).")
    return check_count(name, "n", n)
