"""How well samples imitate a law: modes of a mixture; distances, precision and recall in the features of a network.

FID and KID of the papers are `frechet_distance` and `kernel_distance` in the features of Inception, on tens of
thousands of photographs. Here features are those of `gantext.gan.features`, and the sets are small: the numbers rank
generators **within this book** and compare with no paper.

All is computed on the CPU in float64, without a graph, and returned as Python numbers. An argument of the wrong kind
raises TypeError, one outside its stated range ValueError, before anything is computed; so do samples that are not
finite, as those of a diverged generator: count such a run as failed.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from gantext._checks import check_count, check_number, check_type, samples_of
from gantext.gan.distances import bures
from gantext.gan.laws import Mixture

__all__ = [
    "Floor", "KernelDistance", "ModeCoverage", "PrecisionRecall", "frechet_distance", "frechet_floor",
    "kernel_distance", "mode_coverage", "precision_recall",
]  # fmt: skip

_CHUNK = 1 << 22  # entries of a distance or kernel matrix held at once: 32 MiB


class ModeCoverage(NamedTuple):
    """How many modes are covered, and the share of good samples in [0, 1]."""

    modes: int
    good: float


def mode_coverage(samples: Tensor, mixture: Mixture, within: float = 3.0, share: float = 0.2) -> ModeCoverage:
    """Number of modes that samples cover, and the share of samples that lie in one.

    A sample is good if it lies within `within` standard deviations of its nearest mean. Of the law itself the share
    P(d/2, within^2 / 2) is good (P the lower incomplete gamma function): 1 - exp(-9/2) = 0.98889 in the plane, not 1.
    A mode is covered if at least `share` n / K of the n samples are good and nearest to it, a fifth of what equal parts
    would give it; the papers count it from one good sample on, which more samples satisfy more easily.

    Args:
        samples: (n, d), floating, with share n / K >= 1; from n = 40 K on, the law itself misses a given mode with
            probability below 1e-8 (share 0.2, d = 2).
        mixture: K modes in d dimensions with std > 0.
        within: > 0, in standard deviations.
        share: > 0, at most 1.

    Source: Srivastava et al., VEEGAN, arXiv 1705.07761, section 4.1, for three standard deviations.

    >>> law = Mixture(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), std=0.1)
    >>> mode_coverage(torch.tensor([[1.0, 0.0]] * 15 + [[0.0, 0.0]] * 5), law)
    ModeCoverage(modes=1, good=0.75)
    """
    within = check_number("mode_coverage", "within", within, 0)
    share = check_number("mode_coverage", "share", share, 0)
    check_type("mode_coverage", "mixture", mixture, Mixture, "Use ring() or grid().")
    K, d = mixture.means.shape
    least = math.ceil(K / share)
    if share > 1 or mixture.std == 0:
        found = f"share is {share} and mixture.std is {mixture.std}"
        raise ValueError(
            f"mode_coverage: {found}, must be at most 1 and > 0. A point mass has no spread to measure by."
        )
    x = samples_of("mode_coverage", "samples", samples, least, d)
    near = [_distances(part, mixture.means.double()).min(1) for part in _parts(x, K)]
    distance, mode = torch.cat([m.values for m in near]), torch.cat([m.indices for m in near])  # (n,)
    good = distance <= within * mixture.std
    covered = torch.bincount(mode[good], minlength=K) >= share * len(x) / K
    return ModeCoverage(int(covered.sum()), float(good.double().mean()))


def frechet_distance(x: Tensor, y: Tensor) -> float:
    """Squared W_2 of the Gaussians fitted to two sets of features (equation `wasserstein:bures`, squared).

    `|m - m'|^2 + Tr(C + C' - 2 (C^(1/2) C' C^(1/2))^(1/2))` with sample means and covariances (divisor n - 1), in the
    squared unit of the features.

    Args:
        x, y: (n, d) and (m, d), floating, n and m >= 2; fewer samples than features are allowed.

    The commonest surprise: two samples of one law are apart. For N(0, s^2 I) the mean is s^2 (d + d (d + 1) / 4)
    (1/n + 1/m) to first order. Compare equal sizes only, and quote `frechet_floor`.
    Source: Heusel et al., arXiv 1706.08500; for the bias Chong, Forsyth, arXiv 1911.07023.

    >>> x = torch.tensor([[0.0], [2.0]])
    >>> round(frechet_distance(x, 3 * x + 1), 6)  # means 1 and 4, standard deviations 2^(1/2) and 3 * 2^(1/2)
    17.0
    """
    x = samples_of("frechet_distance", "x", x, 2)
    y = samples_of("frechet_distance", "y", y, 2, x.shape[1])
    return float(bures(*_moments(x), *_moments(y)).square())


class Floor(NamedTuple):
    """Mean and standard deviation of a score that a perfect generator would get."""

    mean: float
    std: float


def frechet_floor(reference: Tensor, n: int, *, repeats: int = 20, seed: int = 0) -> Floor:
    """Fréchet distance of `n` draws, with replacement, from the reference set to that set, over several repeats.

    What a generator that reproduces the reference exactly would score with n samples. Against the 1200 training digits:
    0.57 ± 0.20 with 1200 samples, 0.22 ± 0.10 with 3000. Unseen images lie higher, as the reference is a sample too:
    the 597 test digits have 3.16; all digits split anew at random, 1200 against 597, have 1.9 ± 0.8.

    Args:
        reference: (m, d), floating, m >= 2, the set that scores are taken against.
        n: >= 2, samples that are scored.
        repeats: >= 2.
        seed: of the draws.
    Returns:
        `Floor(mean, std)`, the spread of one score about its mean.

    >>> frechet_floor(torch.tensor([[0.0], [1.0]] * 50), 1000).mean < 0.01
    True
    """
    n = check_count("frechet_floor", "n", n, 2)
    repeats = check_count("frechet_floor", "repeats", repeats, 2)
    seed = check_count("frechet_floor", "seed", seed, 0)
    x = samples_of("frechet_floor", "reference", reference, 2)
    rng, moments = torch.Generator().manual_seed(seed), _moments(x)
    draws = (x[torch.randint(len(x), (n,), generator=rng)] for _ in range(repeats))
    scores = torch.stack([bures(*_moments(draw), *moments).square() for draw in draws])
    return Floor(float(scores.mean()), float(scores.std()))


class KernelDistance(NamedTuple):
    """Estimate and its standard error."""

    value: float
    error: float


def kernel_distance(x: Tensor, y: Tensor, degree: int = 3) -> KernelDistance:
    """Squared maximum mean discrepancy with the polynomial kernel k(a, b) = (a . b / d + 1)^degree, without bias.

    mean k(x_i, x_j) over i != j, plus the same of y, minus 2 mean k(x_i, y_j): a U-statistic, whose expectation is 0
    for samples of one law, whatever their sizes; it may be negative.

    Args:
        x, y: (n, d) and (m, d), floating, n and m >= 3.
        degree: >= 1; 3 compares the moments up to the third.
    Returns:
        `KernelDistance(value, error)`, the error by the jackknife, each sample left out once. On average its square is
        at least the variance: exact to first order for different laws, too large for equal ones.

    Source: Bińkowski et al., arXiv 1801.01401, section 4; Efron, Stein, Ann. Statist. 9 (1981), for the error.

    >>> x = torch.tensor([[0.0], [1.0], [2.0]])
    >>> round(kernel_distance(x, x + 3, degree=1).value, 12)  # (difference of means)^2 without bias: 9 - 1/3 - 1/3
    8.333333333333
    """
    degree = check_count("kernel_distance", "degree", degree)
    x = samples_of("kernel_distance", "x", x, 3)
    y = samples_of("kernel_distance", "y", y, 3, x.shape[1])
    if degree * math.log10(max(part.square().mean(1).max() for part in (x, y)) + 1) > 150:
        raise ValueError(
            f"kernel_distance: degree is {degree}, must keep k(x, x) below 1e150. Lower it, or scale x, y."
        )
    n, m = len(x), len(y)
    within_x, within_y = (_kernel_sums(z, z, degree) - (z.square().mean(1) + 1).pow(degree) for z in (x, y))  # j != i
    across_x, across_y = _kernel_sums(x, y, degree), _kernel_sums(y, x, degree)  # (n,), (m,)
    xx, yy, xy = within_x.sum(), within_y.sum(), across_x.sum()
    value = xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2 * xy / (n * m)
    no_x = (xx - 2 * within_x) / ((n - 1) * (n - 2)) - 2 * (xy - across_x) / ((n - 1) * m)  # with x_i left out
    no_y = (yy - 2 * within_y) / ((m - 1) * (m - 2)) - 2 * (xy - across_y) / (n * (m - 1))
    variance = (n - 1) * no_x.var(correction=0) + (m - 1) * no_y.var(correction=0)
    return KernelDistance(float(value), float(variance.sqrt()))


def _kernel_sums(x: Tensor, y: Tensor, degree: int) -> Tensor:
    """Sum over j of k(x_i, y_j), for each i."""
    return torch.cat([(part @ y.mT / x.shape[1] + 1).pow(degree).sum(1) for part in _parts(x, len(y))])


class PrecisionRecall(NamedTuple):
    """Share of fakes in the manifold of the reals, and of reals in that of the fakes, both in [0, 1]."""

    precision: float
    recall: float


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> PrecisionRecall:
    """Share of fakes that lie near reals (fidelity), and of reals that lie near fakes (diversity).

    The manifold of a set is the union of balls about its points, each as far as the point's k-th nearest neighbour
    among the others. One set against itself has 1 and 1, two samples of one law have less; one outlier's ball can hold
    a whole set.

    Args:
        real, fake: (n, d) and (m, d), floating, n and m > k, best n = m: a larger set has smaller balls.
        k: >= 1.

    Source: Kynkäänniemi et al., arXiv 1904.06991, with k = 3.

    >>> real = torch.arange(10.0)[:, None]
    >>> precision_recall(real, real / 2)  # fakes all among the reals, but only on 0 to 4.5, with radius 0.5 to 1.5
    PrecisionRecall(precision=1.0, recall=0.7)
    """
    k = check_count("precision_recall", "k", k)
    real = samples_of("precision_recall", "real", real, k + 1)
    fake = samples_of("precision_recall", "fake", fake, k + 1, real.shape[1])
    return PrecisionRecall(_share_inside(fake, real, k), _share_inside(real, fake, k))


def _share_inside(points: Tensor, centres: Tensor, k: int) -> float:
    chunks = _parts(centres, len(centres))  # the nearest to a centre is itself, hence k + 1
    radii = torch.cat([_distances(part, centres).kthvalue(k + 1).values for part in chunks])
    inside = [(_distances(part, centres) <= radii).any(1) for part in _parts(points, len(centres))]
    return float(torch.cat(inside).double().mean())


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    mean = x.mean(0)
    centred = x - mean
    return mean, centred.mT @ centred / (len(x) - 1)


def _distances(x: Tensor, y: Tensor) -> Tensor:
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")  # |x|^2 - 2 x.y + |y|^2 cancels


def _parts(x: Tensor, width: int) -> tuple[Tensor, ...]:
    return x.split(max(1, _CHUNK // width))
