"""Games and their training loop: formulas, turns, averages, resuming, several processes, mixed precision, bad input."""

from __future__ import annotations

import copy
import io
import math
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd import grad
from torch.nn.utils import parametrizations

from gantext._training import Checkpoint
from gantext.gan import training
from gantext.gan.distances import wgan_div_1d
from gantext.gan.laws import normal, ring
from gantext.gan.methods import Batch, Game, game, qp, wgan_div, wgan_gp
from gantext.gan.networks import mlp
from gantext.gan.objectives import HINGE, NON_SATURATING, SATURATING, WASSERSTEIN, Objective, interpolate
from gantext.gan.ogan import o_gan
from gantext.gan.training import Fit, Recipe, fit, fit_critic

I64, F32 = cast(Any, np.int64), cast(Any, np.float32)
CLIPPED = game(WASSERSTEIN, clip=0.05, name="WGAN")


def players(width: int = 2, latent: int = 3, **options: Any) -> tuple[Any, Any]:
    """The same two networks at every call."""
    torch.manual_seed(1)
    return mlp([latent, 8, width], **options), mlp([width, 8, 1], nn.Softplus)


def train(game: Game = CLIPPED, steps: int = 6, nets: Any = None, real: Any = None, **options: Any) -> Fit:
    generator, critic = nets or players()
    options = {"latent": 3, "batch_size": 16, "n_critic": 2, "progress": False} | options
    return fit(generator, critic, real or ring().sample, game, steps=steps, **options)


def weights(run: Fit) -> list[Tensor]:
    networks = (run.generator, run.critic, run.ema)
    return [t.clone() for network in networks for t in network.state_dict().values()]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def batch(n: int = 5, width: int = 3) -> Batch:
    return Batch(torch.randn(n, width), torch.randn(n, width), None, torch.Generator().manual_seed(4))


# --- games


@pytest.mark.parametrize(
    ("objective", "critic_loss", "generator_loss"),
    [
        (SATURATING, lambda s, t: -s.sigmoid().log() - (1 - t.sigmoid()).log(), lambda t: (1 - t.sigmoid()).log()),
        (NON_SATURATING, lambda s, t: -s.sigmoid().log() - (1 - t.sigmoid()).log(), lambda t: -t.sigmoid().log()),
        (HINGE, lambda s, t: (1 - s).clamp(min=0) + (1 + t).clamp(min=0), lambda t: -t),
        (WASSERSTEIN, lambda s, t: t - s, lambda t: -t),
    ],
    ids=lambda value: value.name if isinstance(value, Objective) else "",
)
def test_a_game_has_the_losses_of_its_objective(objective: Objective, critic_loss: Any, generator_loss: Any) -> None:
    b, critic = batch(), mlp([3, 8, 1])
    s, t = critic(b.real), critic(b.fake)
    it = game(objective)
    torch.testing.assert_close(it.critic_loss(critic, b), critic_loss(s, t).mean())
    torch.testing.assert_close(it.generator_loss(critic, b), generator_loss(t).mean())
    assert it.name == objective.name and it.clip is None


def slopes(critic: nn.Module, x: Tensor) -> Tensor:
    """Norms of the critic's gradients, one sample at a time."""
    return torch.stack([grad(critic(row[None]).sum(), row)[0].norm() for row in x.clone().requires_grad_().unbind()])


@pytest.mark.parametrize(
    ("it", "at", "penalty"),
    [
        (wgan_gp(), "interpolates", lambda n: 10 * (n - 1).square()),
        (wgan_gp(3.0), "interpolates", lambda n: 3 * (n - 1).square()),
        (wgan_div(), "interpolates", lambda n: 2 * n**6),
        (wgan_div(5.0, 3.0, at="samples"), "samples", lambda n: 5 * n**3),
        (game(WASSERSTEIN, penalty=7.0, centre=0.5, power=4.0, at="samples"), "samples", lambda n: 7 * (n - 0.5) ** 4),
    ],
    ids=["gp", "gp 3", "div", "div samples", "all settings"],
)
def test_penalties_are_added_where_they_belong(it: Game, at: str, penalty: Callable[[Tensor], Tensor]) -> None:
    b, critic = batch(), mlp([3, 8, 1], nn.Tanh)
    twin = torch.Generator().manual_seed(4)
    x = torch.cat([b.real, b.fake]) if at == "samples" else interpolate(b.real, b.fake, twin)
    plain = critic(b.fake).mean() - critic(b.real).mean()
    torch.testing.assert_close(it.critic_loss(critic, b), plain + penalty(slopes(critic, x)).mean())
    torch.testing.assert_close(it.generator_loss(critic, b), -critic(b.fake).mean())  # without it


@pytest.mark.parametrize(
    ("norm", "distance"),
    [
        ("L1", lambda x: x.abs().sum(1)),
        ("L2", lambda x: x.square().sum(1).sqrt()),
        ("squared", lambda x: x.square().sum(1)),
    ],
)
def test_gan_qp_pairs_the_samples_of_a_batch(norm: str, distance: Callable[[Tensor], Tensor]) -> None:
    b, critic = batch(width=6), mlp([6, 8, 1])
    images = b._replace(real=b.real.view(5, 2, 3), fake=b.fake.view(5, 2, 3))
    D = (critic(b.real) - critic(b.fake)).flatten()
    value = (D - D.square() / (2 * 0.3 * distance(b.real - b.fake))).mean()
    flat = nn.Sequential(nn.Flatten(), critic)
    torch.testing.assert_close(qp(0.3, norm).critic_loss(flat, images), -value)
    torch.testing.assert_close(qp(0.3, norm).generator_loss(flat, images), -critic(b.fake).mean())


@pytest.mark.parametrize("norm", ["L1", "L2", "squared"])
def test_the_distance_of_gan_qp_is_as_precise_as_the_samples(norm: str) -> None:
    def loss(x: Tensor, y: Tensor) -> float:
        return float(qp(0.3, norm).critic_loss(lambda x: x.double().sum(1), Batch(x, y, None, torch.Generator())))

    x, y = torch.randn(2, 5, 3, dtype=torch.float64)
    power = {"L1": 1, "L2": 2, "squared": 2}[norm]
    d = (x - y).abs().pow(power).sum(1).pow(0.5 if norm == "L2" else 1)
    D = (x - y).sum(1)
    assert loss(x, y) == pytest.approx(float((D.square() / (0.6 * d) - D).mean()), rel=1e-12)
    x, y = torch.tensor([[60000.0, 0.1]]).half(), torch.tensor([[-60000.0, 10.0]]).half()  # 120000 is no half
    assert loss(x, y) == pytest.approx(loss(x.float(), y.float()), rel=1e-6)


def test_the_distance_of_gan_qp_gives_the_fakes_no_gradient() -> None:
    b = batch()
    b.fake.requires_grad_()
    loss = qp(0.3, "L2").critic_loss(lambda x: x.detach()[:, 0], b)
    assert not loss.requires_grad


@pytest.mark.parametrize("make", [wgan_gp, wgan_div, qp, lambda: CLIPPED, lambda: game(HINGE, penalty=F32(2))])
def test_games_can_be_sent_copied_and_compared(make: Callable[[], Game]) -> None:
    it, b, critic = make(), batch(), mlp([3, 8, 1])
    sent = pickle.loads(pickle.dumps(it))
    assert sent == it == deepcopy(it) == make() and hash(sent) == hash(it) and " at 0x" not in repr(it)
    assert torch.equal(sent.generator_loss(critic, b), it.generator_loss(critic, b))
    values = [each.critic_loss(critic, b._replace(rng=torch.Generator().manual_seed(4))) for each in (sent, it)]
    assert torch.equal(*values)


def test_games_differ_where_their_settings_do() -> None:
    games = [
        wgan_gp(),
        wgan_gp(9),
        wgan_div(),
        wgan_div(power=4),
        wgan_div(at="samples"),
        qp(),
        qp(2),
        qp(norm="L1"),
        CLIPPED,
    ]
    assert len(set(games)) == len(games)
    assert wgan_gp(F32(10)) == wgan_gp(I64(10)) == wgan_gp(10.0)


# --- turns


class Spy:
    """A game that notes what it is given."""

    def __init__(self, it: Game) -> None:
        self.batches: list[tuple[str, Batch]] = []
        self.flags: list[tuple[str, list[bool]]] = []
        self.game = replace(
            it,
            critic_loss=self._noting("critic", it.critic_loss),
            generator_loss=self._noting("generator", it.generator_loss),
        )

    def _noting(self, player: str, loss: Any) -> Any:
        def noted(critic: Any, b: Batch) -> Tensor:
            self.batches.append((player, b))
            self.flags.append((player, [p.requires_grad for p in critic.parameters()]))
            return loss(critic, b)

        return noted


@pytest.mark.parametrize("n_critic", [1, 3])
def test_n_critic_critic_steps_then_one_of_the_generator(n_critic: int) -> None:
    spy = Spy(wgan_div())
    run = train(spy.game, steps=4, n_critic=n_critic)
    assert [player for player, _ in spy.batches] == ([*["critic"] * n_critic, "generator"]) * 4
    assert run.step == 4 and [len(values) for values in run.history.values()] == [4, 4]


def test_every_turn_draws_fresh_reals_codes_and_interpolates() -> None:
    seen: list[Tensor] = []
    spy = Spy(game(WASSERSTEIN, penalty=1.0))
    spy.game = replace(
        spy.game, critic_loss=lambda critic, b: seen.append(torch.rand(9, generator=b.rng)) or critic(b.real).mean()
    )
    noted = Spy(spy.game)
    train(noted.game, steps=5)
    for kind in (seen, [b.real for _, b in noted.batches], [cast(Tensor, b.latent) for _, b in noted.batches]):
        assert len(kind) in (10, 15) and len({tuple(t.flatten().tolist()) for t in kind}) == len(kind)


def test_fakes_are_the_generators_and_detached_in_the_critics_turn() -> None:
    generator, critic = players()
    made: dict[bytes, Tensor] = {}
    generator.register_forward_hook(lambda module, z, x: made.__setitem__(z[0].numpy().tobytes(), x.detach()))
    spy = Spy(wgan_div())
    train(spy.game, steps=3, nets=(generator, critic))
    for player, b in spy.batches:
        assert b.fake.requires_grad == (player == "generator") and not b.real.requires_grad
        assert b.latent is not None and b.latent.shape == (16, 3)
        assert torch.equal(made[b.latent.numpy().tobytes()], b.fake.detach())


def test_each_turn_moves_its_own_player_only() -> None:
    generator, critic = players()
    spy = Spy(wgan_div())
    states: list[tuple[str, list[Tensor], list[Tensor]]] = []
    for player, loss in (("critic", spy.game.critic_loss), ("generator", spy.game.generator_loss)):

        def noting(c: Any, b: Batch, player: str = player, loss: Any = loss) -> Tensor:
            states.append(
                (
                    player,
                    [p.detach().clone() for p in critic.parameters()],
                    [p.detach().clone() for p in generator.parameters()],
                )
            )
            if player == "generator":
                assert all(p.grad is None or not p.grad.isnan().any() for p in critic.parameters())
                for p in critic.parameters():
                    p.grad = torch.full_like(p, math.nan)  # what a backward pass would add to, and a step would use
            return loss(c, b)

        spy.game = replace(spy.game, **{f"{player}_loss": noting})
    run = train(spy.game, steps=3, nets=(generator, critic))
    assert all(t.isfinite().all() for t in weights(run))  # the marks were cleared before the critic's next step
    for (player, critic_before, generator_before), (_, critic_after, generator_after) in pairwise(states):
        assert same(critic_before, critic_after) == (player == "generator")
        assert same(generator_before, generator_after) == (player == "critic")


def test_the_critic_is_frozen_in_the_generators_turn_and_restored() -> None:
    generator, critic = players()
    critic[0].weight.requires_grad_(False)
    generator[0].bias.requires_grad_(False)
    kept = [critic[0].weight.clone(), generator[0].bias.clone()]
    spy = Spy(wgan_div())
    train(spy.game, steps=3, nets=(generator, critic))
    for player, flags in spy.flags:
        assert flags == ([False, True, True, True] if player == "critic" else [False] * 4)
    assert [p.requires_grad for p in critic.parameters()] == [False, True, True, True]
    assert same(kept, [critic[0].weight, generator[0].bias])


def test_clipping_bounds_the_critic_after_each_of_its_steps() -> None:
    generator, critic = players()
    largest: list[float] = []
    hooked = replace(CLIPPED, generator_loss=lambda c, b: largest.append(bound(c)) or CLIPPED.generator_loss(c, b))
    first = bound(critic)
    run = train(hooked, steps=20, nets=(generator, critic), learning_rate=0.03)
    assert first > 0.05 and len(largest) == 20 and max(largest) == pytest.approx(0.05) == bound(run.critic)
    assert bound(run.generator) > 0.05
    frozen = players()
    frozen[1][0].weight.requires_grad_(False).fill_(3.0)
    assert bound(train(nets=frozen).critic) == 3.0  # what is not trained is not clipped


def bound(network: nn.Module) -> float:
    return max(p.abs().max().item() for p in network.parameters())


# --- what a step computes


def test_a_recipe_is_its_fields_by_name() -> None:
    recipe = Recipe(steps=I64(4), latent=I64(3), batch_size=I64(16), n_critic=2, seed=I64(1))
    assert recipe == Recipe(steps=4, latent=3, batch_size=16, n_critic=2, seed=1) and type(recipe.steps) is int
    named = weights(train(wgan_gp(), 4, seed=1))
    assert same(named, weights(fit(*players(), ring().sample, wgan_gp(), recipe, progress=False)))
    other = replace(recipe, steps=9, seed=5)
    assert same(named, weights(fit(*players(), ring().sample, wgan_gp(), other, steps=4, seed=1, progress=False)))
    for wrong, right in (("n_critics", "n_critic"), ("learn_rate", "learning_rate"), ("checkpoints", "checkpoint")):
        with pytest.raises(TypeError, match=rf"^fit: {wrong} is no argument.*Do you mean {right}"):
            train(**cast(Any, {wrong: 2}))
        with pytest.raises(TypeError, match=rf"^fit: {wrong} is no argument.*Do you mean {right}"):
            Recipe(**cast(Any, {"steps": 1, wrong: 2}))
    assert copy.deepcopy(recipe) == pickle.loads(pickle.dumps(recipe)) == recipe
    with pytest.raises(TypeError, match="steps"):
        fit(*players(), ring().sample, wgan_gp())


def test_networks_of_float64_draw_their_codes_and_take_float32_data() -> None:
    nets = [net.double() for net in players()]
    run = train(wgan_gp(), 3, nets)
    assert all(t.dtype == torch.float64 and t.isfinite().all() for t in weights(run))
    torch.set_default_dtype(torch.float64)
    try:
        assert same(weights(run), weights(train(wgan_gp(), 3, [net.double() for net in float32_players()])))
    finally:
        torch.set_default_dtype(torch.float32)
    losses = fit_critic(players()[1].double(), ring().sample, ring(3).sample, wgan_gp(), steps=2, batch_size=8)
    assert all(map(math.isfinite, losses))


def test_players_of_two_dtypes_play_where_the_critics_holds_the_fakes() -> None:
    for kind, wider in ((torch.float32, torch.float64), (torch.bfloat16, torch.float32)):
        generator, critic = players()
        run = train(wgan_gp(), 3, (generator.to(kind), critic.to(wider)))
        assert next(run.critic.parameters()).dtype == wider and all(t.isfinite().all() for t in weights(run))
        narrow = lambda n, rng, kind=kind: ring().sample(n, rng).to(kind)
        with pytest.raises(TypeError, match=f"generator makes {wider}, must be {kind} as the critic"):
            train(wgan_gp(), 1, (players()[0].to(wider), players()[1].to(kind)), narrow)


def float32_players() -> tuple[Any, Any]:
    torch.set_default_dtype(torch.float32)
    nets = players()
    torch.set_default_dtype(torch.float64)
    return nets


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_grad_mode_around_the_call_does_not_matter(mode: Any) -> None:
    want = weights(train(wgan_gp(), 3))
    alone = fit_critic(players()[1], ring().sample, ring(3).sample, wgan_gp(), steps=3, batch_size=8)
    nets, critic = players(), players()[1]
    with mode():
        run = train(wgan_gp(), 3, nets)
        assert same(want, weights(run))
        assert alone == fit_critic(critic, ring().sample, ring(3).sample, wgan_gp(), steps=3, batch_size=8)
    run.ema(torch.zeros(4, 3)).sum().backward()  # the average is a network like any other


def test_samples_from_another_network_carry_no_graph() -> None:
    """Neither of data that are computed, nor of data computed and kept in inference mode."""
    mean = nn.Parameter(torch.zeros(2))
    moved = lambda n, rng: mean + ring().sample(n, rng)
    with torch.inference_mode():
        kept = ring().sample(16, torch.Generator().manual_seed(0))
    for real in (moved, lambda n, rng: kept):
        assert train(CLIPPED, 2, real=real).step == 2
        fit_critic(players()[1], real, real, wgan_gp(), steps=2, batch_size=16)
    assert mean.grad is None
    assert train(CLIPPED, 2, players(latent=2), latent=lambda n, rng: kept).step == 2


def test_two_threads_train_two_runs(capsys: pytest.CaptureFixture[str]) -> None:
    want = [weights(train(wgan_gp(), 20, seed=k)) for k in (0, 1)]
    nets = [players(), players()]
    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(lambda k: train(wgan_gp(), 20, nets[k], seed=k), (0, 1)))
    assert all(same(a, weights(run)) for a, run in zip(want, runs, strict=True))


def test_a_run_equals_the_plain_loop() -> None:
    """Adam's steps written out: the same draws, one generator and one critic, no Accelerate."""
    generator, critic = players()
    run_generator, run_critic = deepcopy(generator), deepcopy(critic)
    spy = Spy(wgan_gp())
    train(spy.game, steps=3, nets=(run_generator, run_critic), learning_rate=0.01, betas=(0.3, 0.8))
    optimizers = {
        "critic": torch.optim.Adam(critic.parameters(), lr=0.01, betas=(0.3, 0.8)),
        "generator": torch.optim.Adam(generator.parameters(), lr=0.01, betas=(0.3, 0.8)),
    }
    states = iter(_states())
    for player, b in spy.batches:
        fake = generator(b.latent)
        rng = next(states) if player == "critic" else b.rng
        if player == "critic":
            u = torch.rand(16, 1, generator=rng)
            x = u * b.real + (1 - u) * fake.detach()
            loss = (
                critic(fake.detach()).mean()
                - critic(b.real).mean()
                + 10 * (slopes_graph(critic, x) - 1).square().mean()
            )
        else:
            loss = -critic(fake).mean()
        optimizers[player].zero_grad()
        loss.backward()
        optimizers[player].step()
    for ours, plain in ((run_generator, generator), (run_critic, critic)):
        for a, p in zip(ours.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(a, p, rtol=1e-4, atol=1e-5)


def _states() -> Iterator[torch.Generator]:
    """The interpolation noise of each critic step: codes are drawn before it from the same stream."""
    for step in range(3):
        rng = torch.Generator()
        training._reseed(rng, 0, 0, step, True)
        for _ in range(2):
            torch.randn(16, 3, generator=rng)
            yield rng


def slopes_graph(critic: nn.Module, x: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    return grad(critic(x).sum(), x, create_graph=True)[0].norm(dim=1)


def test_the_average_follows_its_recursion() -> None:
    generator, critic = players(norm=nn.BatchNorm1d)
    seen: list[list[Tensor]] = []
    run = train(
        steps=30, nets=(generator, critic), ema=0.6, callbacks=[lambda run: seen.append(weights_of(run.generator))]
    )
    average = [t.double() for t in seen[0]]
    for n, values in enumerate(seen[1:], 2):
        decay = min(0.6, n / (9 + n))  # 2/11, 3/12, ... and 0.6 from step 14 on
        average = [decay * a + (1 - decay) * v.double() for a, v in zip(average, values, strict=True)]
    names = [name for name, _ in run.ema.named_parameters()] + [name for name, _ in run.ema.named_buffers()]
    for name, ours, exact in zip(names, weights_of(run.ema), average, strict=True):
        if "tracked" in name:
            assert ours == 30 * 3  # a count is copied
        else:
            torch.testing.assert_close(ours.double(), exact, rtol=1e-5, atol=1e-6)
    assert not same(weights_of(run.ema), weights_of(generator))
    assert run.ema is not generator and run.ema.training


def weights_of(network: nn.Module) -> list[Tensor]:
    return [t.detach().clone() for t in (*network.parameters(), *network.buffers())]


@pytest.mark.parametrize("norm", [parametrizations.spectral_norm, nn.utils.spectral_norm], ids=["new", "old"])
def test_spectral_norm_holds_for_the_average(norm: Any) -> None:
    torch.manual_seed(0)
    nets = nn.Sequential(norm(nn.Linear(3, 32)), nn.ReLU(), norm(nn.Linear(32, 32)), nn.ReLU(), norm(nn.Linear(32, 2)))
    run = train(wgan_gp(), 200, (nets, mlp([2, 32, 1])), n_critic=1, batch_size=64)
    run.ema.eval()(torch.zeros(1, 3))  # the old one computes its weight when it is called
    sizes = [torch.linalg.matrix_norm(layer.weight, 2).item() for layer in cast(Any, run.ema)[::2]]
    assert sizes == pytest.approx([1, 1, 1], abs=0.1)
    assert not any(torch.equal(a, b) for a, b in zip(run.ema.parameters(), run.generator.parameters(), strict=True))


def test_the_average_keeps_its_mode() -> None:
    modes = []

    def sampled(run: Fit) -> None:
        modes.append({layer.training for layer in run.ema.modules()})
        run.ema.eval()

    nets = players(spectral=True)
    train(wgan_gp(), 3, nets, callbacks=[sampled])
    assert modes == [{True}, {False}, {False}]


def test_without_decay_the_average_is_the_generator() -> None:
    run = train(ema=0.0)
    assert same(weights_of(run.ema), weights_of(run.generator))


def test_the_generators_batch_may_be_another() -> None:
    spy = Spy(wgan_gp())
    train(spy.game, steps=2, generator_batch=I64(24))
    sizes = {
        player: {(len(b.real), len(b.fake)) for who, b in spy.batches if who == player} for player, _ in spy.batches
    }
    assert sizes == {"critic": {(16, 16)}, "generator": {(24, 24)}}


def test_the_rates_fall_to_zero_and_resume(tmp_path: Path) -> None:
    """Under constant gradients each step is the rate; of two groups each has its own."""

    def run(steps: int, **options: Any) -> tuple[Fit, list[list[Tensor]]]:
        generator, critic = players()
        slope = lambda net: sum(((i + 1) * p.sum() for i, p in enumerate(net.parameters())), torch.tensor(0.0))
        it = Game("slope", lambda c, b: slope(critic), lambda c, b: slope(generator))
        seen = [weights_of(generator)]
        callbacks = [lambda run: seen.append(weights_of(generator)), *options.pop("callbacks", [])]
        made = {"nets": (generator, critic), "callbacks": callbacks, "save_every": 2, "optimizer": halves} | options
        return train(it, steps, **made), seen

    def halves(parameters: Any) -> torch.optim.Optimizer:
        first, *others = parameters
        return torch.optim.SGD([{"params": [first], "lr": 0.5}, {"params": others}], lr=0.125)

    unbroken, seen = run(5, decay=True)
    for i, (a, b) in enumerate(pairwise(seen)):
        for k, (before, after) in enumerate(zip(a, b, strict=True)):
            rate = (0.125 if k else 0.5) * (1 - i / 5) * (k + 1)
            torch.testing.assert_close(before - after, torch.full_like(before, rate))
    file = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        run(5, decay=True, checkpoint=file, callbacks=[stop(3)])
    resumed, again = run(5, decay=True, checkpoint=file)
    assert len(again) == 4 and same(weights(unbroken), weights(resumed))
    for steps, decay in ((6, True), (5, False)):
        with pytest.raises(ValueError, match="another decay"):
            run(steps, decay=decay, checkpoint=file)


def test_tied_weights_are_averaged_once() -> None:
    tied = nn.Linear(3, 3)
    seen: list[list[Tensor]] = []
    nets = nn.Sequential(tied, nn.Tanh(), tied, nn.Linear(3, 2)), players()[1]
    run = train(steps=2, nets=nets, ema=0.5, callbacks=[lambda run: seen.append(weights_of(run.generator))])
    for ours, a, b in zip(weights_of(run.ema), *seen, strict=True):
        torch.testing.assert_close(ours, 2 / 11 * a + 9 / 11 * b)


def test_one_seed_gives_one_run() -> None:
    first = weights(train(wgan_gp()))
    torch.manual_seed(99)  # PyTorch's own generator plays no part
    assert same(first, weights(train(wgan_gp())))
    assert not same(first, weights(train(wgan_gp(), seed=1)))


def test_callbacks_see_every_step_and_the_losses_of_every_hundred() -> None:
    steps, lengths = [], []
    train(
        game(HINGE),
        steps=203,
        batch_size=4,
        n_critic=1,
        callbacks=[lambda run: steps.append(run.step), lambda run: lengths.append(len(run.history["critic"]))],
    )
    assert steps == [*range(1, 204)] and lengths == [0] * 99 + [100] * 100 + [200] * 3 + [203]


def test_the_history_holds_the_losses() -> None:
    values: dict[str, list[float]] = {"critic": [], "generator": []}
    it = wgan_div()

    def noting(player: str, loss: Any) -> Any:
        def noted(critic: Any, b: Batch) -> Tensor:
            value = loss(critic, b)
            values[player].append(value.item())
            return value

        return noted

    run = train(Game("noting", noting("critic", it.critic_loss), noting("generator", it.generator_loss)), n_critic=3)
    assert run.history == {"critic": values["critic"][2::3], "generator": values["generator"]}


def test_another_optimizer() -> None:
    step = 0.125
    generator, critic = players()
    before = weights_of(generator)
    game_ = Game(
        "sum",
        lambda c, b: sum((p.sum() for p in critic.parameters()), b.fake.sum() * 0),
        lambda c, b: sum((p.sum() for p in generator.parameters()), torch.tensor(0.0)),
    )
    train(game_, steps=2, nets=(generator, critic), optimizer=lambda parameters: torch.optim.SGD(parameters, lr=step))
    for a, b in zip(before, weights_of(generator), strict=True):
        torch.testing.assert_close(b, a - 2 * step)


# --- interrupts and checkpoints


def modern() -> tuple[nn.Sequential, nn.Sequential]:
    """Players with buffers: batch norm's statistics, spectral norm's vectors."""
    torch.manual_seed(1)
    return mlp([3, 8, 2], norm=nn.BatchNorm1d), mlp([2, 8, 1], spectral=True)


def stop(at: int) -> Callable[[Fit], None]:
    def callback(run: Fit) -> None:
        if run.step == at:
            raise KeyboardInterrupt

    return callback


def test_an_interrupted_run_resumes_bit_for_bit(tmp_path: Path) -> None:
    file = tmp_path / "run.pt"
    unbroken = train(wgan_gp(), 10, modern())
    nets = modern()
    with pytest.raises(KeyboardInterrupt):
        train(wgan_gp(), 10, nets, checkpoint=file, save_every=3, callbacks=[stop(8)])
    assert all(p.requires_grad for net in nets for p in net.parameters())
    torch.manual_seed(5)
    fresh = mlp([3, 8, 2], norm=nn.BatchNorm1d), mlp([2, 8, 1], spectral=True)  # its weights do not matter
    steps: list[int] = []
    resumed = train(wgan_gp(), 10, fresh, checkpoint=file, save_every=3, callbacks=[lambda run: steps.append(run.step)])
    assert steps == [7, 8, 9, 10]
    assert same(weights(unbroken), weights(resumed)) and unbroken.history == resumed.history
    finished = train(wgan_gp(), 10, modern(), checkpoint=str(file), callbacks=[stop(10)])  # nothing is left to do
    assert finished.step == 10 and same(weights(unbroken), weights(finished))
    longer = train(wgan_gp(), 12, modern(), checkpoint=file)
    assert same(weights(longer), weights(train(wgan_gp(), 12, modern()))) and len(longer.history["critic"]) == 12
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]


def test_an_interrupt_in_the_generators_turn_unfreezes_the_critic() -> None:
    def interrupted(critic: Any, b: Batch) -> Tensor:
        raise KeyboardInterrupt

    generator, critic = players()
    critic[0].bias.requires_grad_(False)
    with pytest.raises(KeyboardInterrupt):
        train(replace(CLIPPED, generator_loss=interrupted), nets=(generator, critic))
    assert [p.requires_grad for p in critic.parameters()] == [True, False, True, True]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failed_save_leaves_the_last_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Any) -> None:
    file = tmp_path / "run.pt"
    train(steps=4, checkpoint=file)
    whole = file.read_bytes()

    def half(state: object, path: Path) -> None:
        Path(path).write_bytes(whole[: len(whole) // 2])
        raise error

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(error):
        train(steps=8, checkpoint=file, save_every=2)
    assert file.read_bytes() == whole and [path.name for path in tmp_path.iterdir()] == ["run.pt"]


@pytest.mark.parametrize("writes", [RuntimeError("PytorchStreamWriter failed"), OSError(28, "No space left on device")])
def test_a_full_disk_keeps_the_last_checkpoint_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: Exception
) -> None:
    file, save = tmp_path / "run.pt", torch.save
    train(steps=4, checkpoint=file)
    kept = file.read_bytes()

    def full(state: Any, draft: Path) -> None:
        draft.write_bytes(kept[:100])
        raise writes

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match=r"run.pt cannot be written at step 6 \(.*\); the last one is kept. Make room"):
        train(steps=8, checkpoint=file, save_every=2)
    assert file.read_bytes() == kept and [path.name for path in tmp_path.iterdir()] == ["run.pt"]
    with pytest.raises(OSError, match=r"at step 6 .*; there is none yet"):
        train(checkpoint=tmp_path / "other.pt")
    monkeypatch.setattr(torch, "save", save)
    assert same(weights(train(steps=8, checkpoint=file)), weights(train(steps=8)))


@pytest.mark.parametrize(("most", "advice"), [(20, "16 fit: pass batch_size=16"), (1, "1 fit"), (0, "not even one")])
def test_out_of_memory_says_which_batch_fits(most: int, advice: str, tmp_path: Path) -> None:
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = players()[1]

        def forward(self, x: Tensor) -> Tensor:
            if len(x) > most:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return self.inner(x)

    message = rf"^fit: batches of 64 do not fit into the memory of cpu; {advice}"
    with pytest.raises(torch.OutOfMemoryError, match=message):
        train(game(WASSERSTEIN), nets=(players()[0], Small()), batch_size=64)


def test_other_errors_of_a_step_are_not_taken_for_memory() -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        train(nets=(players()[0], mlp([5, 8, 1])))


def rates(*each: float, **settings: Any) -> Callable[[Any], torch.optim.Optimizer]:
    """SGD of both players, the critic's first, each with a rate of its own."""
    left: list[float] = []

    def make(parameters: Any) -> torch.optim.Optimizer:
        left[:] = left or each
        return torch.optim.SGD(parameters, lr=left.pop(0), **settings)

    return make


def grouped(parameters: Any) -> torch.optim.Optimizer:
    """The same SGD, its parameters in two groups."""
    first, *others = parameters
    return torch.optim.SGD([{"params": [first]}, {"params": others}], lr=0.1)


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"seed": 1}, "seed"),
        ({"ema": 0.9}, "ema"),
        ({"batch_size": 8}, "batch_size"),
        ({"n_critic": 1}, "n_critic"),
        ({"generator_batch": 8}, "generator_batch"),
        ({"decay": True}, "decay"),
        ({"learning_rate": 0.1}, "optimizers"),
        ({"betas": (0.0, 0.9)}, "optimizers"),
        ({"optimizer": torch.optim.SGD}, "optimizers"),
        ({"game": wgan_gp()}, "game"),
        ({"game": wgan_div(k=3.0)}, "game"),
        ({"game": wgan_div(power=4.0)}, "game"),
        ({"game": wgan_div(at="samples")}, "game"),
        ({"game": replace(wgan_div(), clip=1.0)}, "game"),
        ({"optimizer": rates(0.1, 0.7)}, "optimizers"),
        ({"optimizer": rates(0.1, 0.1, momentum=0.5)}, "optimizers"),
        ({"optimizer": grouped}, "optimizers"),
        ({"latent": lambda n, rng: torch.randn(n, 3, generator=rng)}, "latent"),
        ({"nets": (mlp([3, 9, 2]), mlp([2, 8, 1], nn.Softplus))}, "generator, optimizers"),
        ({"nets": (mlp([3, 8, 2]), mlp([2, 8, 8, 1], nn.Softplus))}, "critic, optimizers"),
        ({"nets": (mlp([3, 8, 2], nn.Tanh), mlp([2, 8, 1], lambda: nn.Softplus(2)))}, "generator, critic"),
        ({"nets": (mlp([3, 8, 2]).double(), mlp([2, 8, 1], nn.Softplus).double())}, "generator, critic"),
        (
            {
                "nets": (
                    mlp([3, 8, 2]),
                    nn.Sequential(nn.Linear(2, 8).requires_grad_(False), nn.Softplus(), nn.Linear(8, 1)),
                )
            },
            "critic, optimizers",
        ),
        ({"seed": 1, "n_critic": 1}, "n_critic, seed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_another_recipe_is_refused_by_name(tmp_path: Path, options: dict[str, Any], difference: str) -> None:
    first: dict[str, Any] = {"optimizer": rates(0.1, 0.1)} if "optimizer" in options else {}
    train(wgan_div(), 2, checkpoint=tmp_path / "run.pt", **first)
    nets = options.pop("nets", players())
    before = [weights_of(net) for net in nets]
    with pytest.raises(ValueError, match=f"has another {difference}, must be of the same recipe. Name another file"):
        train(**{"game": wgan_div(), "steps": 2, "nets": nets, "checkpoint": tmp_path / "run.pt"} | options)
    assert all(same(b, weights_of(net)) for b, net in zip(before, nets, strict=True))


def test_damaged_checkpoints_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "run.pt"
    train(steps=4, checkpoint=file)
    whole = file.read_bytes()
    for content in (b"", b"words", whole[: len(whole) // 2], whole[:-30]):
        file.write_bytes(content)
        with pytest.raises(
            ValueError, match=r"is damaged, must be one that fit wrote\. Name another file, or delete it"
        ):
            train(steps=4, checkpoint=file)
        assert file.read_bytes() == content
    state = torch.load(io.BytesIO(whole), weights_only=True)
    damage: list[dict[str, Any]] = [{"recipe": 3}, {"step": "4"}, {"parts": []}, {"parts": [{}, *state["parts"][1:]]}]
    for other in (torch.zeros(3), {"step": 3}, [1], *({**state, **each} for each in damage)):
        torch.save(other, file)
        with pytest.raises(ValueError, match=r"run.pt is damaged, must be one that fit wrote\. Name another"):
            train(steps=4, checkpoint=file)
    file.write_bytes(whole)
    with pytest.raises(ValueError, match=r"steps is 3, must be >= 4 as in checkpoint"):
        train(steps=3, checkpoint=file)
    for place in (tmp_path / "missing" / "run.pt", tmp_path):
        with pytest.raises(ValueError, match="must be a file in a folder that exists"):
            train(checkpoint=place)


def test_a_checkpoint_keeps_the_gradient_scaler(tmp_path: Path) -> None:
    """Of 16-bit training, which needs a GPU: so the file alone is tested."""

    def scaled(by: float) -> tuple[torch.amp.GradScaler, Checkpoint]:
        scaler = torch.amp.GradScaler("cpu", init_scale=by)
        accelerator: Any = SimpleNamespace(
            scaler=scaler,
            num_processes=1,
            gradient_accumulation_steps=1,
            mixed_precision="fp16",
            is_main_process=True,
            wait_for_everyone=lambda: None,
        )
        return scaler, Checkpoint(tmp_path / "run.pt", [], {}, accelerator)

    scaled(1024.0)[1].save(3, [1.0])
    scaler, file = scaled(2.0)
    assert file.load(3) == (3, [1.0]) and scaler.get_scale() == 1024


def test_a_checkpoint_in_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    train(steps=2, checkpoint="run.pt")
    assert train(steps=2, checkpoint="run.pt", callbacks=[stop(1)]).step == 2


@pytest.mark.parametrize("player", ["critic", "generator"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_diverged_run_says_so_and_saves_nothing(tmp_path: Path, player: str, value: float) -> None:
    calls = []

    def diverging(loss: Any) -> Any:
        return lambda critic, b: loss(critic, b) * (value if calls.append(1) or len(calls) >= 6 else 1)

    it = game(HINGE)
    loss = f"{player}_loss"
    broken = r"(nan|-?inf)"
    losses = rf"{broken} \(critic\) and \S+" if player == "critic" else rf"[-.\d]+ \(critic\) and {broken}"
    with pytest.raises(FloatingPointError, match=rf"^fit: the losses of step 6 are {losses} \(generator\), must stay"):
        train(
            replace(it, **{loss: diverging(getattr(it, loss))}),
            100,
            n_critic=1,
            checkpoint=tmp_path / "x",
            save_every=4,
        )
    assert torch.load(tmp_path / "x")["step"] == 4


def test_the_bar_is_silent_unless_asked(capfd: pytest.CaptureFixture[str]) -> None:
    train()
    fit_critic(players()[1], ring().sample, ring().sample, CLIPPED, steps=3, batch_size=4)
    assert capfd.readouterr() == ("", "")
    train(progress=True)
    fit_critic(players()[1], ring().sample, ring().sample, CLIPPED, steps=3, batch_size=4, progress=True)
    out, err = capfd.readouterr()
    assert out == "" and "WGAN: 100%" in err and "6/6" in err and "3/3" in err


# --- the critic alone


def interpolated(x: Tensor) -> Tensor:
    """Density of u X + (1 - u) Y, X ~ N(0, 1), Y ~ N(2, 1), u uniform: normals mixed over u, by the midpoint rule."""
    u = (torch.arange(2000, dtype=torch.float64)[:, None] + 0.5) / 2000
    return torch.distributions.Normal(2 * (1 - u), (u.square() + (1 - u).square()).sqrt()).log_prob(x).exp().mean(0)


@pytest.mark.parametrize("at", ["samples", "interpolates"])
def test_a_trained_critic_reaches_the_exact_divergence(at: str) -> None:
    x = torch.linspace(-8, 10, 4001, dtype=torch.float64)
    p, q = (torch.distributions.Normal(mean, 1.0).log_prob(x).exp() for mean in (0.0, 2.0))
    exact = wgan_div_1d(p, q, (p + q) / 2 if at == "samples" else interpolated(x), x).value.item()
    critic = mlp([1, 32, 32, 1], nn.Tanh)
    losses = fit_critic(
        critic, normal(0.0).sample, normal(2.0).sample, wgan_div(at=at), steps=600, batch_size=256, learning_rate=5e-3
    )
    rng = torch.Generator().manual_seed(7)
    b = Batch(normal(0.0).sample(200_000, rng), normal(2.0).sample(200_000, rng), None, rng)
    value = -wgan_div(at=at).critic_loss(critic, b).item()
    gap = -game(WASSERSTEIN).critic_loss(critic, b).item()
    assert len(losses) == 600 and losses[0] > -0.1 * exact
    assert value == pytest.approx(exact, rel=0.02)
    assert -sum(losses[-100:]) / 100 == pytest.approx(exact, rel=0.05)  # 25 600 samples
    assert gap / (gap - value) == pytest.approx(6, rel=0.05)  # gap = power times penalty at the optimum


def test_fit_critic_repeats_itself_and_trains_the_critic_only() -> None:
    def losses(seed: int = 0) -> list[float]:
        critic = players()[1]
        critic[0].bias.requires_grad_(False).fill_(0.5)
        values = fit_critic(critic, ring().sample, ring(3).sample, wgan_gp(), steps=5, batch_size=8, seed=seed)
        assert (critic[0].bias == 0.5).all() and len(values) == len(set(values)) == 5
        return values

    assert losses() == losses() != losses(1)


def test_the_rate_of_fit_critic_decays_to_zero() -> None:
    torch.manual_seed(0)
    critic: Any = nn.Linear(1, 1, bias=False)
    seen: list[float] = []
    it = Game(
        "slope", lambda c, b: seen.append(critic.weight.item()) or critic(b.real * 0 + 1).mean(), CLIPPED.generator_loss
    )
    fit_critic(critic, normal(0.0).sample, normal(0.0).sample, it, steps=9, batch_size=4, learning_rate=0.1)
    moves = [a - b for a, b in zip(seen, [*seen[1:], critic.weight.item()], strict=True)]  # Adam: the rate itself
    assert moves == pytest.approx([0.05 * (1 + math.cos(math.pi * i / 9)) for i in range(9)], rel=1e-3)


# --- Accelerate


@pytest.fixture
def bf16() -> Iterator[Any]:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    yield Accelerator(mixed_precision="bf16", cpu=True)
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize(
    "it", [wgan_div(), wgan_gp(), wgan_div(at="samples"), qp(1.0, "L1"), CLIPPED, game(HINGE)], ids=lambda it: it.name
)
def test_bfloat16_reaches_everything_but_the_penalty(bf16: Any, it: Game) -> None:
    generator, critic = players()
    dtypes: list[list[torch.dtype]] = []
    critic.register_forward_hook(lambda module, x, score: dtypes[-1].append(score.dtype))
    spy = Spy(replace(it, critic_loss=lambda c, b: dtypes.append([]) or it.critic_loss(c, b)))
    spy.game = replace(spy.game, generator_loss=lambda c, b: dtypes.append([]) or it.generator_loss(c, b))
    run = train(spy.game, 3, (generator, critic), accelerator=bf16)
    half, full = torch.bfloat16, torch.float32
    turn = [half, half, full] if "penalty" in it.settings and "penalty 0.0" not in it.settings else [half, half]
    assert dtypes == [turn, turn, [half]] * 3
    assert all(t.dtype == full and t.isfinite().all() for t in weights(run))
    assert spy.batches[0][1].fake.dtype == half and spy.batches[0][1].real.dtype == full


def test_a_checkpoint_of_another_precision_is_refused(bf16: Any, tmp_path: Path) -> None:
    train(steps=2, checkpoint=tmp_path / "run.pt", accelerator=bf16)
    type(bf16.state)._reset_state(reset_partial_state=True)
    with pytest.raises(ValueError, match="another mixed precision"):
        train(steps=2, checkpoint=tmp_path / "run.pt")


TWO = """
import sys, torch
from accelerate import Accelerator, debug_launcher
from gantext.gan.laws import ring
from gantext.gan.training import fit
from gantext.gan.methods import wgan_div, game
from gantext.gan.objectives import WASSERSTEIN
from gantext.gan.networks import mlp

def main(folder):
    torch.set_num_threads(1)
    rank = Accelerator(cpu=True).process_index
    def train(it, name="", steps=5, **options):
        drawn, codes = [], []
        def real(n, rng):
            drawn.append(ring().sample(n, rng)); return drawn[-1]
        def latent(n, rng):
            codes.append(torch.randn(n, 3, generator=rng)); return codes[-1]
        torch.manual_seed(rank)  # the ranks begin apart
        nets = mlp([3, 8, 2]), mlp([2, 8, 1], torch.nn.Tanh)
        begin = [{k: v.clone() for k, v in net.state_dict().items()} for net in nets]
        run = fit(*nets, real, it, steps=steps, latent=latent, batch_size=8, n_critic=2, **options)
        state = [net.state_dict() for net in (run.generator, run.critic, run.ema)]
        if name:
            torch.save({"begin": begin, "state": state, "drawn": drawn, "codes": codes}, f"{folder}/{name}{rank}")
    sgd = lambda parameters: torch.optim.SGD(parameters, lr=0.05)  # Adam would not tell a sum from a mean
    train(wgan_div(at="samples"), "samples", optimizer=sgd)
    train(wgan_div(), "between")
    for steps in (2, 5):
        train(wgan_div(), "resumed" if steps == 5 else "", steps, checkpoint=f"{folder}/run.pt", progress=False)

if __name__ == "__main__":
    debug_launcher(main, (sys.argv[1],))
"""


def test_two_processes_train_as_one_on_both_batches(tmp_path: Path) -> None:
    script = tmp_path / "two.py"
    script.write_text(TWO)
    command = [sys.executable, "-W", "ignore", str(script), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(" 0/5 [") == 2  # two runs with a bar, each begun by one of the ranks
    runs = {
        name: [torch.load(tmp_path / f"{name}{rank}") for rank in (0, 1)] for name in ("samples", "between", "resumed")
    }
    for first, second in runs.values():
        for ours, other in zip(first["state"], second["state"], strict=True):
            assert same([*ours.values()], [*other.values()])
        assert not same([*first["begin"][0].values()], [*second["begin"][0].values()])
        for kind in ("drawn", "codes"):
            assert not any(torch.equal(a, b) for a, b in zip(first[kind], second[kind], strict=True))
    for whole, resumed in zip(runs["between"][0]["state"], runs["resumed"][0]["state"], strict=True):
        assert same([*whole.values()], [*resumed.values()])
    first, second = runs["samples"]
    nets = mlp([3, 8, 2]), mlp([2, 8, 1], nn.Tanh)
    for net, state in zip(nets, first["begin"], strict=True):  # the main process's weights
        net.load_state_dict(state)
    reals, codes = (
        [torch.cat(pair) for pair in zip(first[kind], second[kind], strict=True)] for kind in ("drawn", "codes")
    )
    reals, codes = iter(reals), iter(codes)
    samplers = {"real": lambda n, rng: next(reals), "latent": lambda n, rng: next(codes)}
    sgd = lambda parameters: torch.optim.SGD(parameters, lr=0.05)
    one = train(wgan_div(at="samples"), 5, nets, optimizer=sgd, **samplers)
    for net, state in zip((one.generator, one.critic, one.ema), first["state"], strict=True):
        for ours, two in zip(net.state_dict().values(), state.values(), strict=True):
            torch.testing.assert_close(ours, two, rtol=1e-4, atol=1e-5)


def accumulating(batches: int) -> Any:
    from accelerate import Accelerator

    return Accelerator(cpu=True, gradient_accumulation_steps=batches)


def split(it: Game, batches: int, nets: Any = None, **options: Any) -> Fit:
    """A run on 64 samples a step of the critic and 32 of the generator, in so many batches; in float64."""
    nets = [net.double() for net in nets or players()]
    sgd = lambda parameters: torch.optim.SGD(parameters, lr=0.02)  # Adam would not tell a sum from a mean
    more: dict[str, Any] = {"optimizer": sgd, "batch_size": 64 // batches, "generator_batch": 32 // batches}
    return train(it, nets=nets, accelerator=accumulating(batches), **more | options)


def relativistic(critic: Any, b: Batch) -> Tensor:
    """On average: what it compares a score with is a mean over the batch, so the loss is none over samples."""
    real, fake = critic(b.real), critic(b.fake)
    return torch.nn.functional.softplus(fake.mean() - real).mean()


MEANS = [
    *(wgan_gp(), wgan_div(), wgan_div(at="samples"), game(HINGE, clip=0.2), game(NON_SATURATING, penalty=1, power=1.5)),
    *(qp(), o_gan(), o_gan(objective=wgan_gp(), match="squared")),
]


@pytest.mark.parametrize("it", MEANS, ids=lambda it: f"{it.name} {it.settings}")
def test_accumulated_batches_are_one_as_large(it: Game) -> None:
    """The same samples, codes and places of the penalty; and Adam, since what is averaged comes before it."""
    nets = (lambda: (mlp([3, 8, 2]), mlp([2, 8, 3]))) if it.name == "O-GAN" else players
    for options in ({}, {"optimizer": None}):
        torch.manual_seed(2)
        state = torch.get_rng_state()
        one = split(it, 1, nets(), **options)
        torch.set_rng_state(state)
        four = split(it, 4, nets(), **options)
        for ours, other in zip(weights(one), weights(four), strict=True):
            torch.testing.assert_close(ours, other, rtol=1e-7, atol=1e-9)
        for player in ("critic", "generator"):
            assert four.history[player] == pytest.approx(one.history[player], rel=1e-7, abs=1e-9)
            assert len(set(one.history[player])) == 6  # it has moved


def test_what_is_no_mean_over_samples_is_not_one_batch() -> None:
    """As the module says: a relativistic average, batch norm, and spectral norm's iteration, which runs ahead."""
    averaging = Game("relativistic", relativistic, lambda critic, b: -critic(b.fake).mean())
    normed = lambda: (players(norm=nn.BatchNorm1d)[0], players()[1])
    spectral = lambda: (players()[0], mlp([2, 8, 1], nn.Tanh, spectral=True))
    for it, nets in ((averaging, players), (wgan_gp(), normed), (wgan_gp(), spectral)):
        one, four = weights(split(it, 1, nets())), weights(split(it, 4, nets()))
        assert not all(torch.allclose(a, b, rtol=1e-4) for a, b in zip(one, four, strict=True))


def test_an_accumulating_run_resumes_to_the_bit_and_is_another_recipe(tmp_path: Path) -> None:
    file, options = tmp_path / "run.pt", {"batch_size": 4, "decay": False}
    train(wgan_gp(), 3, checkpoint=file, accelerator=accumulating(4), **options)
    with pytest.raises(ValueError, match="has another accumulated batches, must be of the same recipe"):
        train(wgan_gp(), checkpoint=file, **options)
    other = lambda run: accumulating(1) and None  # which all accelerators share
    resumed = train(wgan_gp(), checkpoint=file, accelerator=accumulating(4), callbacks=[other], **options)
    whole = train(wgan_gp(), accelerator=accumulating(4), **options)
    assert same(weights(resumed), weights(whole)) and resumed.history == whole.history
    assert not same(weights(whole), weights(train(wgan_gp(), **options)))


def test_the_advice_for_memory_keeps_the_samples_of_a_step() -> None:
    critic = players()[1]
    critic.register_forward_pre_hook(lambda module, given: small(*given))

    def small(x: Tensor) -> None:
        if len(x) > 20:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    message = r"of 64 do not fit .*; 16 fit: pass batch_size=16, and for as many in a step accelerator=(\S+)\.$"
    with pytest.raises(torch.OutOfMemoryError, match=message) as advised:
        train(game(WASSERSTEIN), nets=(players()[0], critic), batch_size=64, accelerator=accumulating(2))
    assert str(advised.value).endswith("Accelerator(gradient_accumulation_steps=8).")
    run = train(game(WASSERSTEIN), nets=(players()[0], critic), batch_size=16, accelerator=accumulating(8))
    assert run.step == 6


# --- bad input


def doubled(n: int, rng: torch.Generator) -> Tensor:
    return ring().sample(2 * n, rng)


class Paired(nn.Linear):
    """A generator of more than samples."""

    def __init__(self) -> None:
        super().__init__(3, 2)

    def forward(self, input: Tensor) -> Any:  # noqa: A002 - the name that PyTorch gives it
        return super().forward(input), input


@torch.inference_mode()
def inferred() -> nn.Module:
    return mlp([3, 2])


def losing(loss: Any) -> Game:
    return Game("strange", loss, lambda critic, b: -critic(b.fake).mean())


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"steps": 0}, ValueError, "steps is 0, must be an int >= 1"),
        ({"steps": 10.0}, TypeError, r"steps is 10.0 \(float\), must be an int"),
        ({"n_critic": 0}, ValueError, "n_critic is 0, must"),
        ({"n_critic": True}, TypeError, "n_critic is True"),
        ({"batch_size": -1}, ValueError, "batch_size is -1, must"),
        ({"save_every": 0}, ValueError, "save_every is 0, must"),
        ({"generator_batch": 0}, ValueError, "generator_batch is 0, must"),
        ({"generator_batch": 8.0}, TypeError, "generator_batch is 8.0"),
        ({"decay": 0.9}, TypeError, "decay is 0.9, must be True or False"),
        ({"latent": 0}, ValueError, "latent is 0, must"),
        ({"latent": -3}, ValueError, "latent is -3, must"),
        ({"latent": 3.0}, TypeError, "latent is 3.0"),
        ({"seed": -1}, ValueError, "seed is -1, must be an int >= 0"),
        ({"seed": None}, TypeError, "seed is None"),
        ({"learning_rate": 0}, ValueError, "learning_rate is 0, must be a finite number > 0"),
        ({"learning_rate": -1e-3}, ValueError, "learning_rate is -0.001, must"),
        ({"learning_rate": math.nan}, ValueError, "learning_rate is nan, must"),
        ({"learning_rate": "fast"}, TypeError, "learning_rate is 'fast'"),
        ({"ema": 1}, ValueError, r"ema is 1, must be in \[0, 1\)"),
        ({"ema": -0.1}, ValueError, "ema is -0.1, must"),
        ({"ema": math.nan}, ValueError, "ema is nan, must"),
        ({"ema": "0.9"}, TypeError, r"ema is '0.9' \(str\), must be a finite number"),
        ({"betas": (0.5, 1)}, ValueError, r"betas is 1.0, must be in \[0, 1\)"),
        ({"betas": 0.5}, ValueError, "betas is 0.5, must be two numbers in"),
        ({"betas": ("a", "b")}, TypeError, r"betas is 'a' \(str\), must be a finite number"),
        ({"optimizer": "adam"}, TypeError, "optimizer is a str, must be a function of the parameters. Write"),
        ({"optimizer": torch.optim.SGD(players()[0].parameters())}, TypeError, "optimizer is a SGD, must be a func"),
        ({"optimizer": lambda p: None}, TypeError, "optimizer makes None, must make a torch.optim.Optimizer"),
        ({"recipe": 1000}, TypeError, "recipe is 1000, must be a Recipe. Or name its fields"),
        ({"recipe": {"steps": 3}}, TypeError, "recipe is {'steps': 3}, must be a Recipe"),
        ({"callbacks": print}, TypeError, "callbacks is <built-in function print>, must be a sequence"),
        ({"callbacks": [print, 3]}, TypeError, r"callbacks\[1\] is a int, must be callable"),
        ({"game": wgan_div}, TypeError, "game is <function wgan_div .*must be a Game. Call"),
        ({"game": WASSERSTEIN}, TypeError, "game is Objective.*must be a Game"),
        ({"real": ring()}, TypeError, "real is a Mixture, must be callable. Of a law, pass its `sample`"),
        ({"real": doubled}, ValueError, r"real draws shape \(32, 2\), must be \(16, ...\)"),
        ({"real": lambda n, rng: torch.tensor(1.0)}, ValueError, r"real draws shape \(\), must"),
        (
            {"real": lambda n, rng: ring().sample(n, rng).double()},
            TypeError,
            "real draws torch.float64, must be torch.float32",
        ),
        (
            {"real": lambda n, rng: ring().sample(n, rng).numpy()},
            TypeError,
            "real draws ndarray, must be a tensor",
        ),
        (
            {"nets": (len, players()[1])},
            TypeError,
            "generator is builtin_function_or_method, must be a torch.nn.Module",
        ),
        ({"nets": (players()[0], None)}, TypeError, "critic is NoneType, must be a torch.nn.Module"),
        ({"nets": (nn.Flatten(), players()[1])}, ValueError, "generator has no trainable parameter, must have one"),
        ({"nets": (mlp([3, 5]), players()[1])}, ValueError, r"generator makes shape \(16, 5\), must be \(16, 2\)"),
        ({"nets": (Paired(), players()[1])}, ValueError, r"generator makes a tuple, must be \(16, 2\)"),
        ({"latent": lambda n, rng: np.zeros((n, 3))}, TypeError, "latent draws ndarray, must be a tensor"),
        ({"latent": lambda n, rng: torch.zeros(3)}, ValueError, r"latent draws shape \(3,\), must be \(16, ...\)"),
        ({"nets": (inferred(), players()[1])}, ValueError, "generator has weights made in inference mode, must not"),
        ({"game": losing(lambda c, b: c(b.real))}, ValueError, r"game has a critic's loss of shape \(16, 1\), must be"),
        ({"game": losing(lambda c, b: 1.0)}, ValueError, "game has a critic's loss 1.0, must be a scalar tensor"),
        ({"game": losing(lambda c, b: c(b.real).detach().sum())}, ValueError, "game has a critic's loss tensor.*graph"),
    ],
)
def test_fit_refuses(options: dict[str, Any], error: type[Exception], message: str) -> None:
    nets = options.get("nets", players())
    modules = [net for net in nets if isinstance(net, nn.Module)]
    before = [weights_of(net) for net in modules]
    with pytest.raises(error, match=f"^fit: {message}"):
        train(**{"nets": nets} | options)
    assert all(same(b, weights_of(net)) for b, net in zip(before, modules, strict=True))
    assert all(p.requires_grad for net in modules for p in net.parameters())


def test_lazy_layers_are_to_be_called_first() -> None:
    lazy = nn.LazyLinear(2)
    with pytest.raises(ValueError, match=r"^fit: generator has lazy layers, must have weights. Call it once before"):
        train(nets=(lazy, players()[1]))
    lazy(torch.zeros(1, 3))
    assert train(nets=(lazy, players()[1])).step == 6


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"steps": 0}, ValueError, "steps is 0, must"),
        ({"batch_size": 1.5}, TypeError, "batch_size is 1.5"),
        ({"seed": -1}, ValueError, "seed is -1, must"),
        ({"learning_rate": 0.0}, ValueError, "learning_rate is 0.0, must"),
        ({"game": wgan_gp}, TypeError, "game is <function wgan_gp"),
        ({"fake": None}, TypeError, "fake is a NoneType, must be callable"),
        ({"fake": doubled}, ValueError, "fake draws shape"),
        ({"real": lambda n, rng: torch.zeros(n, 2).double()}, TypeError, "real draws torch.float64"),
        (
            {"game": losing(lambda c, b: c(b.real))},
            ValueError,
            r"game has a critic's loss of shape \(256, 1\), must be",
        ),
        ({"critic": torch.sum}, TypeError, "critic is builtin_function_or_method, must"),
        ({"critic": nn.Flatten(0)}, ValueError, "critic has no trainable parameter"),
    ],
)
def test_fit_critic_refuses(options: dict[str, Any], error: type[Exception], message: str) -> None:
    law = ring().sample
    with pytest.raises(error, match=f"^fit_critic: {message}"):
        fit_critic(**{"critic": players()[1], "real": law, "fake": law, "game": wgan_div(), "steps": 2} | options)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: game(cast(Any, "hinge")), TypeError, "game: objective is 'hinge', must be"),
        (lambda: game(HINGE, penalty=-1), ValueError, "game: penalty is -1, must be a finite number >= 0"),
        (lambda: game(HINGE, penalty=math.inf), ValueError, "game: penalty is inf"),
        (lambda: game(HINGE, penalty=1, centre=-1), ValueError, "game: centre is -1"),
        (lambda: wgan_gp(-1), ValueError, "wgan_gp: weight is -1, must be a finite number >= 0"),
        (lambda: wgan_gp(cast(Any, "10")), TypeError, "wgan_gp: weight is '10'"),
        (lambda: wgan_div(k=-1), ValueError, "wgan_div: k is -1, must be a finite number >= 0"),
        (lambda: wgan_div(power=0), ValueError, "game: power is 0, must be a finite number > 0"),
        (lambda: wgan_div(at="between"), ValueError, "game: at is 'between', must be 'interpolates' or 'samples'"),
        (lambda: game(WASSERSTEIN, clip=0), ValueError, "game: clip is 0, must"),
        (lambda: qp(0), ValueError, "qp: lambda_ is 0, must"),
        (lambda: qp(norm="l1"), ValueError, "qp: norm is 'l1', must be one of"),
    ],
)
def test_games_refuse(make: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{message}"):
        make()
