"""Scores of samples: exact laws, textbook rivals, expectations by enumeration, the pinned ruler, and bad input."""

from __future__ import annotations

import importlib.resources
import itertools
import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from _compare import randn
from torch import Tensor, nn

from gantext.gan import metrics
from gantext.gan.features import Features, train_features
from gantext.gan.laws import Mixture, digits, grid, normal, ring
from gantext.gan.metrics import (
    frechet_distance,
    frechet_floor,
    kernel_distance,
    mode_coverage,
    precision_recall,
)

F64 = torch.float64
TWO_SETS: list[Callable[[Tensor, Tensor], Any]] = [frechet_distance, kernel_distance, precision_recall]
every_two_sets = pytest.mark.parametrize("score", TWO_SETS)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def at(*modes_and_counts: tuple[int, int], law: Mixture) -> Tensor:
    """Samples on the means: (mode, count) pairs; mode -1 is far from all."""
    far = torch.full_like(law.means[:1], 100.0)
    return torch.cat([(far if k < 0 else law.means[k : k + 1]).expand(n, -1) for k, n in modes_and_counts])


# --- modes


@pytest.mark.parametrize("law", [ring(), grid(), normal(0.0, 2.0), normal([0.0, 1.0, 2.0], 0.5)])
@pytest.mark.parametrize("within", [2.0, 3.0])
def test_the_law_itself_has_every_mode_and_the_ideal_share(law: Mixture, within: float) -> None:
    K, d = law.means.shape
    n = 40_000
    modes, good = mode_coverage(law.sample(n, rng()), law, within)
    ideal = scipy.stats.chi2.cdf(within**2, d)
    assert modes == K and abs(good - ideal) < 5 * math.sqrt(ideal * (1 - ideal) / n)
    assert d != 2 or ideal == pytest.approx(1 - math.exp(-(within**2) / 2), abs=1e-14)


def test_three_sigma_in_the_plane_is_0_98889() -> None:
    assert 1 - math.exp(-4.5) == pytest.approx(0.98889, abs=5e-6)


def test_a_mode_is_covered_from_a_fifth_of_an_equal_part_on() -> None:
    law = ring(4)
    assert mode_coverage(at((0, 96), (1, 4), law=law), law) == (1, 1.0)  # 100 / (5 * 4) = 5 are needed
    assert mode_coverage(at((0, 95), (1, 5), law=law), law) == (2, 1.0)
    assert mode_coverage(at((0, 90), (1, 5), (2, 5), law=law), law).modes == 3
    assert mode_coverage(at((0, 94), (1, 5), (-1, 1), law=law), law) == (2, 0.99)
    assert mode_coverage(at((0, 96), (1, 4), law=law), law, share=0.16).modes == 2
    assert mode_coverage(at((-1, 30), law=law), law) == (0, 0.0)


@pytest.mark.parametrize("times", [1, 3, 50])
def test_repeating_the_samples_changes_nothing(times: int) -> None:
    law = grid()
    x = torch.cat([law.sample(300, rng()), 2 * law.sample(300, rng(1))])
    assert mode_coverage(x.repeat(times, 1), law) == mode_coverage(x, law)


def test_one_stray_good_sample_covers_no_mode() -> None:
    law = ring()
    x = torch.cat([3 * law.sample(2000, rng()), law.means])  # what one-sample counting calls eight modes
    assert mode_coverage(x, law) == (0, 8 / 2008)


def test_the_circle_about_a_mean_decides() -> None:
    law = normal([1.0, -1.0], 0.5)
    angle = torch.linspace(0, 6, 50, dtype=F64)
    circle = law.means + torch.stack([angle.cos(), angle.sin()], 1)
    assert mode_coverage(law.means + 1.4999 * (circle - law.means), law) == (1, 1.0)
    assert mode_coverage(law.means + 1.5001 * (circle - law.means), law) == (0, 0.0)
    assert mode_coverage(law.means + 1.4999 * (circle - law.means), law, within=2.99).good == 0


@pytest.mark.parametrize("law", [ring(), grid(), grid(20), normal([0.0, 0.0])])
def test_the_law_itself_practically_never_misses_a_mode(law: Mixture) -> None:
    K = len(law.means)  # the stated bound: from n = 40 K on
    for n in (40 * K, 60 * K, 400 * K):
        needed = math.ceil(n / (5 * K))
        assert scipy.stats.binom.cdf(needed - 1, n, (1 - math.exp(-4.5)) / K) < 1e-8


def test_overlapping_modes_share_by_the_nearest() -> None:
    law = Mixture(torch.tensor([[0.0], [1.0]]), std=1.0)
    assert mode_coverage(torch.tensor([[0.4]] * 10), law) == (1, 1.0)
    assert mode_coverage(torch.tensor([[0.4]] * 8 + [[0.6]] * 2), law) == (2, 1.0)


# --- features


def test_pinned_classifier_knows_its_digits() -> None:
    test, f = digits("test"), Features()
    accuracy = (f.logits(test.images).argmax(1) == test.labels).double().mean().item()
    assert accuracy > 0.95 and accuracy == pytest.approx(0.978, abs=0.003)


def test_features_are_the_penultimate_layer() -> None:
    images, f = digits("test").images[:9], Features()
    layers = [m for m in f.classifier if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in layers] == [(64, 64), (64, 32), (32, 10)]
    a, b, c = layers
    x = torch.relu(b(torch.relu(a(images.double()))))
    torch.testing.assert_close(f(images), x, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(f.logits(images), c(x), rtol=1e-14, atol=1e-14)
    assert f(images).dtype == F64 and (f(images) >= 0).all()
    assert not f(images.clone().requires_grad_()).requires_grad
    assert not Features(train_features(1).requires_grad_())(images).requires_grad


def test_five_features_are_dead_and_their_covariance_singular() -> None:
    x = Features()(digits().images)
    assert (x.max(0).values == 0).sum() == 5
    assert torch.linalg.matrix_rank(x.T.cov()) == 27
    assert frechet_distance(x, x) < 1e-12


def test_training_anew_gives_the_stored_weights() -> None:
    stored, anew = Features().classifier.state_dict(), train_features(0).state_dict()
    assert stored.keys() == anew.keys()
    for name in stored:
        torch.testing.assert_close(stored[name], anew[name], rtol=1e-6, atol=1e-6)
    images = digits("test").images
    torch.testing.assert_close(Features()(images), Features(train_features(0))(images), rtol=1e-5, atol=1e-5)
    assert (Features()(images) - Features(train_features(1))(images)).abs().max() > 1


def test_loading_and_training_leave_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    Features()
    assert torch.equal(torch.get_rng_state(), state)
    train_features(1)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_file_holds_numbers_and_nothing_else() -> None:
    path = importlib.resources.files("gantext.gan") / "digits_features.npz"
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        assert {str(stored[name].dtype) for name in stored.files} == {"float32"}
        assert sum(stored[name].size for name in stored.files) == 64 * 64 + 64 + 64 * 32 + 32 + 32 * 10 + 10
    assert len(path.read_bytes()) < 30_000


# --- Fréchet distance


@pytest.mark.parametrize("d", [1, 2, 7, 32])
def test_frechet_is_the_textbook_formula(d: int) -> None:
    x, y = randn(5 * d + 20, d) @ randn(d, d) + randn(d), randn(4 * d + 20, d) @ randn(d, d)
    C, D = (np.atleast_2d(np.cov(t.numpy(), rowvar=False)) for t in (x, y))
    root = np.real(scipy.linalg.sqrtm(C @ D))
    want = np.square((x.mean(0) - y.mean(0)).numpy()).sum() + np.trace(C + D - 2 * root)
    assert frechet_distance(x, y) == pytest.approx(want, rel=1e-8)


def test_frechet_laws() -> None:
    x, y = randn(60, 5) @ randn(5, 5), randn(40, 5) + 1
    base, Q = frechet_distance(x, y), torch.linalg.qr(randn(5, 5)).Q
    assert base > 0 and frechet_distance(y, x) == pytest.approx(base, rel=1e-10)
    assert frechet_distance(x @ Q, y @ Q) == pytest.approx(base, rel=1e-10)
    assert frechet_distance(3 * x + 7, 3 * y + 7) == pytest.approx(9 * base, rel=1e-10)
    assert frechet_distance(x, x + torch.arange(5)) == pytest.approx(30, rel=1e-10)
    assert frechet_distance(x, x.flip(0)) < 1e-20
    wide = [torch.cat([t, torch.full((len(t), 3), 2.0)], 1) for t in (x, y)]
    assert frechet_distance(wide[0], wide[1]) == pytest.approx(base, rel=1e-10)  # constant features add nothing


def test_frechet_survives_an_offset_that_the_one_pass_covariance_does_not() -> None:
    x, y = randn(50, 3), 2 * randn(50, 3)
    assert frechet_distance(x + 1e7, y + 1e7) == pytest.approx(frechet_distance(x, y), rel=1e-6)
    z = x[:, 0] + 1e8
    one_pass = (z.square().mean() - z.mean().square()).item()
    assert one_pass != pytest.approx(x[:, 0].var(correction=0).item(), rel=0.1)


def test_frechet_of_fewer_samples_than_features() -> None:
    x, y = randn(4, 30), randn(3, 30) + 1
    A, B = x - x.mean(0), y - y.mean(0)  # Tr (C^(1/2) D C^(1/2))^(1/2) is a nuclear norm, without any root of C
    nuclear = torch.linalg.svdvals(A @ B.mT).sum() / math.sqrt(3 * 2)
    want = (x.mean(0) - y.mean(0)).square().sum() + A.square().sum() / 3 + B.square().sum() / 2 - 2 * nuclear
    assert frechet_distance(x, y) == pytest.approx(want.item(), rel=1e-8)
    point = torch.zeros(2, 30)
    assert frechet_distance(point, point) == 0
    assert frechet_distance(point, point + 1) == pytest.approx(30)


def test_frechet_bias_of_a_round_gaussian() -> None:
    d, n, m, s = 3, 400, 600, 2.0
    scores = torch.tensor([frechet_distance(s * randn(n, d), s * randn(m, d)) for _ in range(400)])
    want = s * s * (d + d * (d + 1) / 4) * (1 / n + 1 / m)
    assert abs(scores.mean().item() - want) < 5 * scores.std().item() / 20 + 0.02 * want
    floor = frechet_floor(s * randn(20_000, d), n, repeats=200)
    want = s * s * (d + d * (d + 1) / 4) / n
    assert abs(floor.mean - want) < 5 * floor.std / math.sqrt(200) + 0.04 * want


def test_floors_that_the_documentation_states() -> None:
    f = Features()
    train, test = f(digits().images), f(digits("test").images)
    few, many = frechet_floor(train, 1200), frechet_floor(train, 3000)
    assert few == pytest.approx((0.57, 0.20), abs=0.005) and many == pytest.approx((0.22, 0.10), abs=0.005)
    assert frechet_distance(train, test) == pytest.approx(3.16, abs=0.005)
    every, source = torch.cat([train, test]), rng()
    orders = [torch.randperm(1797, generator=source) for _ in range(60)]
    splits = torch.tensor([frechet_distance(every[o[:1200]], every[o[1200:]]) for o in orders])
    assert splits.mean().item() == pytest.approx(1.9, abs=0.3) and splits.std().item() == pytest.approx(0.8, abs=0.25)
    noise = f(2 * torch.rand(1200, 64, generator=rng()) - 1)
    assert frechet_distance(train, noise) > 400
    assert frechet_distance(train, train[digits().labels < 5]) > 30  # half of the digits


def test_floor_is_that_of_its_seed_and_leaves_the_global_generator_alone() -> None:
    x, state = randn(50, 2), torch.get_rng_state()
    assert frechet_floor(x, 20) == frechet_floor(x, 20) != frechet_floor(x, 20, seed=1)
    assert torch.equal(torch.get_rng_state(), state)


# --- kernel distance


def _kernel_by_hand(x: Tensor, y: Tensor, degree: int) -> float:
    def mean(a: Tensor, b: Tensor, skip: bool) -> float:
        pairs = [(i, j) for i in range(len(a)) for j in range(len(b)) if not (skip and i == j)]
        return math.fsum((float(a[i] @ b[j]) / a.shape[1] + 1) ** degree for i, j in pairs) / len(pairs)

    return mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False)


@pytest.mark.parametrize("degree", [1, 2, 3, 5])
def test_kernel_distance_is_the_double_loop(degree: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = randn(6, 3), 1 + randn(9, 3)
    want = _kernel_by_hand(x, y, degree)
    assert kernel_distance(x, y, degree).value == pytest.approx(want, rel=1e-10)
    assert kernel_distance(y, x, degree).value == pytest.approx(want, rel=1e-10)
    monkeypatch.setattr(metrics, "_CHUNK", 13)  # one row at a time
    assert kernel_distance(x, y, degree).value == pytest.approx(want, rel=1e-10)


def test_kernel_error_is_the_jackknife() -> None:
    x, y = randn(5, 2), randn(7, 2) + 1

    def leave_out(t: Tensor) -> list[Tensor]:
        return [torch.cat([t[:i], t[i + 1 :]]) for i in range(len(t))]

    no_x = np.array([_kernel_by_hand(t, y, 3) for t in leave_out(x)])
    no_y = np.array([_kernel_by_hand(x, t, 3) for t in leave_out(y)])
    want = math.sqrt(4 / 5 * ((no_x - no_x.mean()) ** 2).sum() + 6 / 7 * ((no_y - no_y.mean()) ** 2).sum())
    assert kernel_distance(x, y).error == pytest.approx(want, rel=1e-10)


@pytest.mark.parametrize("q", [(0.5, 0.3, 0.2), (0.1, 0.2, 0.7)])
def test_kernel_distance_is_unbiased_and_its_error_no_optimist(q: tuple[float, ...]) -> None:
    # Exact expectations: all 3^3 x 3^3 equally described samples of two laws on three points, each with its weight.
    points, p = torch.tensor([[-1.0, 0.5], [0.3, 1.0], [2.0, -0.7]], dtype=F64), (0.5, 0.3, 0.2)
    K = (points @ points.mT / 2 + 1) ** 3
    gap = torch.tensor(p, dtype=F64) - torch.tensor(q, dtype=F64)
    mean = second = squared_error = biased = 0.0
    for i, j in itertools.product(itertools.product(range(3), repeat=3), repeat=2):
        weight = math.prod(p[a] for a in i) * math.prod(q[b] for b in j)
        x, y = list(i), list(j)
        value, error = kernel_distance(points[x], points[y])
        mean, second = mean + weight * value, second + weight * value**2
        squared_error += weight * error**2
        biased += weight * float(K[x][:, x].mean() + K[y][:, y].mean() - 2 * K[x][:, y].mean())
    want = float(gap @ K @ gap)
    assert mean == pytest.approx(want, abs=1e-10)
    assert biased - want > 1  # the V-statistic, with its diagonal
    assert squared_error >= second - mean**2


def test_kernel_error_is_calibrated_for_different_laws_and_cautious_for_equal_ones() -> None:
    apart = torch.tensor([kernel_distance(randn(100, 2), 1 + randn(80, 2)) for _ in range(400)])
    same = torch.tensor([kernel_distance(randn(100, 2), randn(80, 2)) for _ in range(400)])
    ratio = [(t[:, 1].square().mean() / t[:, 0].var()).item() for t in (apart, same)]
    assert 0.75 < ratio[0] < 1.35 and 1 < ratio[1] < 3
    assert abs(same[:, 0].mean()) < 5 * same[:, 0].std() / 20 and (same[:, 0] < 0).any()


# --- precision and recall


def _precision_by_hand(real: Tensor, fake: Tensor, k: int) -> tuple[float, float]:
    def share(points: np.ndarray, centres: np.ndarray) -> float:
        inside = [False] * len(points)
        for i, c in enumerate(centres):
            others = np.delete(centres, i, axis=0)
            radius = np.sort(np.sqrt(((others - c) ** 2).sum(1)))[k - 1]
            for j, p in enumerate(points):
                inside[j] = inside[j] or math.sqrt(((p - c) ** 2).sum()) <= radius
        return sum(inside) / len(points)

    a, b = real.numpy(), fake.numpy()
    return share(b, a), share(a, b)


@pytest.mark.parametrize("k", [1, 3, 8])
def test_precision_recall_is_the_double_loop(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = randn(30, 2), 1 + 0.7 * randn(20, 2)
    want = _precision_by_hand(real, fake, k)
    assert precision_recall(real, fake, k) == pytest.approx(want) and 0 < sum(want) < 2
    monkeypatch.setattr(metrics, "_CHUNK", 50)
    assert precision_recall(real, fake, k) == pytest.approx(want)


def test_precision_recall_laws() -> None:
    real, fake = randn(80, 3), 0.8 * randn(60, 3)
    assert precision_recall(real, real) == (1, 1)
    assert precision_recall(real, fake + 100) == (0, 0)
    assert precision_recall(real, fake) == precision_recall(fake, real)[::-1]
    Q = torch.linalg.qr(randn(3, 3)).Q
    assert precision_recall(5 * real @ Q + 3, 5 * fake @ Q + 3) == precision_recall(real, fake)
    scores = [precision_recall(real, fake, k) for k in (1, 2, 4, 8, 16)]
    assert scores == sorted(scores) and [s.recall for s in scores] == sorted(s.recall for s in scores)


def test_mode_collapse_has_precision_but_no_recall() -> None:
    law = ring()
    real = law.sample(800, rng())
    one_mode = normal(law.means[0].tolist(), law.std).sample(800, rng(1))
    precision, recall = precision_recall(real, one_mode)
    assert precision > 0.9 and recall < 0.2  # an eighth of the reals
    repeated = real[:1].repeat(50, 1)
    assert precision_recall(real, repeated) == (1, 1 / 800)
    spread = 4 * torch.rand(800, 2, generator=rng()) - 2
    precision, recall = precision_recall(real, spread)
    assert precision < 0.2 and recall > 0.9


def test_one_outlier_holds_the_whole_set() -> None:
    real, fake = randn(50, 2), torch.cat([randn(20, 2) + 50, torch.tensor([[-1000.0, 0.0]])])
    assert precision_recall(real, fake).recall == 1  # the documented weakness
    assert precision_recall(real, fake[:20]).recall == 0


def test_distances_survive_an_offset_that_the_fast_form_does_not() -> None:
    real, fake = randn(90, 4), 0.8 * randn(70, 4)
    assert precision_recall(real + 1e7, fake + 1e7) == precision_recall(real, fake)
    x = real + 1e7
    fast = torch.cdist(x, x, compute_mode="use_mm_for_euclid_dist")
    assert (fast - torch.cdist(real, real)).abs().max() > 0.05


# --- what all share


@every_two_sets
def test_dtype_layout_and_graph_do_not_matter(score: Callable[[Tensor, Tensor], Any]) -> None:
    x, y = torch.randn(40, 6).bfloat16(), torch.randn(50, 6).bfloat16()
    found = score(x, y)
    assert all(type(number) is float for number in (found if isinstance(found, tuple) else (found,)))
    want = pytest.approx(found, rel=1e-9)
    assert score(x.double(), y.float()) == want
    assert score(x.mT.contiguous().mT.requires_grad_(), y[:, [0, 1, 2, 3, 4, 5]]) == want
    assert score(x[::2], y[::2]) == score(x[::2].clone(), y[::2].clone())


@every_two_sets
@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.zeros(5, 2).long(), TypeError, r"is torch\.int64, must be a floating tensor"),
        ([[0.0, 1.0]], TypeError, r"is list, must be a floating tensor"),
        (torch.zeros(0, 2), ValueError, r"has shape \(0, 2\), must not be empty"),
        (torch.zeros(5), ValueError, r"has shape \(5,\), must be \(n, \w+\) with n >= "),
        (torch.zeros(5, 1, 2), ValueError, r"has shape \(5, 1, 2\), must be"),
        (torch.zeros(1, 2), ValueError, r"has shape \(1, 2\), must be .* n >= [234]\. Draw enough"),
        (torch.tensor([[0.0, math.nan]] * 9), ValueError, r"has NaN or infinite entries.*diverged"),
        (torch.tensor([[math.inf, 0.0]] * 9), ValueError, r"has NaN or infinite entries"),
    ],
)
def test_bad_sets_are_named(
    score: Callable[[Tensor, Tensor], Any], x: Any, error: type[Exception], message: str
) -> None:
    good = torch.randn(9, 2)
    for first, second in ((x, good), (good, x)):
        with pytest.raises(error, match=rf"^{cast(Any, score).__name__}: (x|y|real|fake) {message}"):
            score(first, second)
    with pytest.raises(ValueError, match=r"has shape \(9, 3\), must be \(n, 2\)"):
        score(good, torch.randn(9, 3))


X = torch.zeros(90, 2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: mode_coverage(X, ring(std=0)), ValueError, r"mixture\.std is 0, must be"),
        (lambda: mode_coverage(X, cast(Any, digits())), TypeError, r"mixture is Digits.*must be a Mixture"),
        (lambda: mode_coverage(X, ring(), within=0), ValueError, r"within is 0"),
        (lambda: mode_coverage(X, ring(), share=1.5), ValueError, r"share is 1\.5"),
        (lambda: mode_coverage(X, ring(), share=-1), ValueError, r"share is -1"),
        (lambda: mode_coverage(X[:39], ring()), ValueError, r"samples has shape \(39, 2\), must be .* n >= 40\."),
        (lambda: mode_coverage(X[:, :1], ring()), ValueError, r"samples has shape \(90, 1\), must be \(n, 2\)"),
        (lambda: mode_coverage(X * math.nan, ring()), ValueError, r"samples has NaN"),
        (
            lambda: Features()(torch.zeros(3, 8, 8)),
            ValueError,
            r"Features: images has shape \(3, 8, 8\), must be \(n, 64\)",
        ),
        (lambda: Features().logits(X), ValueError, r"Features: images has shape \(90, 2\)"),
        (lambda: frechet_floor(X, 1), ValueError, r"frechet_floor: n is 1, must be an int >= 2"),
        (lambda: frechet_floor(X, 9, repeats=1), ValueError, r"frechet_floor: repeats is 1"),
        (lambda: frechet_floor(X[:1], 9), ValueError, r"frechet_floor: reference has shape \(1, 2\)"),
        (lambda: kernel_distance(X, X, 0), ValueError, r"kernel_distance: degree is 0"),
        (lambda: kernel_distance(X, X, cast(Any, 2.5)), TypeError, r"kernel_distance: degree is 2\.5 \(float\)"),
        (lambda: precision_recall(X, X, 0), ValueError, r"precision_recall: k is 0"),
        (lambda: precision_recall(X, X[:5], k=5), ValueError, r"fake has shape \(5, 2\), must be .* n >= 6\."),
    ],
)
def test_bad_input_is_named(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


# --- intervals over seeds


def test_what_overflows_is_refused() -> None:
    x = torch.randn(10, 3) * 1e3
    with pytest.raises(ValueError, match=r"kernel_distance: degree is 200, must keep k\(x, x\) below 1e150"):
        kernel_distance(x, x, degree=200)
    assert math.isfinite(kernel_distance(x, x + 1, degree=20).error)
    for call in (metrics.frechet_distance, kernel_distance, precision_recall):
        with pytest.raises(ValueError, match="beyond 1e150"):
            call(x.double() * 1e160, x)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_the_classifier_is_the_same_under_another_default_dtype(dtype: torch.dtype) -> None:
    before = cast(Any, train_features()[0]).weight
    torch.set_default_dtype(dtype)
    try:
        after = cast(Any, train_features()[0]).weight
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(before, after)
