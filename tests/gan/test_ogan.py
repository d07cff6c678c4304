"""Splitting and O-GAN's losses: identities, rivals that fail, gradients, and bad input."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import pytest
import torch
from _compare import randn
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import grad, gradcheck, gradgradcheck

from gantext.gan.methods import Batch, Game, game, qp, wgan_div, wgan_gp
from gantext.gan.networks import mlp
from gantext.gan.objectives import HINGE, NON_SATURATING, SATURATING, WASSERSTEIN, Objective
from gantext.gan.ogan import o_gan, o_gan_ref, pearson, split
from gantext.gan.training import fit

F64 = torch.float64
HALF = [torch.float16, torch.bfloat16]


@pytest.fixture
def double_by_default() -> Iterator[None]:
    torch.set_default_dtype(F64)
    yield
    torch.set_default_dtype(torch.float32)


# --- split and pearson


@given(
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    place=st.integers(0, 2),
    dtype=st.sampled_from([*HALF, torch.float32, F64]),
    layout=st.sampled_from(["plain", "sliced", "expanded", "transposed"]),
)
@settings(max_examples=80, deadline=None, derandomize=True)
def test_split_is_the_orthogonal_decomposition(shape: list[int], place: int, dtype: torch.dtype, layout: str) -> None:
    z = (3 + torch.randn(*shape)).to(dtype)
    if layout == "sliced":
        z = torch.stack([z, z], -1)[..., 0]
    elif layout == "expanded":
        z = z[:1].expand(5, *z.shape[1:])
    elif layout == "transposed":
        z = z.transpose(0, -1)
    dim = place % z.dim()
    n = z.shape[dim]
    parts = split(z, dim)
    wide = z.double()
    tol = 1e-12 if dtype == F64 else 1e-5
    close = lambda a, b: torch.testing.assert_close(a.double(), b, rtol=tol, atol=tol)
    assert all(t.dtype == (F64 if dtype == F64 else torch.float32) for t in parts)
    close(parts.join(), wide)
    close(parts.mean, wide.mean(dim, keepdim=True))
    close(parts.std, wide.std(dim, correction=0, keepdim=True))
    close(parts.scale, (wide - wide.mean(dim, keepdim=True)).norm(dim=dim, keepdim=True))
    alive = (parts.scale > 0).squeeze(dim).double()
    assert (n > 1) == bool(alive.any()) or dtype in HALF or layout == "expanded"
    close(parts.direction.sum(dim), 0 * alive)
    close(parts.direction.square().sum(dim), alive)
    close(parts.normalized.square().mean(dim), alive)


def test_the_squared_error_splits_into_mean_scale_and_correlation() -> None:
    z, w, n = 3 * randn(50, 7) + 2, randn(50, 7), 7
    a, b, rho = split(z), split(w), pearson(z, w)
    gaps = (a.mean - b.mean)[:, 0] ** 2 + (a.std - b.std)[:, 0] ** 2 + 2 * (a.std * b.std)[:, 0] * (1 - rho)
    torch.testing.assert_close((z - w).square().sum(1), n * gaps)
    torch.testing.assert_close((a.normalized - b.normalized).square().sum(1), 2 * n * (1 - rho))


def test_pearson_is_numpys_and_does_not_see_shift_and_scale() -> None:
    x, y = randn(6, 3), randn(6, 3)
    want = [np.corrcoef(a, b)[0, 1] for a, b in zip(x.numpy(), y.numpy(), strict=True)]
    torch.testing.assert_close(pearson(x, y), torch.tensor(want, dtype=F64))
    torch.testing.assert_close(pearson(x.T, y.T, dim=0), pearson(x, y))
    torch.testing.assert_close(pearson(-3 * x + 7, 0.5 * y - 2), -pearson(x, y))
    # exactly 1 with itself, which a population covariance over torch.std is not: that is (n - 1) / n
    torch.testing.assert_close(pearson(x, x), torch.ones(6, dtype=F64))


def test_gradients_have_the_formula_and_are_mutually_orthogonal() -> None:
    z, w = randn(20, 9), (5 + 2 * randn(20, 9)).requires_grad_()
    parts, rho = split(w), pearson(z, w)
    mean, std, corr = (grad(t.sum(), w, retain_graph=True)[0] for t in (parts.mean, parts.std, rho))
    unit = parts.direction.detach()
    torch.testing.assert_close(mean, torch.full_like(mean, 1 / 9))
    torch.testing.assert_close(std, unit / 3)
    torch.testing.assert_close(corr, ((split(z).direction - rho[:, None] * unit) / parts.scale).detach())
    for a, b in itertools.combinations((mean, std, corr), 2):
        assert (a * b).sum(1).abs().max() < 1e-15
    norm = ((1 - rho**2) / 9).sqrt() / parts.std[:, 0]
    torch.testing.assert_close(corr.norm(dim=1), norm.detach())
    longer = split(w.detach() + 0.3 * corr).scale  # a step along rho's gradient can only lengthen
    assert (longer > parts.scale).all()


def test_independent_codes_correlate_by_one_over_root_n_minus_one() -> None:
    n, draws = 8, 40_000
    rho = pearson(randn(draws, n), 3 + 2 * randn(draws, n))
    assert abs(rho.mean().item()) < 5 / math.sqrt((n - 1) * draws)
    assert rho.square().mean().item() * (n - 1) == pytest.approx(1, abs=5 * math.sqrt(2 / draws))


@pytest.mark.parametrize("n", [2, 3, 5])
def test_split_and_pearson_pass_gradcheck_and_gradgradcheck(n: int) -> None:
    z, w = (2 + randn(3, n)).requires_grad_(), randn(3, n).requires_grad_()
    for f in (lambda z: split(z).direction, lambda z: split(z).scale, lambda z: split(z, 0).join()):
        assert gradcheck(f, (z,)) and gradgradcheck(f, (z,))
    assert gradcheck(pearson, (z, w)) and gradgradcheck(pearson, (z, w))


def one_pass(x: Tensor, y: Tensor) -> Tensor:
    n = x.shape[-1]
    cov = n * (x * y).sum(-1) - x.sum(-1) * y.sum(-1)
    return cov / ((n * x.square().sum(-1) - x.sum(-1) ** 2) * (n * y.square().sum(-1) - y.sum(-1) ** 2)).sqrt()


@pytest.mark.parametrize("mean", [1e4, 1e6])
def test_a_large_mean_costs_no_digit_and_the_one_pass_form_all(mean: float) -> None:
    x = mean + torch.randn(64, 128)  # rounded to float32 here: what follows must not lose more
    y = mean + torch.randn(64, 128)
    exact = pearson(x.double(), y.double())
    torch.testing.assert_close(pearson(x, y), exact.float(), rtol=0, atol=1e-6)
    gap = (one_pass(x, y).double() - exact).abs()
    assert (gap.isnan() | (gap > 0.1)).double().mean() > 0.5
    assert split(x).direction.sum(1).abs().max() < 1e-5
    centred = x - x.mean(1, keepdim=True)
    assert mean < 1e6 or (centred / centred.norm(dim=1, keepdim=True)).sum(1).abs().max() > 1e-3  # centred once


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, -1e4, 1e-30, 1e30])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_constant_rows_give_zero_and_finite_gradients(value: float, n: int) -> None:
    x = torch.full((2, n), value)
    x[1] = torch.arange(n)  # a neighbour, unharmed
    x.requires_grad_()
    y = torch.randn(2, n)
    rho, parts = pearson(x, y), split(x)
    assert rho[0] == 0 and parts.scale[0] == 0 and (parts.direction[0] == 0).all()
    torch.testing.assert_close(parts.join(), x)
    loss = rho.sum() + parts.scale.sum() + parts.direction.square().sum() + parts.mean.sum()
    (first,) = grad(loss, x, create_graph=True)
    assert torch.equal(first[0], torch.full((n,), 1 / n))  # that of the mean alone
    (second,) = grad(first.square().sum(), x, allow_unused=True, materialize_grads=True)
    assert first.isfinite().all() and second.isfinite().all() and (second[0] == 0).all()


def test_naive_forms_fail_on_constant_rows() -> None:
    x = torch.full((7,), 0.1, requires_grad=True)
    centred = x - x.mean()
    assert centred.detach().abs().max() > 0  # rounding, with a direction of its own
    zero = torch.ones(7, requires_grad=True)
    centred = zero - zero.mean()
    assert grad(torch.where(centred.norm() > 0, centred.square().sum().sqrt(), 0.0), zero)[0].isnan().all()


@pytest.mark.parametrize("size", [1e-42, 1e-30, 1e-20, 1e20, 1e30])
def test_tiny_and_huge_rows(size: float) -> None:
    base = torch.randn(5, 16)
    x = (base * size).requires_grad_()
    rounding = 1e-1 if size < 1e-38 else 1e-6  # subnormal numbers have few digits
    torch.testing.assert_close(split(x).direction, split(base).direction, rtol=0, atol=rounding)
    torch.testing.assert_close(split(x).scale, split(base).scale * size, rtol=rounding, atol=0)
    (slope,) = grad(split(x).scale.sum(), x)
    torch.testing.assert_close(slope, split(base).direction, rtol=0, atol=rounding)
    if size != 1e-42:
        (slope,) = grad(pearson(x, torch.randn(5, 16)).sum(), x)
        assert slope.isfinite().all() and (slope != 0).any()


def test_a_bad_row_spoils_itself_alone() -> None:
    x = torch.randn(4, 6)
    x[1, 2], x[2] = math.nan, math.inf
    rho = pearson(x, torch.randn(4, 6))
    assert rho.isnan().tolist() == [False, True, True, False]


@pytest.mark.parametrize("dtype", HALF)
def test_statistics_are_float32_for_half_types_and_under_autocast(dtype: torch.dtype) -> None:
    x, y = (20 + torch.randn(8, 64)).to(dtype), torch.randn(8, 64).to(dtype)
    want = pearson(x.double(), y.double()).float()
    torch.testing.assert_close(pearson(x, y), want)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(pearson(x, y), want)
        assert {t.dtype for t in split(x)} == {torch.float32}
    low = (x - x.mean(1, keepdim=True)) * (y - y.mean(1, keepdim=True))
    low = low.sum(1) / (x.std(1, correction=0) * y.std(1, correction=0) * 64)
    ours, theirs = ((t.double() - want.double()).abs().max() for t in (pearson(x, y), low))
    assert theirs > 100 * ours  # in the half type itself


def test_autocast_reaches_no_derivative() -> None:
    x, y = torch.randn(8, 16), torch.randn(8, 16).requires_grad_()

    def derivatives() -> list[Tensor]:
        parts, rho = split(y), pearson(x, y)
        (first,) = grad(rho.square().sum() + parts.scale.sum() + parts.join().sum(), y, create_graph=True)
        return [rho, first, grad(first.square().sum(), y)[0]]

    plain = derivatives()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert all(torch.equal(a, b) for a, b in zip(derivatives(), plain, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_the_largest_numbers_have_a_mean(dtype: torch.dtype) -> None:
    top = torch.finfo(dtype).max
    x = torch.tensor([[top] * 4, [top, -top, top, -top], [1.0, 2.0, 3.0, 6.0]], dtype=dtype).requires_grad_()
    parts = split(x)
    assert parts.mean.flatten().tolist() == [top, 0, 3] and parts.scale[0] == 0
    torch.testing.assert_close(parts.direction[1], torch.tensor([0.5, -0.5, 0.5, -0.5], dtype=dtype))
    (slope,) = grad(parts.mean.sum(), x)
    assert torch.equal(slope, torch.full_like(x, 0.25))


@pytest.mark.usefixtures("double_by_default")
def test_the_default_dtype_changes_nothing() -> None:
    x = torch.randn(3, 5, dtype=torch.float32)
    assert {t.dtype for t in (*split(x), pearson(x, x.flip(0)))} == {torch.float32}
    batch = Batch(torch.randn(7, 6).float(), torch.randn(7, 6).float(), torch.randn(7, 5).float(), torch.Generator())
    assert o_gan().critic_loss(encoder().float(), batch).dtype == torch.float32


# --- O-GAN


def encoder(n: int = 5, *extra: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), *extra, nn.SiLU(), nn.Linear(8, n)).double()


def batch_of(N: int = 7, n: int = 5, requires_grad: bool = False) -> Batch:
    return Batch(randn(N, 6), randn(N, 6).requires_grad_(requires_grad), randn(N, n), torch.Generator())


def gradients(loss: Tensor, network: nn.Module) -> list[Tensor]:
    return list(grad(loss, list(network.parameters()), retain_graph=True))


def test_o_gan_is_its_authors_losses_with_the_score_reflected() -> None:
    critic, batch, weight = encoder(), batch_of(), 0.7
    # His sign: small = real. A code whose mean is reflected scores the other way, and has the same direction.
    reflected = lambda x: critic(x) - 2 * critic(x).mean(1, keepdim=True)
    z_real, z_fake = reflected(batch.real), reflected(batch.fake)
    delta = z_real.mean(1) - z_fake.mean(1)
    rho = pearson(cast(Tensor, batch.latent), z_fake)
    his = (delta + 0.25 * delta**2 / ((batch.real - batch.fake) ** 2).mean(1) - weight * rho).mean()
    torch.testing.assert_close(o_gan(weight).critic_loss(critic, batch), his)
    torch.testing.assert_close(o_gan(weight).generator_loss(critic, batch), (z_fake.mean(1) - weight * rho).mean())
    squares = o_gan(weight, objective=qp(2 / 6, "squared"))  # lambda |x - y|^2 = 2 |x - y|^2 / D
    torch.testing.assert_close(squares.critic_loss(critic, batch), his)


@pytest.mark.parametrize("norm", [False, True], ids=["plain", "batch norm"])
def test_single_loss_has_the_gradients_of_the_two(norm: bool) -> None:
    critic = encoder(5, *([nn.BatchNorm1d(8)] if norm else []))
    generator, z = nn.Sequential(nn.Linear(5, 6), nn.Tanh()).double(), randn(9, 5)
    batch = Batch(randn(9, 6), generator(z), z, torch.Generator())
    single = o_gan_ref(critic, batch, 0.7)
    game = o_gan(0.7)
    critic_loss = game.critic_loss(critic, batch._replace(fake=batch.fake.detach()))
    generator_loss = game.generator_loss(critic, batch)
    torch.testing.assert_close(single, critic_loss)  # t2 is 0
    torch.testing.assert_close(gradients(single, critic), gradients(critic_loss, critic))
    torch.testing.assert_close(gradients(single, generator), gradients(generator_loss, generator))


@pytest.mark.parametrize("objective", [SATURATING, NON_SATURATING, HINGE, WASSERSTEIN], ids=lambda o: o.name)
@pytest.mark.parametrize("match", ["correlation", "squared"])
def test_both_players_have_their_objective_on_the_mean_and_the_same_extra_term(
    objective: Objective, match: str
) -> None:
    critic, batch = encoder(), batch_of(requires_grad=True)
    z, code = cast(Tensor, batch.latent), critic(batch.fake)
    extra = -pearson(z, code).mean() if match == "correlation" else ((z - code) ** 2).mean()
    out = o_gan(0.3, objective=objective, match=match)
    want = objective.critic_loss(critic(batch.real).mean(1), code.mean(1)) + 0.3 * extra
    torch.testing.assert_close(out.critic_loss(critic, batch), want)
    want = objective.generator_loss(code.mean(1)) + 0.3 * extra
    torch.testing.assert_close(out.generator_loss(critic, batch), want)
    torch.testing.assert_close(
        grad(out.generator_loss(critic, batch), batch.fake)[0], grad(want, batch.fake)[0]
    )  # the correlation reaches the generator
    none = o_gan(0, objective=objective, match=match)
    without = batch._replace(latent=None)
    torch.testing.assert_close(none.generator_loss(critic, without), objective.generator_loss(code.mean(1)))
    assert none.critic_loss(critic, without) == game(objective).critic_loss(lambda x: critic(x).mean(1), without)


@pytest.mark.parametrize("base", [wgan_div(), wgan_gp(), wgan_div(at="samples")], ids=["div", "gp", "samples"])
def test_any_game_may_be_the_objective(base: Game) -> None:
    critic, batch = encoder(), batch_of()
    out = o_gan(2.0, objective=base)
    score = lambda x: critic(x).mean(1)
    rho = pearson(cast(Tensor, batch.latent), critic(batch.fake)).mean()
    want = base.critic_loss(score, batch._replace(rng=torch.Generator().manual_seed(3))) - 2 * rho
    batch.rng.manual_seed(3)
    torch.testing.assert_close(out.critic_loss(critic, batch), want)
    norm = encoder(5, nn.BatchNorm1d(8))  # the wrapper does not hide it from the penalty
    with pytest.raises(ValueError, match="BatchNorm1d"):
        out.critic_loss(norm, batch)
    assert o_gan(objective=game(WASSERSTEIN, clip=0.1)).clip == 0.1


def test_the_fakes_are_encoded_once() -> None:
    critic, batch, calls = encoder(), batch_of(), []

    def counted(x: Tensor) -> Tensor:
        calls.append(x)
        return critic(x)

    for objective in (None, HINGE, wgan_gp()):
        o_gan(objective=objective).critic_loss(counted, batch)
        o_gan(objective=objective).generator_loss(counted, batch)
    assert len(calls) == 2 + 1 + 2 + 1 + 3 + 1
    mixed = Game("mixed", lambda critic, b: critic(torch.cat([b.real, b.fake])).mean(), cast(Any, HINGE.generator_loss))
    rho = pearson(cast(Tensor, batch.latent), critic(batch.fake)).mean()
    both = critic(torch.cat([batch.real, batch.fake])).mean()
    torch.testing.assert_close(o_gan(1.0, objective=mixed).critic_loss(counted, batch), both - rho)


def test_training_turns_the_critic_into_an_encoder() -> None:
    law = lambda n, rng: torch.tanh(torch.randn(n, 4, generator=rng) @ torch.linspace(-1, 1, 32).view(4, 8).sin())
    found = []
    for weight in (0.0, 0.5):
        torch.manual_seed(1)
        generator, critic = mlp([4, 32, 8]), mlp([8, 32, 4])
        run = fit(generator, critic, law, o_gan(weight), steps=200, latent=4, batch_size=64, progress=False)
        with torch.no_grad():
            z = torch.randn(2000, 4)
            x = run.generator(z)
            found.append(
                (pearson(z, critic(x)).mean().item(), (generator(split(critic(x)).normalized) - x).pow(2).mean())
            )
    assert abs(found[0][0]) < 1 / math.sqrt(3) and found[1][0] > 0.75
    assert found[1][1] < found[0][1]


def test_games_of_other_settings_are_told_apart() -> None:
    games = [
        o_gan(),
        o_gan(1.0),
        o_gan(match="squared"),
        o_gan(objective=HINGE),
        o_gan(objective=wgan_div()),
        o_gan(objective=wgan_div(3.0)),
    ]
    assert len({g.settings for g in games}) == len(games)


def test_o_gan_under_autocast_is_float32() -> None:
    critic, z = encoder().float(), torch.randn(7, 5)
    batch = Batch(torch.randn(7, 6), torch.randn(7, 6), z, torch.Generator())
    want = o_gan().critic_loss(critic, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = o_gan().critic_loss(critic, batch)
    assert out.dtype == torch.float32 and out.item() == pytest.approx(want.item(), rel=0.02)
    codes = (20 + torch.randn(7, 64)).bfloat16()
    score = o_gan(0, objective=WASSERSTEIN).generator_loss(lambda _: codes, batch)
    assert score.item() == pytest.approx(-codes.double().mean().item(), rel=1e-6)


def test_equal_samples_have_the_losses_of_nearly_equal_ones() -> None:
    critic, batch = encoder(), batch_of()
    same = batch._replace(fake=batch.real.clone())
    loss = o_gan(0.7).critic_loss(critic, same)
    assert loss.isfinite()
    torch.testing.assert_close(o_gan_ref(critic, same, 0.7), loss)


@pytest.mark.parametrize("match", ["correlation", "squared"])
def test_a_game_is_copied_and_sent(match: str) -> None:
    critic, batch = encoder(), batch_of()
    out = o_gan(0.3, match=match)
    for other in (pickle.loads(pickle.dumps(out)), copy.deepcopy(out)):
        assert other.settings == out.settings
        assert torch.equal(other.critic_loss(critic, batch), out.critic_loss(critic, batch))
        assert torch.equal(other.generator_loss(critic, batch), out.generator_loss(critic, batch))


def test_an_objective_may_copy_the_critic_that_it_is_given() -> None:
    critic, batch = encoder(), batch_of(requires_grad=True)

    def copying(score: Any, b: Batch) -> Tensor:
        first = score(b.fake)  # a code with a graph, which deepcopy refuses
        for other in (copy.deepcopy(score), pickle.loads(pickle.dumps(score))):
            torch.testing.assert_close(other(b.fake), first)
            assert [name for name, _ in other.named_parameters()] == [name for name, _ in score.named_parameters()]
        return first.mean()

    loss = o_gan(1.0, objective=Game("copying", copying, copying)).critic_loss(critic, batch)
    code = critic(batch.fake)
    torch.testing.assert_close(loss, code.mean() - pearson(cast(Tensor, batch.latent), code).mean())


# --- bad input


def critic_loss(critic: Any = None, latent: Any = "own", **options: Any) -> Callable[[], object]:
    batch = batch_of()
    batch = batch if latent == "own" else batch._replace(latent=latent)
    return lambda: o_gan(**options).critic_loss(critic or encoder(), batch)


BAD: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: split(cast(Any, [1.0, 2.0])), TypeError, "split: z is list, must be a floating tensor"),
    (lambda: split(torch.ones(3, dtype=torch.int64)), TypeError, "split: z is torch.int64"),
    (lambda: split(torch.ones(0, 3)), ValueError, "split: z .* must not be empty"),
    (lambda: pearson(torch.ones(2, 3), torch.ones(3)), ValueError, r"pearson: .*\(2, 3\) and \(3,\), must have one"),
    (lambda: pearson(torch.ones(3), cast(Any, 1.0)), TypeError, "pearson: y is float"),
    (lambda: o_gan(-1), ValueError, "o_gan: weight is -1, must be .* >= 0"),
    (lambda: o_gan(math.nan), ValueError, "o_gan: weight is nan"),
    (lambda: o_gan(True), TypeError, "o_gan: weight is True"),
    (lambda: o_gan(match="rho"), ValueError, "o_gan: match is 'rho', must be 'correlation' or 'squared'"),
    (lambda: o_gan(objective=cast(Any, "hinge")), TypeError, "o_gan: objective is 'hinge'.*HINGE"),
    (critic_loss(encoder(4)), ValueError, r"o_gan: critic returned codes \(7, 4\) for latent vectors \(7, 5\)"),
    (critic_loss(encoder(2), torch.ones(7, 2, dtype=F64)), ValueError, "n >= 3"),
    (critic_loss(encoder(1).append(nn.Flatten(0))), ValueError, r"o_gan: critic returned shape \(7,\), must be codes"),
    (critic_loss(latent=None), ValueError, "o_gan: latent is None"),
    (lambda: o_gan_ref(encoder(), batch_of()._replace(latent=None)), ValueError, "o_gan_ref: latent is None"),
    (lambda: o_gan().critic_loss(cast(Any, lambda x: (x, x)), batch_of()), TypeError, "critic.s code is tuple"),
    (lambda: o_gan_ref(encoder(), batch_of(), -1), ValueError, "o_gan_ref: weight is -1"),
    (lambda: o_gan_ref(encoder(), batch_of(), cast(Any, "1")), TypeError, "o_gan_ref: weight is '1'"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "message"), BAD, ids=range(len(BAD)))
def test_bad_input_is_refused(call: Callable[[], object], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call()
