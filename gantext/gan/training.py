"""One training loop for every GAN of the book.

`fit` alternates the two losses of a `gantext.gan.methods.Game`; `fit_critic` trains a critic alone against two fixed
laws, to hold it against exact values. A sampler is any function `(n, rng) -> (n, ...)` that draws from the
`torch.Generator` it is given, such as `gantext.gan.laws.ring().sample`. The loop runs through Hugging Face Accelerate::

    python train.py                                   # on a GPU, if there is one
    accelerate launch --mixed_precision bf16 train.py
    accelerate launch --num_processes 2 train.py      # on two GPUs, twice the batch; with --cpu, two processes

Each process runs the whole script and ends with the same weights: write samples from one of them
(`accelerate.PartialState().is_main_process`). With `Accelerator(gradient_accumulation_steps=k)` each step of a player
takes k batches, in the memory of one, and averages their gradients. P processes with k batches of n samples are then as
one process with one batch of P k n, penalties included, but for rounding and what is no mean over samples: batch norm
normalises each batch by itself (its running statistics take every batch, and are averaged over processes); spectral
norm takes a step of its power iteration for each of the k; a game of your own may have losses that are no means, as a
relativistic one has, where all of this package are. An argument of the wrong kind raises TypeError, one outside its
range ValueError, before any step.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.optim.swa_utils import AveragedModel

from gantext._checks import check_count, check_number
from gantext._training import (
    RUNNING,
    Checkpoint,
    affordable,
    agree,
    average_gradients,
    average_statistics,
    known,
    layout,
    resolve,
)  # fmt: skip
from gantext.gan.methods import Batch, Critic, Game

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["Fit", "Recipe", "fit", "fit_critic"]

Sampler = Callable[[int, torch.Generator], Tensor]
_OTHERS = ("callbacks", "checkpoint", "save_every", "progress", "accelerator")  # of fit itself, for who mistypes one


@dataclass
class Fit:
    """The state of a training run: networks, the generator's running average `ema`, and the number of steps done.

    `history` has one loss of each player for every step, the mean over its batches and processes, the critic's from the
    last of its `n_critic`.
    """

    generator: nn.Module
    critic: nn.Module
    ema: nn.Module
    step: int = 0
    history: dict[str, list[float]] = field(default_factory=lambda: {"critic": [], "generator": []})


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What `fit` does, beside the networks, the data and the game.

    Args:
        steps: generator steps in all, those of a resumed run included.
        latent: width of a standard normal code, or a sampler of codes, whose `rng` lies on the device.
        batch_size: samples of each law in a batch; each process takes one a turn, or as many as it accumulates.
        generator_batch: the same in the generator's turn; None takes batch_size.
        n_critic: critic steps to one generator step, each on a fresh batch.
        learning_rate, betas: of Adam, for both players. `optimizer(parameters)` replaces it.
        decay: let the rates fall evenly, from those of the optimizers in step 1 towards 0 after the last.
        ema: decay of the running average of the generator, in [0, 1), after a warm-up: step 1 is copied, and in step n
            the decay is min(ema, n / (9 + n)), so that a short run does not average its beginning.
        seed: of data, codes and penalties. The initial weights are the caller's: seed before the networks are built.

    >>> Recipe(steps=np.int64(9)).steps
    9
    """

    steps: int
    latent: int | Sampler = 16
    batch_size: int = 128
    generator_batch: int | None = None
    n_critic: int = 1
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.5, 0.9)
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] | None = None
    decay: bool = False
    ema: float = 0.999
    seed: int = 0

    def __new__(cls, **settings: object) -> Recipe:
        # The dataclass's own error names no neighbour.
        known(settings, [each.name for each in fields(cls)], _OTHERS, "Recipe")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        counts = ["steps", "batch_size", "n_critic", *([] if callable(self.latent) else ["latent"])]
        counts += [] if self.generator_batch is None else ["generator_batch"]
        checked: dict[str, Any] = {name: check_count("fit", name, getattr(self, name)) for name in counts}
        checked["seed"] = check_count("fit", "seed", self.seed, 0)
        checked["learning_rate"] = check_number("fit", "learning_rate", self.learning_rate, 0)
        checked["ema"] = _below_one("ema", self.ema)
        checked["betas"] = tuple(_below_one("betas", beta) for beta in np.atleast_1d(self.betas).tolist())
        if len(checked["betas"]) != 2:
            raise ValueError(f"fit: betas is {self.betas}, must be two numbers in [0, 1). Try (0.5, 0.9).")
        if not isinstance(self.decay, bool):
            raise TypeError(f"fit: decay is {self.decay!r}, must be True or False. True lets the rates fall to 0.")
        if self.optimizer is not None and not callable(self.optimizer):
            raise TypeError(
                f"fit: optimizer is a {type(self.optimizer).__name__}, must be a function of the parameters. Write "
                "lambda p: torch.optim.SGD(p, lr=0.1)."
            )
        for name, value in checked.items():
            object.__setattr__(self, name, value)


def _below_one(argument: str, value: float) -> float:
    value = check_number("fit", argument, value, 0, included=True)
    if value >= 1:
        raise ValueError(f"fit: {argument} is {value}, must be in [0, 1). See the usual values in its docstring.")
    return value


def fit(
    generator: nn.Module,
    critic: nn.Module,
    real: Sampler,
    game: Game,
    recipe: Recipe | None = None,
    *,
    callbacks: Sequence[Callable[[Fit], object]] = (),
    checkpoint: str | os.PathLike[str] | None = None,
    save_every: int = 1000,
    progress: bool = True,
    accelerator: Accelerator | None = None,
    **settings: Any,
) -> Fit:
    """Train a generator against a critic: in each step `n_critic` steps of the critic, then one of the generator.

    Args:
        generator: maps latent codes (n, latent) to samples; critic: samples to scores. Both are trained in place, on
            the accelerator's device; what does not require gradients stays as it is, and so do their modes.
        real: sampler of the data, in the shape of the generator's samples and of no wider dtype than the networks.
        game: what they minimise.
        recipe, settings: a `Recipe`, or its fields by name, `fit(..., steps=1000)`, or both: names replace fields.
        callbacks: each is called with the `Fit` after every step. Losses reach its `history` every 100 steps: reading
            one from a GPU waits for it.
        checkpoint: file to resume from if it exists, written whole every `save_every` steps and at the end. One of
            other networks, optimizers, settings or another game is refused; that `real`, and a sampler of codes, are
            the same is the caller's to see to.
        progress: show a bar, on the main process.
        accelerator: an `accelerate.Accelerator`, whose `gradient_accumulation_steps` is the number of batches of a
            player's step; None makes one, which obeys `accelerate launch`, accumulates nothing, and has the mixed
            precision of one made earlier in the program.
    Returns:
        `Fit`. Sample from `ema`, after `ema.eval()` if it has batch norms, whose statistics are averaged too.
    Raises:
        FloatingPointError: a loss is not finite (looked at every 100 steps): the run has diverged.
        torch.OutOfMemoryError: a batch does not fit; says which does.
        ValueError: the checkpoint is of another recipe, damaged, or of a run that goes on in another process.
        OSError: it could not be written, as on a full disk; the last one is kept.

    Every step draws from generators seeded with (seed, process, step), so a resumed run repeats an unbroken one exactly
    (on one device; dropout, which draws from PyTorch's own generator, excepted).

    >>> from gantext.gan.methods import wgan_div
    >>> from gantext.gan.networks import mlp
    >>> _ = torch.manual_seed(0)
    >>> real = lambda n, rng: 3 + torch.randn(n, 1, generator=rng)
    >>> run = fit(mlp([4, 8, 1]), mlp([1, 8, 1]), real, wgan_div(), steps=5, latent=4, progress=False)
    >>> run.step, len(run.history["critic"])
    (5, 5)
    """
    if not isinstance(callbacks, Sequence):
        raise TypeError(f"fit: callbacks is {callbacks!r}, must be a sequence of functions. Put one in a list.")
    functions = {"real": real} | {f"callbacks[{i}]": callback for i, callback in enumerate(callbacks)}
    _check("fit", game, {"generator": generator, "critic": critic}, functions)
    save_every = check_count("fit", "save_every", save_every)
    if not isinstance(recipe, Recipe | None):
        raise TypeError(f"fit: recipe is {recipe!r}, must be a Recipe. Or name its fields: fit(..., steps=1000).")
    recipe = Recipe(**settings) if recipe is None else replace(recipe, **settings)
    with torch.inference_mode(False), torch.enable_grad():  # whatever surrounds the call
        loop = _Loop(generator, critic, real, game, recipe, resolve(accelerator))
        with Checkpoint(checkpoint, loop.parts(), loop.identity(), loop.accelerator) as file:
            loop.run.step, history = file.load(recipe.steps)
            loop.run.history = history or loop.run.history
            try:
                loop.train(file, callbacks, save_every, progress)
            finally:
                loop.freeze(False)
    return loop.run


class _Loop:
    """The players of one run and how they take turns."""

    def __init__(
        self, generator: nn.Module, critic: nn.Module, real: Sampler, game: Game, recipe: Recipe, accelerator: Any
    ) -> None:
        self.real, self.game, self.recipe, self.accelerator = real, game, recipe, accelerator
        self.batches: int = accelerator.gradient_accumulation_steps
        agree(generator.to(accelerator.device), critic.to(accelerator.device))
        networks = {"critic": critic, "generator": generator}
        self.trained = {player: [p for p in net.parameters() if p.requires_grad] for player, net in networks.items()}
        adam = lambda parameters: Adam(parameters, lr=recipe.learning_rate, betas=recipe.betas, fused=True)
        self.optimizers = {player: (recipe.optimizer or adam)(list(each)) for player, each in self.trained.items()}
        for each in self.optimizers.values():
            if not isinstance(each, Optimizer):
                raise TypeError(f"fit: optimizer makes {each!r}, must make a torch.optim.Optimizer. Return one.")
        self.stepping = {player: accelerator.prepare(each) for player, each in self.optimizers.items()}
        # PyTorch's own exponential average has no warm-up, and no place for counts such as batch norm's.
        self.average = AveragedModel(generator, multi_avg_fn=self._follow, use_buffers=True)
        self.run = Fit(generator, critic, self.average.module)
        self.losses: dict[str, list[Tensor]] = {player: [] for player in networks}
        self.rates = {player: [g["lr"] for g in each.param_groups] for player, each in self.optimizers.items()}
        self.host, self.noise = torch.Generator(), torch.Generator(accelerator.device)

    def parts(self) -> list[Any]:
        return [self.run.generator, self.run.critic, self.average, *self.optimizers.values()]

    def identity(self) -> dict[str, Any]:
        """What a checkpoint must agree in."""
        recipe, game = self.recipe, self.game
        return {
            "game": [game.name, game.clip, game.settings],
            "generator": layout(self.run.generator),
            "critic": layout(self.run.critic),
            "latent": "a sampler" if callable(recipe.latent) else recipe.latent,
            "decay": recipe.steps if recipe.decay else None,  # None is also what a file without it has
            **{name: getattr(recipe, name) for name in ("batch_size", "generator_batch", "n_critic", "ema", "seed")},
        }

    def freeze(self, critic: bool) -> None:
        """In the generator's turn the critic gets no gradients."""
        for p in self.trained["critic"]:
            p.requires_grad_(not critic)

    def train(
        self, file: Checkpoint, callbacks: Sequence[Callable[[Fit], object]], save_every: int, progress: bool
    ) -> None:
        from tqdm import tqdm

        run, steps = self.run, self.recipe.steps
        quiet = not (progress and self.accelerator.is_main_process)
        with tqdm(total=steps, initial=run.step, desc=self.game.name, disable=quiet) as bar:
            while run.step < steps:
                with affordable(self.attempt, self.recipe.batch_size, self.accelerator):
                    self.step()
                saving = run.step % save_every == 0 or run.step == steps
                if saving or run.step % 100 == 0:
                    self.record()
                for callback in callbacks:
                    callback(run)
                if saving:
                    file.save(run.step, run.history)
                bar.update()

    def step(self) -> None:
        """`n_critic` turns of the critic, one of the generator."""
        for rng in (self.host, self.noise):
            _reseed(rng, self.recipe.seed, self.accelerator.process_index, self.run.step, rng is self.noise)
        if self.recipe.decay:
            for player, optimizer in self.optimizers.items():
                for group, rate in zip(optimizer.param_groups, self.rates[player], strict=True):
                    group["lr"] = rate * (1 - self.run.step / self.recipe.steps)
        # All accelerators share it: a callback may have made another one.
        self.accelerator.gradient_accumulation_steps = self.batches
        values = [self._turn("critic", self.game.critic_loss) for _ in range(self.recipe.n_critic)]
        self.losses["critic"] += values[-1]
        self.losses["generator"] += self._turn("generator", self.game.generator_loss)
        self.run.step += 1
        average_statistics(self.accelerator, self.run.generator, self.run.critic)
        self._average()

    def _turn(self, player: str, loss: Callable[[Critic, Batch], Tensor]) -> list[Tensor]:
        """A step of one player: the losses of its batches."""
        self.freeze(player == "generator")
        values = self._losses(player, loss)
        average_gradients(self.accelerator, self.optimizers[player])
        self.stepping[player].step()
        if player == "critic":
            _clip(self.trained["critic"], self.game.clip)
        return values

    def _losses(self, player: str, loss: Callable[[Critic, Batch], Tensor]) -> list[Tensor]:
        """And their mean gradient: Accelerate divides each loss by their number."""
        graph, values = player == "generator", []
        self.stepping[player].zero_grad()
        with self.accelerator.autocast():
            samples = self._samples(graph)
        for z, x in samples:
            with self.accelerator.autocast():
                value = _scalar("fit", player, loss(self.run.critic, self._batch(z, x, graph)))
            self.accelerator.backward(value)
            values.append(value.detach())
        return values

    def _samples(self, graph: bool) -> list[tuple[Tensor, Tensor]]:
        """Codes and data of a turn, drawn together, so that those of k batches are those of one k times as large."""
        n, latent, like = self.recipe.batch_size, self.recipe.latent, self.trained["generator"][0]
        n = (self.recipe.generator_batch or n) if graph else n
        many = n * self.batches
        if callable(latent):
            z = _drawn("fit", "latent", latent, many, self.noise)
        else:
            z = torch.randn(many, latent, generator=self.noise, device=like.device, dtype=like.dtype)
        x = _draw("fit", "real", self.real, many, self.host, self.trained["critic"][0])
        return [*zip(z.split(n), x.split(n), strict=True)]

    def _batch(self, z: Tensor, x: Tensor, graph: bool) -> Batch:
        with torch.set_grad_enabled(graph):
            fake = self.run.generator(z)
        if not isinstance(fake, Tensor) or fake.shape != x.shape:
            made = f"shape {tuple(fake.shape)}" if isinstance(fake, Tensor) else f"a {type(fake).__name__}"
            rule = f"must be {tuple(x.shape)} as real draws. Change its last layer."
            raise ValueError(f"fit: generator makes {made}, {rule}")
        if torch.promote_types(fake.dtype, x.dtype) != x.dtype:
            rule = f"must be {x.dtype} as the critic. Convert one of them."
            raise TypeError(f"fit: generator makes {fake.dtype}, {rule}")
        if not torch.is_autocast_enabled(x.device.type):  # which converts, layer by layer
            fake = fake.to(x.dtype)
        return Batch(x, fake, z, self.noise)

    @torch.no_grad()
    def _average(self) -> None:
        """Of weights and statistics; spectral norm's unit vectors, whose mean is none, are found anew or copied."""
        self.average.update_parameters(self.run.generator)
        for (name, mean), value in zip(self.run.ema.named_buffers(), self.run.generator.buffers(), strict=True):
            if not name.endswith(RUNNING) and "parametrizations." not in name:
                mean.copy_(value)
        for part in self.run.ema.modules():
            if isinstance(part, ParametrizationList) and next(part.buffers(), None) is not None:
                training = part.training
                part.train()()  # a power iteration on the averaged weight
                part.train(training)

    def _follow(self, means: Any, values: Any, averaged: object) -> None:
        """Step n = 2, 3, ... of the running average; the first is a copy."""
        n = self.run.step  # `averaged`, its predecessor, lies on the device
        for mean, value in zip(means, values, strict=True):
            weight = max(1 - self.recipe.ema, 9 / (9 + n))
            mean.lerp_(value, weight) if mean.is_floating_point() else mean.copy_(value)

    def attempt(self, n: int) -> None:
        """The losses of a smaller batch, without a step."""
        recipe = self.recipe
        other = recipe.generator_batch and max(1, recipe.generator_batch * n // recipe.batch_size)
        self.recipe = replace(recipe, batch_size=n, generator_batch=other)
        try:
            for player, loss in (("critic", self.game.critic_loss), ("generator", self.game.generator_loss)):
                self.freeze(player == "generator")
                self._losses(player, loss)
                self.stepping[player].zero_grad()
        finally:
            self.recipe = recipe

    def record(self) -> None:
        """Bring the losses over from the device, the means over batches and processes, and see that they are finite."""
        each = torch.stack([*map(torch.stack, self.losses.values())]).unflatten(1, (-1, self.batches)).mean(2)
        means: Any = self.accelerator.reduce(each, "mean")
        new = dict(zip(self.losses, means.tolist(), strict=True))
        for player, values in new.items():
            self.run.history[player] += values
            self.losses[player].clear()
        finite = [all(map(math.isfinite, pair)) for pair in zip(*new.values(), strict=True)]
        if not finite[-1]:
            first = finite.index(False)
            raise FloatingPointError(
                f"fit: the losses of step {self.run.step - len(finite) + 1 + first} are {new['critic'][first]} "
                f"(critic) and {new['generator'][first]} (generator), must stay finite: the run has diverged. Lower "
                "learning_rate, or take more critic steps."
            )


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

    For runs of a minute: no accelerator, and no file to resume from, as `fit` has.

    Args:
        critic: trained in place, on its own device.
        real, fake: samplers of the laws.
        game: only its critic loss and its `clip` are used.
        steps, batch_size, learning_rate: of Adam with PyTorch's usual betas.
        seed: of samples and penalties; seed the initial weights before the critic is built.
        progress: show a bar.
    Returns:
        The critic's loss in every step, of one batch each. To compare with an exact value, average a large fresh
        sample.

    >>> from gantext.gan.methods import wgan_div
    >>> from gantext.gan.networks import mlp
    >>> _ = torch.manual_seed(0)
    >>> draw = lambda mean: lambda n, rng: mean + torch.randn(n, 1, generator=rng)
    >>> losses = fit_critic(mlp([1, 16, 1]), draw(0.0), draw(2.0), wgan_div(), steps=200)
    >>> losses[-1] < -0.5 < losses[0]
    True
    """
    from tqdm import trange

    _check("fit_critic", game, {"critic": critic}, {"real": real, "fake": fake})
    steps, batch_size = check_count("fit_critic", "steps", steps), check_count("fit_critic", "batch_size", batch_size)
    seed = check_count("fit_critic", "seed", seed, 0)
    rate = check_number("fit_critic", "learning_rate", learning_rate, 0)
    parameters = [p for p in critic.parameters() if p.requires_grad]
    host, noise = torch.Generator(), torch.Generator(parameters[0].device)
    losses: list[Tensor] = []
    with torch.inference_mode(False), torch.enable_grad():  # whatever surrounds the call
        optimizer = Adam(parameters, lr=rate, fused=True)
        schedule = CosineAnnealingLR(optimizer, steps)
        for rng in (host, noise):
            _reseed(rng, seed, 0, 0, rng is noise)
        for _ in trange(steps, desc=game.name, disable=not progress):
            x = _draw("fit_critic", "real", real, batch_size, host, parameters[0])
            y = _draw("fit_critic", "fake", fake, batch_size, host, parameters[0])
            loss = _scalar("fit_critic", "critic", game.critic_loss(critic, Batch(x, y, None, noise)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            _clip(parameters, game.clip)
            schedule.step()
            losses.append(loss.detach())
    return torch.stack(losses).tolist()


def _scalar(name: str, player: str, loss: Any) -> Tensor:
    if not isinstance(loss, Tensor) or loss.dim() or not loss.requires_grad:
        found = f"of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) and loss.dim() else repr(loss)
        rule = "must be a scalar tensor with a graph. Take the mean over the batch, detach nothing of it."
        raise ValueError(f"{name}: game has a {player}'s loss {found}, {rule}")
    return loss


@torch.no_grad()
def _clip(parameters: Iterable[nn.Parameter], bound: float | None) -> None:
    if bound is not None:
        for p in parameters:
            p.clamp_(-bound, bound)


def _draw(name: str, argument: str, sampler: Sampler, n: int, rng: torch.Generator, like: Tensor) -> Tensor:
    """n samples, without a graph, as the critic's weights `like`, whose dtype must hold them without loss."""
    x = _drawn(name, argument, sampler, n, rng)
    if torch.promote_types(x.dtype, like.dtype) != like.dtype:
        raise TypeError(f"{name}: {argument} draws {x.dtype}, must be {like.dtype} as the critic. Convert one of them.")
    return x.detach().to(like)


def _drawn(name: str, argument: str, sampler: Sampler, n: int, rng: torch.Generator) -> Tensor:
    x = sampler(n, rng)
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: {argument} draws {type(x).__name__}, must be a tensor. Use torch.from_numpy.")
    if x.shape[:1] != (n,):
        raise ValueError(f"{name}: {argument} draws shape {tuple(x.shape)}, must be ({n}, ...). Draw as many as asked.")
    return x.clone() if x.is_inference() else x


def _reseed(rng: torch.Generator, *key: int) -> None:
    rng.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))


def _check(name: str, game: Game, networks: dict[str, Any], functions: dict[str, Any]) -> None:
    if not isinstance(game, Game):
        raise TypeError(f"{name}: game is {game!r}, must be a Game. Call wgan_div(), or game() with an objective.")
    for argument, network in networks.items():
        if not isinstance(network, nn.Module):
            raise TypeError(f"{name}: {argument} is {type(network).__name__}, must be a torch.nn.Module. Wrap it.")
        if not any(p.requires_grad for p in network.parameters()):
            raise ValueError(f"{name}: {argument} has no trainable parameter, must have one. Unfreeze it.")
        if any(isinstance(p, nn.UninitializedParameter) for p in network.parameters()):
            raise ValueError(f"{name}: {argument} has lazy layers, must have weights. Call it once before.")
        if any(p.is_inference() for p in network.parameters()):
            raise ValueError(f"{name}: {argument} has weights made in inference mode, must not. Build it outside.")
    for argument, function in functions.items():
        if not callable(function):
            kind = type(function).__name__
            raise TypeError(f"{name}: {argument} is a {kind}, must be callable. Of a law, pass its `sample`.")
