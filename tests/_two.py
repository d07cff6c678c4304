"""Trains in two processes, or in one on both batches: python _two.py FOLDER writes the ends of the two.

Convolutional players: data, codes and places of the penalty are drawn before, for both, and process r takes the r-th
half of each draw. A reader: its processes share the records of one draw by themselves.
"""

from __future__ import annotations

import itertools
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import nn

from gantext.gan import convolutional, methods
from gantext.gan.methods import Game, game, wgan_div, wgan_gp
from gantext.gan.objectives import HINGE
from gantext.gan.training import fit

STEPS = 3


class Case(NamedTuple):
    """`frozen`: the generator's batch norms take their running statistics, so that no sample sees its batch.

    `batches`: that two processes accumulate, and one has in one.
    """

    nets: Callable[[], tuple[nn.Module, nn.Module]]
    game: Game
    frozen: bool = True
    options: dict[str, Any] = {}  # noqa: RUF012  of a named tuple, never written
    batches: int = 1


S28, S32 = (1, 28, 28), (1, 32, 32)
CASES = {
    "DCGAN, spectral norm, rates that fall, another batch for the generator": Case(
        lambda: (convolutional.dcgan_generator(S28, 4, 2), convolutional.dcgan_critic(S28, 2, norm="spectral")),
        game(HINGE), options={"decay": True, "generator_batch": 3},
    ),
    "residual, spectral norm, penalty between": Case(
        lambda: (convolutional.resnet_generator(S32, 4, 2), convolutional.resnet_critic(S32, 2)), wgan_gp(),
    ),
    "DCGAN, no norm, penalty at the samples": Case(
        lambda: (convolutional.dcgan_generator(S32, 4, 2), convolutional.dcgan_critic(S32, 2)),
        wgan_div(at="samples"),
    ),
    "DCGAN, no norm, penalty at the samples, accumulated": Case(
        lambda: (convolutional.dcgan_generator(S32, 4, 2), convolutional.dcgan_critic(S32, 2)),
        wgan_div(at="samples"), options={"batch_size": 2, "generator_batch": 1}, batches=2,
    ),
    "DCGAN, layer norm, penalty between, clipped": Case(
        lambda: (convolutional.dcgan_generator(S28, 4, 2), convolutional.dcgan_critic(S28, 2, norm="layer")),
        game(HINGE, penalty=2, power=6, clip=0.1),
    ),
    "batch norm of each process": Case(
        lambda: (convolutional.dcgan_generator(S28, 4, 2), convolutional.resnet_critic(S28, 2)), game(HINGE),
        frozen=False,
    ),
}  # fmt: skip


def train(case: Case, rank: int, size: int, steps: int = STEPS, file: Path | None = None, done: int = 0) -> list[Any]:
    """The states of the players and of the average after so many steps, `done` of them before; and the losses."""
    rng, n = torch.Generator().manual_seed(3), 4
    drawn = [torch.randn(2, n, 4, generator=rng, dtype=torch.float64) for _ in range(3 * STEPS)]
    images = lambda: torch.rand(2, n, *S, generator=rng, dtype=torch.float64) * 2 - 1
    torch.manual_seed(rank)  # the ranks begin apart
    generator, critic = (net.double() for net in case.nets())
    S = generator.eval()(drawn[0][0]).shape[1:]
    generator.train()
    if case.frozen:
        for layer in generator.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.eval()
    data = [images() for _ in range(3 * STEPS)]
    places = [torch.rand(2, n, 1, 1, 1, generator=rng, dtype=torch.float64) for _ in range(2 * STEPS)]
    mine = lambda draws, start: (t[rank] if size == 2 else t for t in itertools.islice(draws, start, None))
    codes, reals, u = mine(drawn, 3 * done), mine(data, 3 * done), mine(places, 2 * done)
    cut = lambda t, n: t[:n] if size == 2 else t[:, : n // 2].flatten(0, 1)
    between = lambda real, fake, _: fake + cut(next(u), len(real)) * (real - fake)
    sgd = lambda parameters: torch.optim.SGD(parameters, lr=1e-3)  # Adam would not tell a sum from a mean
    twice = {"batch_size": n, **case.options}
    many = 2 * case.batches if size == 1 else 1
    options = {key: value * many if "batch" in key else value for key, value in twice.items()}
    with mock.patch.object(methods, "interpolate", between):
        run = fit(
            generator, critic, lambda n, rng: cut(next(reals), n), case.game,
            steps=steps, latent=lambda n, rng: cut(next(codes), n), n_critic=2, optimizer=sgd, checkpoint=file,
            progress=False, accelerator=accelerator(case.batches if size == 2 else 1), **options,
        )  # fmt: skip
    states = [net.state_dict() for net in (run.generator, run.critic, run.ema)]
    losses = {player: torch.tensor(each, dtype=torch.float64) for player, each in run.history.items()}
    return [{k: v.clone() for k, v in state.items()} for state in (*states, losses)]


def read(rank: int, size: int) -> list[Any]:
    """The reader's weights, and its losses: answers of one to three words, so that batches differ in their targets."""
    from gantext.qa import reader
    from gantext.qa.questions import Passage, Record
    from gantext.qa.sources import Words
    from gantext.seq2seq.transformer import Config, Transformer

    rng = random.Random(0)
    texts = [rng.choices([f"w{k}" for k in range(12)], k=6) for _ in range(30)]
    answers = [" ".join(text[: 1 + k % 3]) for k, text in enumerate(texts)]
    records = [
        Record(f"r{k}", text[-1], (Passage(" ".join(text), answer, 0),), (answer,))
        for k, (text, answer) in enumerate(zip(texts, answers, strict=True))
    ]
    torch.manual_seed(rank)  # the ranks begin apart
    known = Words(map(" ".join, texts))
    model = Transformer(Config(len(known), width=8, layers=1, heads=1, positions=32)).double()
    options: dict[str, Any] = {"optimizers": lambda net: [torch.optim.SGD(net.parameters(), 2.0)], "warmup": 1}
    sizes: dict[str, Any] = {"batch_size": 2, "accelerator": accelerator(2)} if size == 2 else {"batch_size": 8}
    losses = reader.fit(model, records, known, steps=10, progress=False, **options, **sizes)
    return [model.state_dict(), {"losses": torch.tensor(losses, dtype=torch.float64)}]


def accelerator(batches: int) -> Any:
    from accelerate import Accelerator

    return Accelerator(cpu=True, gradient_accumulation_steps=batches)


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    rank = accelerator(1).process_index
    for k, case in enumerate(CASES.values()):
        torch.save(train(case, rank, 2), folder / f"{k} {rank}")
    case = [*CASES.values()][-1]
    train(case, rank, 2, 2, folder / "file")
    torch.save(train(case, rank, 2, STEPS, folder / "file", 2), folder / f"resumed {rank}")
    torch.save(read(rank, 2), folder / f"reader {rank}")


if __name__ == "__main__":
    from accelerate import debug_launcher

    debug_launcher(main, (Path(sys.argv[1]),))
