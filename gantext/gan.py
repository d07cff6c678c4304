"""One training loop for every GAN of the book, and the games it plays.

A `Game` is two losses, both minimised; `fit` alternates them. `fit_critic` trains the critic alone, against two fixed
laws, which is how the chapters hold trained critics against exact values. A sampler is any function
`(n, rng) -> (n, ...)`, such as `gantext.data.ring().sample`, that draws from the `torch.Generator` it is given.

The loop runs through Hugging Face Accelerate: the same call uses a GPU, mixed precision or several processes under
`accelerate launch`. An argument of the wrong kind raises TypeError, one outside its range ValueError, before any step.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.optim.swa_utils import AveragedModel

from gantext.divergences import WASSERSTEIN, Objective, gan_qp, gradient_penalty, interpolate

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["Batch", "Fit", "Game", "fit", "fit_critic", "game", "qp", "wgan_div", "wgan_gp"]

Sampler = Callable[[int, torch.Generator], Tensor]
Critic = Callable[[Tensor], Tensor]


class Batch(NamedTuple):
    """What a loss may use: samples (n, ...) of both laws, the fakes' latent codes, and a source of random numbers."""

    real: Tensor
    fake: Tensor
    latent: Tensor | None
    rng: torch.Generator


@dataclass(frozen=True)
class Game:
    """What the two players minimise: `critic_loss(critic, batch)` and `generator_loss(critic, batch)`, scalars.

    In the critic's turn the fakes carry no graph; in the generator's turn they do, and the critic is frozen. `clip`, if
    given, is the bound on the critic's weights after each of its steps (WGAN). Build one with `game`, or write one.
    """

    name: str
    critic_loss: Callable[[Critic, Batch], Tensor]
    generator_loss: Callable[[Critic, Batch], Tensor]
    clip: float | None = None


def game(
    objective: Objective,
    *,
    penalty: float = 0.0,
    centre: float = 0.0,
    power: float = 2.0,
    at: str = "interpolates",
    clip: float | None = None,
    name: str | None = None,
) -> Game:
    """The game of an objective, with `penalty * gradient_penalty(centre, power)` added to the critic's loss.

    Args:
        objective: one of `gantext.divergences`: `SATURATING`, `NON_SATURATING`, `HINGE`, `WASSERSTEIN`.
        penalty: >= 0, the factor (lambda of WGAN-GP, k of WGAN-div).
        centre, power: as in `gantext.divergences.gradient_penalty`.
        at: where gradients are taken, "interpolates" or "samples" (the real and the fake batch, so r = (p + q) / 2).
        clip: > 0, bound on the critic's weights, or None.
        name: for reports; None: the objective's.

    The commonest surprise: the penalty is never part of the generator's loss. Mixed precision does not reach it either:
    it is computed in float32.

    >>> game(WASSERSTEIN, clip=0.01).generator_loss(lambda x: x.sum(1), Batch(None, torch.ones(2, 3), None, None))
    tensor(-3.)
    """
    if not isinstance(objective, Objective):
        raise TypeError(f"game: objective is {objective!r}, must be a gantext.divergences.Objective. Try WASSERSTEIN.")
    if not penalty >= 0:
        raise ValueError(f"game: penalty is {penalty}, must be >= 0: it is added to a loss that is minimised.")
    if at not in ("interpolates", "samples"):
        raise ValueError(f"game: at is {at!r}, must be 'interpolates' or 'samples'. See the docstring.")
    if clip is not None and not clip > 0:
        raise ValueError(f"game: clip is {clip}, must be > 0, or None for none. The WGAN paper takes 0.01.")

    def critic_loss(critic: Critic, batch: Batch) -> Tensor:
        loss = objective.critic_loss(critic(batch.real), critic(batch.fake))
        if penalty:
            with torch.autocast(batch.real.device.type, enabled=False):
                between = at == "interpolates"
                x = interpolate(batch.real, batch.fake, batch.rng) if between else torch.cat([batch.real, batch.fake])
                loss = loss + penalty * gradient_penalty(critic, x, centre=centre, power=power)
        return loss

    def generator_loss(critic: Critic, batch: Batch) -> Tensor:
        return objective.generator_loss(critic(batch.fake))

    return Game(name or objective.name, critic_loss, generator_loss, clip)


def wgan_gp(weight: float = 10.0) -> Game:
    """WGAN with a one-centred penalty on interpolates (`wasserstein:gradient-penalty`; Gulrajani et al. 2017)."""
    return game(WASSERSTEIN, penalty=weight, centre=1.0, name="WGAN-GP")


def wgan_div(k: float = 2.0, power: float = 6.0, at: str = "interpolates") -> Game:
    """WGAN-div (`w-divergence:definition`; Wu et al. 2018; `at="samples"` is the choice of most public code)."""
    return game(WASSERSTEIN, penalty=k, power=power, at=at, name="WGAN-div")


def qp(lambda_: float = 1.0, norm: str = "L2") -> Game:
    """GAN-QP with the one-argument critic that is trained in practice (`gan-qp:objective`).

    Args:
        lambda_: > 0, score per distance.
        norm: d(x, y) of each pair of samples, over all of their numbers: "L1", "L2" or "squared" (the square of L2).

    The commonest surprise: norms here are sums. Su's code takes means over the D numbers of an image with factor 10:
    lambda_ = 10 / D for L1 and 10 / D^(1/2) for L2. Source: Su, arXiv 1811.07296.

    >>> batch = Batch(torch.full((1, 2), 3.0), torch.zeros(1, 2), None, torch.Generator())
    >>> qp(norm="L1").critic_loss(lambda x: x.sum(1), batch)  # D = 6, d = 6
    tensor(-3.)
    """
    norms = {"L1": lambda x: x.abs().sum(1), "L2": lambda x: x.norm(dim=1), "squared": lambda x: x.square().sum(1)}
    if norm not in norms:
        raise ValueError(f"qp: norm is {norm!r}, must be one of {sorted(norms)}. The paper uses L1 and L2.")
    if not lambda_ > 0:
        raise ValueError(f"qp: lambda_ is {lambda_}, must be > 0: it is the unit of the scores.")

    def critic_loss(critic: Critic, batch: Batch) -> Tensor:
        distance = norms[norm]((batch.real - batch.fake).detach().float().flatten(1))  # (n,)
        scores = critic(batch.real), critic(batch.fake)
        return gan_qp(scores[0].flatten(), scores[1].flatten(), distance, lambda_)

    def generator_loss(critic: Critic, batch: Batch) -> Tensor:
        return WASSERSTEIN.generator_loss(critic(batch.fake))

    return Game(f"GAN-QP-{norm}", critic_loss, generator_loss)


@dataclass
class Fit:
    """The state of a training run: networks, the generator's running average, steps done, losses of every step."""

    generator: nn.Module
    critic: nn.Module
    ema: nn.Module
    step: int = 0
    history: dict[str, list[float]] = field(default_factory=lambda: {"critic": [], "generator": []})


def fit(
    generator: nn.Module,
    critic: nn.Module,
    real: Sampler,
    game: Game,
    *,
    steps: int,
    latent: int | Sampler = 16,
    batch_size: int = 128,
    n_critic: int = 1,
    learning_rate: float = 1e-3,
    betas: tuple[float, float] = (0.5, 0.9),
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] | None = None,
    ema: float = 0.999,
    seed: int = 0,
    callbacks: Sequence[Callable[[Fit], object]] = (),
    checkpoint: str | os.PathLike[str] | None = None,
    save_every: int = 1000,
    progress: bool = True,
    accelerator: Accelerator | None = None,
) -> Fit:
    """Train a generator against a critic: in each step `n_critic` steps of the critic, then one of the generator.

    Args:
        generator: maps latent codes (n, latent) to samples; critic: samples to scores. Both are trained in place.
        real: sampler of the data.
        game: what they minimise.
        steps: generator steps in all, those of a resumed run included.
        latent: width of a standard normal code, or a sampler of codes.
        batch_size: samples of each law in a step and process; under several processes gradients are averaged.
        n_critic: critic steps to one generator step, each on a fresh batch.
        learning_rate, betas: of Adam, for both players. `optimizer(parameters)` replaces it.
        ema: decay of the running average of the generator, in [0, 1), after a warm-up: after n steps it is
            min(ema, (1 + n) / (10 + n)), so that a short run does not average its beginning.
        seed: of data, codes and penalties. The initial weights are the caller's: seed before the networks are built.
        callbacks: each is called with the `Fit` after every generator step.
        checkpoint: file to resume from if it exists, written whole every `save_every` steps and at the end, so that an
            interrupt loses no more than that.
        progress: show a bar, on the main process.
        accelerator: an `accelerate.Accelerator`; None makes one, which obeys `accelerate launch`.
    Returns:
        `Fit`. Sample from `ema`, which keeps its batch norms' statistics averaged too.
    Raises:
        FloatingPointError: a loss is not finite (looked at every 100 steps): the run has diverged.

    Every step draws from generators seeded with (seed, process, step), so a resumed run repeats an unbroken one exactly
    (on one device; dropout, which draws from PyTorch's own generator, excepted).

    >>> from gantext.nets import mlp
    >>> _ = torch.manual_seed(0)
    >>> real = lambda n, rng: 3 + torch.randn(n, 1, generator=rng)
    >>> run = fit(mlp([4, 8, 1]), mlp([1, 8, 1]), real, wgan_div(), steps=5, latent=4, progress=False)
    >>> run.step, len(run.history["critic"])
    (5, 5)
    """
    from accelerate import Accelerator
    from tqdm import tqdm

    _check_counts("fit", steps=steps, batch_size=batch_size, n_critic=n_critic, save_every=save_every)
    if not 0 <= ema < 1:
        raise ValueError(f"fit: ema is {ema}, must be in [0, 1). 0 keeps no average.")
    accelerator = accelerator or Accelerator()
    device, trainable = accelerator.device, [p for p in critic.parameters() if p.requires_grad]
    host, noise = torch.Generator(), torch.Generator(device)
    codes: Sampler = latent if callable(latent) else lambda n, rng: torch.randn(n, latent, generator=rng, device=device)
    make = optimizer or (lambda parameters: Adam(parameters, lr=learning_rate, betas=betas, fused=True))
    _agree(accelerator, generator.to(device), critic.to(device))
    average = AveragedModel(generator, multi_avg_fn=_running_average(ema), use_buffers=True)
    optimizers = {"critic": make(trainable), "generator": make([p for p in generator.parameters() if p.requires_grad])}
    stepping: dict[str, Any] = {player: accelerator.prepare(each) for player, each in optimizers.items()}
    run, losses = Fit(generator, critic, average.module), {player: [] for player in optimizers}
    file = _Checkpoint(checkpoint, run, [generator, critic, average, *optimizers.values()], {
        "game": game.name, "batch_size": batch_size, "n_critic": n_critic, "ema": ema, "seed": seed,
        "processes": accelerator.num_processes, "optimizer": repr(optimizers["critic"]),
    })  # fmt: skip
    file.load(device)

    def turn(player: str, loss: Callable[[Critic, Batch], Tensor]) -> Tensor:
        for p in trainable:
            p.requires_grad_(player == "critic")
        with accelerator.autocast():
            z = codes(batch_size, noise)
            with torch.set_grad_enabled(player == "generator"):
                fake = generator(z)
            value = loss(critic, Batch(real(batch_size, host).to(device), fake, z, noise))
        stepping[player].zero_grad()
        accelerator.backward(value)
        _average_gradients(accelerator, optimizers[player])
        stepping[player].step()
        if player == "critic" and game.clip is not None:
            with torch.no_grad():
                for p in trainable:
                    p.clamp_(-game.clip, game.clip)
        return value.detach()

    def record() -> None:
        """Bring the losses over from the device, and see that they are finite."""
        for player, values in losses.items():
            run.history[player] += torch.stack(values).tolist() if values else []
            values.clear()
            if not np.isfinite(run.history[player][-1:]).all():
                raise FloatingPointError(
                    f"fit: the {player}'s loss is {run.history[player][-1]} at step {run.step}, must stay finite: "
                    "the run has diverged. Lower learning_rate, or take more critic steps."
                )

    bar = tqdm(total=steps, initial=run.step, desc=game.name, disable=not (progress and accelerator.is_main_process))
    try:
        while run.step < steps:
            for rng in (host, noise):
                _reseed(rng, seed, accelerator.process_index, run.step, rng is noise)
            values = [turn("critic", game.critic_loss) for _ in range(n_critic)]
            losses["critic"].append(values[-1])
            losses["generator"].append(turn("generator", game.generator_loss))
            average.update_parameters(generator)
            run.step += 1
            for callback in callbacks:
                callback(run)
            if run.step % 100 == 0 or run.step == steps:
                record()
                bar.update(run.step - bar.n)
            if run.step % save_every == 0 or run.step == steps:
                record()
                if accelerator.is_main_process:
                    file.save()
    finally:
        bar.close()
        for p in trainable:
            p.requires_grad_(True)
    return run


def fit_critic(
    critic: nn.Module,
    real: Sampler,
    fake: Sampler,
    game: Game,
    *,
    steps: int = 1500,
    batch_size: int = 256,
    learning_rate: float = 2e-3,
    seed: int = 0,
    progress: bool = False,
) -> list[float]:
    """Train the critic alone against two fixed laws, with Adam and a cosine decay to 0: what is the best critic worth?

    Args:
        critic: trained in place, on its own device.
        real, fake: samplers of the laws.
        game: only its critic loss is used.
        steps, batch_size, learning_rate: of Adam with PyTorch's usual betas.
        seed: of samples and penalties; seed the initial weights before the critic is built.
        progress: show a bar.
    Returns:
        The critic's loss in every step: its mean over the last ones estimates minus the divergence.

    The commonest surprise: the last loss is one batch's. To compare with an exact value, average a large fresh sample.

    >>> from gantext.nets import mlp
    >>> _ = torch.manual_seed(0)
    >>> draw = lambda mean: lambda n, rng: mean + torch.randn(n, 1, generator=rng)
    >>> losses = fit_critic(mlp([1, 16, 1]), draw(0.0), draw(2.0), wgan_div(), steps=200)
    >>> losses[-1] < -0.5 < losses[0]
    True
    """
    from tqdm import trange

    _check_counts("fit_critic", steps=steps, batch_size=batch_size)
    parameters = list(critic.parameters())
    device = parameters[0].device
    host, noise = torch.Generator(), torch.Generator(device)
    optimizer = Adam(parameters, lr=learning_rate, fused=True)
    schedule = CosineAnnealingLR(optimizer, steps)
    losses: list[Tensor] = []
    for rng in (host, noise):
        _reseed(rng, seed, 0, 0, rng is noise)
    for _ in trange(steps, desc=game.name, disable=not progress):
        x, y = real(batch_size, host).to(device), fake(batch_size, host).to(device)
        loss = game.critic_loss(critic, Batch(x, y, None, noise))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.detach())
    return torch.stack(losses).tolist()


def _running_average(decay: float) -> Callable[[Any, Any, Any], None]:
    @torch.no_grad()
    def update(averages: Sequence[Tensor], values: Sequence[Tensor], n: Tensor) -> None:
        weight = max(1 - decay, 9 / (10 + int(n)))
        for average, value in zip(averages, values, strict=True):
            average.lerp_(value, weight) if average.is_floating_point() else average.copy_(value)

    return update


def _reseed(rng: torch.Generator, *key: int) -> None:
    rng.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))


def _agree(accelerator: Accelerator, *networks: nn.Module) -> None:
    """All processes start from the main process's weights."""
    from accelerate.utils import broadcast

    for t in [t for network in networks for t in network.state_dict().values()]:
        t.copy_(broadcast(t))


def _average_gradients(accelerator: Accelerator, optimizer: Optimizer) -> None:
    """Over the processes, in one message. DistributedDataParallel does not support the penalty's `autograd.grad`."""
    if accelerator.num_processes > 1:
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        mean: Any = accelerator.reduce(torch.cat([g.flatten() for g in gradients]), "mean")
        for g, part in zip(gradients, mean.split([g.numel() for g in gradients]), strict=True):
            g.copy_(part.view_as(g))


class _Checkpoint:
    """A run's file: written beside and moved into place, and refused where the recipe is another."""

    def __init__(self, path: str | os.PathLike[str] | None, run: Fit, parts: Sequence[Any], recipe: dict[str, Any]):
        self.path, self.run, self.parts, self.recipe = None if path is None else Path(path), run, parts, recipe
        if self.path is not None and not self.path.absolute().parent.is_dir():
            raise ValueError(f"fit: checkpoint is {path}, its folder must exist. Make it.")

    def load(self, device: torch.device) -> None:
        if self.path is None or not self.path.exists():
            return
        state = torch.load(self.path, map_location=device, weights_only=True)
        different = [name for name, value in self.recipe.items() if state["recipe"].get(name) != value]
        if different:
            raise ValueError(
                f"fit: checkpoint {self.path} has another {', '.join(different)}, must be of the same recipe. "
                "Name another file, or delete it."
            )
        for part, saved in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(saved)
        self.run.step, self.run.history = state["step"], state["history"]

    def save(self) -> None:
        if self.path is not None:
            draft = self.path.with_name(self.path.name + ".tmp")
            parts = [part.state_dict() for part in self.parts]
            state = {"recipe": self.recipe, "step": self.run.step, "history": self.run.history, "parts": parts}
            torch.save(state, draft)
            draft.replace(self.path)


def _check_counts(name: str, **counts: int) -> None:
    for argument, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name}: {argument} is {value!r}, must be an int. Give a whole number.")
        if value < 1:
            raise ValueError(f"{name}: {argument} is {value}, must be >= 1.")
