"""Mixtures and digits: geometry, laws of the draws, one stream a seed, one split everywhere, and bad input."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from gantext.gan import laws
from gantext.gan.laws import Digits, Mixture, digits, grid, normal, ring

LAWS: list[Mixture | Digits] = [ring(), grid(), normal(0.5), normal([1, 2, 3], 0.1), digits(), digits("test")]
SHAPES: list[tuple[int, ...]] = [(2,), (2,), (1,), (3,), (64,), (64,)]


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("law", "shape"), [*zip(LAWS, SHAPES, strict=True)])
def test_every_law_has_the_interface(law: Mixture | Digits, shape: tuple[int, ...]) -> None:
    assert law.shape == shape
    for n in (1, 7):
        x = law.sample(n, rng())
        assert x.shape == (n, *shape) and x.dtype == torch.float32 and not x.requires_grad


@pytest.mark.parametrize("law", LAWS)
def test_only_the_generator_decides(law: Mixture | Digits) -> None:
    torch.manual_seed(1)
    state, x = torch.get_rng_state(), law.sample(50, rng(3))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(law.sample(50, rng(3)), x)
    assert not torch.equal(law.sample(50, rng(4)), x)
    source = rng(3)
    assert torch.equal(law.sample(50, source), x) and not torch.equal(law.sample(50, source), x)


@pytest.mark.parametrize("modes", [1, 2, 3, 8, 11])
def test_ring_is_a_regular_polygon(modes: int) -> None:
    means = ring(modes, radius=3.0).means.double()
    gaps = (means.roll(-1, 0) - means).norm(dim=1)
    torch.testing.assert_close(means.norm(dim=1), torch.full((modes,), 3.0).double())
    torch.testing.assert_close(gaps, torch.full((modes,), 6 * math.sin(math.pi / modes)).double(), rtol=1e-6, atol=1e-6)
    turns = means[:, 0] * means.roll(-1, 0)[:, 1] - means[:, 1] * means.roll(-1, 0)[:, 0]
    assert modes < 3 or (turns > 0).all()  # anticlockwise


def test_ring_is_31_standard_deviations_apart() -> None:
    law = ring()
    gap = (law.means[1] - law.means[0]).norm().item()
    assert gap == pytest.approx(1.53, abs=0.005) and gap / law.std == pytest.approx(31, abs=0.5)


@pytest.mark.parametrize("side", [1, 2, 5, 6])
def test_grid_is_centred_and_spaced(side: int) -> None:
    means = grid(side, spacing=2.0).means
    assert means.shape == (side * side, 2) and len({tuple(row) for row in means.tolist()}) == side * side
    torch.testing.assert_close(means.mean(0), torch.zeros(2))
    rows = means.view(side, side, 2)
    torch.testing.assert_close(rows.diff(dim=1), torch.tensor([2.0, 0.0]).expand(side, side - 1, 2))
    torch.testing.assert_close(rows.diff(dim=0), torch.tensor([0.0, 2.0]).expand(side - 1, side, 2))


@pytest.mark.parametrize("law", [ring(std=0.1), grid(3, std=0.1), normal([1.0, -2.0, 5.0], 0.1)])
def test_draws_follow_the_mixture(law: Mixture) -> None:
    n, K, d = 60_000, *law.means.shape
    x = law.sample(n, rng()).double()
    mode = torch.cdist(x, law.means.double()).argmin(1)
    z = (x - law.means.double()[mode]) / law.std  # modes are at least 10 std apart
    counts = torch.bincount(mode, minlength=K).double()
    chi2 = ((counts - n / K).square() / (n / K)).sum()
    assert chi2 < K - 1 + 6 * math.sqrt(2 * K)
    assert z.mean(0).abs().max() < 5 / math.sqrt(n)
    covariance = z.mT @ z / n
    assert (covariance - torch.eye(d)).abs().max() < 5 * math.sqrt(2 / n)
    assert z.pow(4).mean().item() == pytest.approx(3, abs=5 * math.sqrt(96 / n))  # Gaussian, not uniform


def test_modes_are_drawn_not_dealt() -> None:
    law, source = Mixture(torch.tensor([[0.0], [1.0]]), std=0), rng()
    ones = torch.tensor([law.sample(100, source).sum() for _ in range(400)])
    assert ones.var().item() == pytest.approx(25, rel=5 * math.sqrt(2 / 399))  # n / 4; dealt evenly it were 0


def test_point_masses_and_the_law_on_the_line() -> None:
    assert torch.equal(normal(0.5, 0).sample(3, rng()), torch.full((3, 1), 0.5))
    assert set(map(tuple, ring(4, std=0).sample(200, rng()).tolist())) == set(map(tuple, ring(4).means.tolist()))
    x = normal(2.0, 3).sample(20_000, rng())
    assert x.mean().item() == pytest.approx(2, abs=0.11) and x.std().item() == pytest.approx(3, abs=0.08)


def test_a_mixture_is_its_own() -> None:
    means = torch.tensor([[1.0, 2.0]], dtype=torch.float64, requires_grad=True)
    law = Mixture(means, 0.1)
    assert law.means.dtype == torch.float32 and not law.means.requires_grad
    with pytest.raises(AttributeError):
        cast(Any, law).std = 1.0
    assert Mixture(torch.zeros(1, 2, dtype=torch.bfloat16), 1).sample(4, rng()).dtype == torch.float32


# --- digits


def test_digits_are_scikit_learns_in_a_fixed_split() -> None:
    images, labels = load_digits(return_X_y=True)
    train, test = digits("train"), digits("test")
    assert len(train.images) == len(train.labels) == 1200 and len(test.images) == len(test.labels) == 597
    every = torch.cat([train.images, test.images])
    order = np.random.RandomState(0).permutation(1797)
    assert order[:5].tolist() == [1081, 1707, 927, 713, 262] and sorted(order.tolist()) == list(range(1797))
    torch.testing.assert_close((every.double() + 1) * 8, torch.from_numpy(images[order]), rtol=0, atol=0)
    assert torch.equal(torch.cat([train.labels, test.labels]), torch.from_numpy(labels[order]))
    assert every.min() == -1 and every.max() == 1 and every.dtype == torch.float32
    assert train.labels.dtype == torch.int64
    digest = hashlib.sha256(train.images.numpy().tobytes() + train.labels.numpy().tobytes()).hexdigest()
    assert digest[:16] == "0ec77bebc6e028b0"


def test_no_image_and_every_digit_is_in_both_splits() -> None:
    train, test = digits("train"), digits("test")
    assert not {row.tobytes() for row in train.images.numpy()} & {row.tobytes() for row in test.images.numpy()}
    for split in (train, test):
        shares = torch.bincount(split.labels, minlength=10) / len(split.labels)
        assert shares.min() > 0.07 and shares.max() < 0.13


def test_a_row_is_the_picture_and_ink_is_one() -> None:
    train = digits()
    zero = train.images[train.labels == 0].mean(0).view(8, 8)  # a ring: ink about a hole, none in the corners
    assert zero[3:5, 3:5].mean() < -0.5 < 0 < zero[0:2, 3:5].mean() and zero[[0, 0, 7, 7], [0, 7, 0, 7]].max() < -0.9
    one = train.images[train.labels == 1].mean(0).view(8, 8)
    assert one[2:6, 3:5].mean() > 0.3  # a stroke down the middle, which a zero has not


def test_digits_are_drawn_with_replacement_and_evenly() -> None:
    law = digits()
    index = {row.tobytes(): i for i, row in enumerate(law.images.numpy())}
    assert len(index) == 1200  # no image stands twice
    drawn = torch.tensor([index[row.tobytes()] for row in law.sample(60_000, rng()).numpy()])
    counts = torch.bincount(drawn, minlength=1200).double()
    chi2 = ((counts - 50).square() / 50).sum().item()
    assert abs(chi2 - 1199) < 6 * math.sqrt(2 * 1199)
    assert len(law.sample(1200, rng()).unique(dim=0)) < 900  # 1200 (1 - 1/e) = 759 of them


def test_a_caller_cannot_spoil_the_next_ones_digits() -> None:
    before = digits().images.clone()
    digits().images.zero_()
    digits().labels.zero_()
    assert torch.equal(digits().images, before) and digits().labels.max() == 9


def test_missing_scikit_learn_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    laws._load_digits.cache_clear()
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ModuleNotFoundError, match=r"digits: scikit-learn is not installed.*pip install scikit-learn"):
        digits()
    assert ring().sample(2, rng()).shape == (2, 2)


def test_import_asks_for_no_scikit_learn() -> None:
    code = "import sys; from gantext.gan import features, laws, networks; features.Features(); print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "gantext.gan.features" in ran.stdout.split() and "sklearn" not in ran.stdout.split()


BAD: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: ring(0), ValueError, r"ring: modes is 0, must be an int >= 1\."),
    (lambda: ring(cast(Any, 8.0)), TypeError, r"ring: modes is 8\.0 \(float\)"),
    (lambda: ring(cast(Any, True)), TypeError, r"ring: modes is True"),
    (lambda: ring(radius=0), ValueError, r"ring: radius is 0, must be a finite number > 0\."),
    (lambda: ring(radius=math.inf), ValueError, r"ring: radius is inf"),
    (lambda: ring(std=-0.1), ValueError, r"Mixture: std is -0\.1, must be a finite number >= 0\."),
    (lambda: ring(std=math.nan), ValueError, r"Mixture: std is nan"),
    (lambda: ring(std=cast(Any, "0.1")), TypeError, r"Mixture: std is '0\.1' \(str\)"),
    (lambda: grid(-1), ValueError, r"grid: side is -1"),
    (lambda: grid(spacing=0), ValueError, r"grid: spacing is 0"),
    (lambda: normal(math.nan), ValueError, r"Mixture: means of shape \(1, 1\) must be \(K, d\) and finite"),
    (lambda: normal([]), ValueError, r"Mixture: means has shape \(1, 0\), must not be empty"),
    (lambda: normal(np.zeros((2, 3))), ValueError, r"normal: mean has shape \(2, 3\), must be one number or \(d,\)"),
    (lambda: normal(1e300), ValueError, r"Mixture: means .* must be .* finite in float32"),
    (lambda: ring(radius=1e39), ValueError, r"Mixture: means .* must be .* finite in float32"),
    (lambda: Mixture(torch.zeros(2), 1), ValueError, r"Mixture: means of shape \(2,\)"),
    (lambda: Mixture(torch.zeros(2, 2).long(), 1), TypeError, r"Mixture: means is torch\.int64"),
    (lambda: Mixture(cast(Any, [[0.0]]), 1), TypeError, r"Mixture: means is list"),
    (lambda: digits("valid"), ValueError, r"digits: split is 'valid', must be 'train' or 'test'"),
    (lambda: digits(cast(Any, 0)), ValueError, r"digits: split is 0"),
    (lambda: ring().sample(0, rng()), ValueError, r"Mixture\.sample: n is 0"),
    (lambda: digits().sample(cast(Any, 2.0), rng()), TypeError, r"Digits\.sample: n is 2\.0"),
    (
        lambda: ring().sample(2, cast(Any, 0)),
        TypeError,
        r"Mixture\.sample: rng is 0 \(int\), must be a Generator. Use torch\.Generator",
    ),
    (lambda: digits().sample(2, cast(Any, None)), TypeError, r"Digits\.sample: rng is None \(NoneType\)"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_bad_input_is_named(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_digits_type_is_public() -> None:
    assert isinstance(digits(), Digits) and set(laws.__all__) <= set(vars(laws))


def test_samples_are_float32_whatever_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [law.sample(9, torch.Generator().manual_seed(1)) for law in (ring(), normal(0.5), digits())]
    torch.set_default_dtype(torch.float64)
    try:
        after = [law.sample(9, torch.Generator().manual_seed(1)) for law in (ring(), normal(0.5), digits())]
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(x.dtype == torch.float32 and torch.equal(x, y) for x, y in zip(after, before, strict=True))


def test_numpys_numbers_and_arrays_are_taken() -> None:
    assert torch.equal(normal(np.array([1.0, 2.0]), cast(Any, np.float32(0.5))).means, normal([1.0, 2.0], 0.5).means)
    assert torch.equal(normal(cast(Any, np.float32(3))).means, normal(3.0).means)
    rng = lambda: torch.Generator().manual_seed(0)
    assert torch.equal(
        ring(*cast(Any, (np.int64(4), np.float32(2), np.float64(0.5)))).sample(cast(Any, np.int64(5)), rng()),
        ring(4, 2.0, 0.5).sample(5, rng()),
    )


def test_a_law_keeps_means_of_its_own() -> None:
    means = torch.zeros(2, 3, requires_grad=True)
    law = Mixture(means, 0.0)
    with torch.no_grad():
        means += 5
    assert not law.means.any() and not law.means.requires_grad
    assert torch.equal(normal(cast(Any, means[0])).means, means[:1].detach())
