"""Cascaded heads against plain heads on digits: one to four scores, five settings, 8 to 32 seeds, one loop.

The protocol is fixed here, before any result. Networks, optimiser, batch, data, codes and the 2000 generator steps with
one critic step each are those of all arms; only the critic's head and the loss differ. The k-th seed of one arm and of
another share initial weights of generator and body, data and codes, so differences are taken seed by seed.

First question: hinge, the last generator's Fréchet distance, 32 seeds, cascade of 4 minus one head, and minus 4 plain
heads. All other differences are second questions, with 16 seeds (hinge) or 8 (the other settings), and their p-values
are corrected together (Holm). The 8 were 16 in the first draft; they were halved to save time when the hinge runs had
ended, before any score had been looked at.

The seeds of a block are trained side by side, as one network whose weights have one dimension more (`Stacked`): each
sees its own weights, data and codes alone, and Adam works entry by entry, so it is the training of each by itself
(asserted in the chapter), at a fifth of the price. A block is kept in `_build/cascades` the moment it ends;
`benchmarks/results/cascades.json` is written when all are there, in a quarter of an hour of one core.

A question of its own came later, from what these runs showed: of twelve comparisons of conditional samples, which
nobody had asked for in advance, one spoke for the cascade (p = .013): the Fréchet distance within classes, running
average, cascade of 4 minus one head. So it is asked once more, of 16 seeds that no run had used, the same in every arm:
this score, this end, this pair, one paired t-test at 5 %, nothing to correct. Written down before the first of these
runs; `benchmarks/results/cascades-conditional.json`, also alone by `--conditional` (four minutes).
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import _common
import scipy.stats
import torch
from _common import detectable
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from tqdm import tqdm

from gantext._files import whole
from gantext.gan import features, laws, methods, metrics, networks, training
from gantext.gan.cascades import CascadeHead, cascade_directions
from gantext.gan.objectives import HINGE, NON_SATURATING, WASSERSTEIN, Objective, gan_qp
from gantext.statistics import half_width

RUNS = _common.ROOT / "_build" / "cascades"
STEPS, BATCH, RATE, SAMPLES, WIDTH = 2000, 64, 4e-4, 5000, 64
LAMBDA = 10 / 64**0.5  # of GAN-QP with the L2 norm, as its author scales it

HEADS = {  # number of scores, kind
    "one head": (1, "plain"), "plain 2": (2, "plain"), "plain 4": (4, "plain"), "cascade 2": (2, "cascade"),
    "cascade 4": (4, "cascade"), "Gram-Schmidt 4": (4, "orthogonal"),
}  # fmt: skip
THREE = ("one head", "plain 4", "cascade 4")
ARMS = {  # (setting, head): blocks of seeds
    **{("hinge", head): 2 if head in THREE else 1 for head in HEADS},
    **{(s, h): 1 for s in ("non-saturating", "GAN-QP", "conditional hinge", "hinge, frozen body") for h in THREE},
}
SIZE = {setting: 16 if setting == "hinge" else 8 for setting, _ in ARMS}  # seeds in a block
FIRST = [("hinge", "cascade 4", "one head"), ("hinge", "cascade 4", "plain 4")]
SECOND = [
    *[("hinge", f"{kind} 2", "one head") for kind in ("plain", "cascade")], ("hinge", "cascade 2", "plain 2"),
    ("hinge", "plain 4", "one head"), ("hinge", "Gram-Schmidt 4", "one head"), ("hinge", "Gram-Schmidt 4", "cascade 4"),
    *[(setting, *pair) for setting in dict.fromkeys(s for s, _ in ARMS) if setting != "hinge"
      for pair in (("plain 4", "one head"), ("cascade 4", "one head"), ("cascade 4", "plain 4"))],
]  # fmt: skip


class PlainHead(CascadeHead):
    """The rival: as many scores and parameters, from the same start, and no rejection between them."""

    def forward(self, v: Tensor, y: Tensor | None = None) -> Tensor:
        W = self.weight if y is None or self.embedding is None else self.weight + self.embedding[y]  # (n, N, C)
        scores = v @ W.mT if y is None else (W @ v[..., None])[..., 0]
        return scores if self.bias is None else scores + self.bias


class Critic(nn.Module):
    """A body and a head; the last ten numbers of a conditional sample are its label."""

    def __init__(self, head: str, conditional: bool, frozen: bool) -> None:
        super().__init__()
        self.body = networks.critic((64,))[:-2].requires_grad_(not frozen)
        number, kind = HEADS[head]
        self.head = (PlainHead if kind == "plain" else CascadeHead)(
            WIDTH, number, orthogonal=kind == "orthogonal", classes=10 if conditional else None
        )

    def forward(self, x: Tensor) -> Tensor:
        v = self.body(x[..., :64])
        return self.head(v) if x.shape[-1] == 64 else self.head(v, x[..., 64:].argmax(-1))


class Generator(nn.Module):
    """That of the book; a conditional one passes its label through."""

    def __init__(self, conditional: bool) -> None:
        super().__init__()
        self.net = networks.generator((64,), 26 if conditional else 16)

    def forward(self, z: Tensor) -> Tensor:
        return self.net(z) if z.shape[-1] == 16 else torch.cat([self.net(z), z[..., 16:]], -1)


class Stacked(nn.Module):
    """S networks of one shape as one: samples (n, S, ...) to (n, S, ...), each through its own weights."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.one = [copy.deepcopy(networks[0])]  # in a list, so that its own weights are not parameters
        weights, buffers = stack_module_state(list(networks))
        for name, t in weights.items():
            flag = networks[0].get_parameter(name).requires_grad
            self.register_parameter(name.replace(".", "/"), nn.Parameter(t.detach(), requires_grad=flag))
        for name, t in buffers.items():
            self.register_buffer(name.replace(".", "/"), t)

    def forward(self, x: Tensor) -> Tensor:
        one = self.one[0].train(self.training)
        states = [
            {k.replace("/", "."): t for k, t in named} for named in (self.named_parameters(), self.named_buffers())
        ]
        each: Any = vmap(lambda p, b, x: functional_call(one, (p, b), (x,)), (0, 0, 1), 1)
        return each(*states, x)

    @torch.no_grad()
    def single(self, k: int) -> nn.Module:
        """A copy of the k-th network."""
        one = copy.deepcopy(self.one[0]).train(self.training)
        one.load_state_dict({name.replace("/", "."): t[k] for name, t in self.state_dict().items()})
        return one


def networks_of(setting: str, head: str, seed: int) -> tuple[nn.Module, nn.Module]:
    """Generator and critic as they start."""
    conditional, frozen = setting == "conditional hinge", setting == "hinge, frozen body"
    torch.manual_seed(seed)
    return Generator(conditional), Critic(head, conditional, frozen)


def samplers(setting: str, size: int) -> tuple[training.Sampler, training.Sampler]:
    """Real samples (n, S, 64 or 74) and codes (n, S, 16 or 26)."""
    law, eye = laws.digits(), torch.eye(10)

    def real(n: int, rng: torch.Generator) -> Tensor:
        rows = torch.randint(len(law.images), (n, size), generator=rng)
        images = law.images[rows]
        return torch.cat([images, eye[law.labels[rows]]], -1) if setting == "conditional hinge" else images

    def codes(n: int, rng: torch.Generator) -> Tensor:
        z = torch.randn(n, size, 16, generator=rng, device=rng.device)
        if setting != "conditional hinge":
            return z
        labels = torch.randint(10, (n, size), generator=rng, device=rng.device)
        return torch.cat([z, eye.to(rng.device)[labels]], -1)

    return real, codes


def game(setting: str, size: int = 1) -> methods.Game:
    """The mean of the losses of all scores, summed over `size` stacked networks."""
    objective: Objective = {"non-saturating": NON_SATURATING, "GAN-QP": WASSERSTEIN}.get(setting, HINGE)

    def critic_loss(critic: methods.Critic, batch: methods.Batch) -> Tensor:
        real, fake = critic(batch.real), critic(batch.fake)  # (n, S, N)
        if setting != "GAN-QP":
            return size * objective.critic_loss(real, fake)
        distance = (batch.real - batch.fake).norm(dim=-1, keepdim=True).detach().expand_as(real)
        return size * gan_qp(real, fake, distance, LAMBDA)

    def generator_loss(critic: methods.Critic, batch: methods.Batch) -> Tensor:
        return size * objective.generator_loss(critic(batch.fake))

    return methods.Game(setting, critic_loss, generator_loss)


def train(setting: str, head: str, seeds: Sequence[int], steps: int = STEPS) -> training.Fit:
    """One block: a stacked generator and a stacked critic."""
    generators, critics = zip(*[networks_of(setting, head, seed) for seed in seeds], strict=True)
    real, codes = samplers(setting, len(seeds))
    run = training.fit(
        Stacked(generators), Stacked(critics), real, game(setting, len(seeds)), steps=steps, latent=codes,
        batch_size=BATCH, learning_rate=RATE, seed=seeds[0], progress=False,
    )  # fmt: skip
    for network in (run.generator, run.critic, run.ema):
        network.cpu()  # from where Accelerate had them trained to where they are looked at
    return run


def scores(setting: str, x: Tensor, ruler: features.Features) -> dict[str, float]:
    """What is reported of the samples (n, 64 or 74) of one generator."""
    train, images = laws.digits(), x[:, :64]
    real, fake = ruler(train.images), ruler(images)
    near = metrics.precision_recall(real, fake[: len(real)])
    found = {"frechet": metrics.frechet_distance(real, fake), **near._asdict()}
    if setting == "conditional hinge":
        asked = x[:, 64:].argmax(1)
        found["agreement"] = float((ruler.logits(images).argmax(1) == asked).double().mean())
        inside = [metrics.frechet_distance(real[train.labels == c], fake[asked == c]) for c in range(10)]
        found["within classes"] = statistics.fmean(inside)
    return found


def look(setting: str, critic: Critic, fakes: Tensor) -> dict[str, float]:
    """How different the scores of one trained critic are, on its generator's samples."""
    head, v = critic.head, critic.body(fakes).double()  # (n, C)
    W = head.weight.detach().double()
    U = W if isinstance(head, PlainHead) else cascade_directions(W, head.orthogonal)  # the effective directions
    D = v @ U.mT + (0 if head.bias is None else head.bias.double())
    pairs = torch.triu_indices(len(U), len(U), 1).unbind()
    unit, Q = nn.functional.normalize(U, dim=1), torch.linalg.qr(U.mT).Q
    force = (-D).sigmoid() @ U if setting == "non-saturating" else U.sum(0).expand_as(v)  # on each fake's features
    spectrum = torch.linalg.svdvals(nn.functional.normalize(force, dim=1)).square()
    found = {"seen": (v @ Q).square().sum() / v.square().sum(), "one direction": spectrum[0] / spectrum.sum()}
    if len(U) > 1:
        found |= {"cosine": (unit @ unit.mT)[pairs].abs().mean(), "correlation": D.mT.corrcoef()[pairs].mean()}
    return {name: float(value) for name, value in found.items()}


def path(setting: str, head: str, block: int) -> Path:
    name = "".join(c if c.isalnum() else "-" for c in f"{setting}-{head}")
    return RUNS / f"{name}-{block}.json"


def keep(setting: str, head: str, block: int, steps: int = STEPS) -> None:
    """Train a block, score its generators, last and averaged, and keep that."""
    begin, size = time.process_time(), SIZE[setting]
    seeds = [block * size + k for k in range(size)]
    runs: list[dict[str, Any]] = [{"setting": setting, "head": head, "seed": seed} for seed in seeds]
    try:
        run = train(setting, head, seeds, steps)
    except FloatingPointError as error:
        runs = [one | {"diverged": str(error), "last": None, "average": None} for one in runs]
    else:
        ruler, codes = features.Features(), samplers(setting, size)[1]
        z = codes(SAMPLES, torch.Generator().manual_seed(1000 + block))
        with torch.no_grad():
            for name, net in (("last", run.generator), ("average", run.ema)):
                x = net.eval()(z)
                for k, one in enumerate(runs):
                    one[name] = scores(setting, x[:, k], ruler)
                    if name == "last" and setting != "conditional hinge":
                        one["critic"] = look(setting, cast(Any, run.critic).single(k), x[:, k])
    file = path(setting, head, block)
    with whole(file) as draft:
        draft.write_text(json.dumps({"seconds": time.process_time() - begin, "runs": runs}), encoding="utf-8")


def sweep(blocks: Sequence[tuple[str, str, int]]) -> None:
    with _common.alone(RUNS):
        for block in tqdm([block for block in blocks if not path(*block).exists()]):
            keep(*block)


def difference(runs: list[dict[str, Any]], setting: str, a: str, b: str, end: str) -> dict[str, Any]:
    """Fréchet distance of a minus that of b, seed by seed: mean, 95 % interval, p, and what 80 % power would find."""
    of = {
        head: {run["seed"]: run[end]["frechet"] for run in runs if (run["setting"], run["head"]) == (setting, head)}
        for head in (a, b)
    }
    gaps = [of[a][seed] - of[b][seed] for seed in sorted(of[a].keys() & of[b].keys())]
    n, mean, spread = len(gaps), statistics.fmean(gaps), statistics.stdev(gaps)
    return {
        "setting": setting, "a": a, "b": b, "end": end, "n": n, "mean": mean, "spread": spread,
        "half": half_width(gaps),
        "p": float(cast(Any, scipy.stats.ttest_1samp(gaps, 0)).pvalue), "detectable": detectable(n) * spread,
    }  # fmt: skip


def report() -> None:
    """Compare the arms, write the result."""
    kept = [json.loads(path(*block).read_text(encoding="utf-8")) for block in BLOCKS]
    runs = [run for block in kept for run in block["runs"]]
    if any(run["last"] is None for run in runs):
        raise SystemExit("a run diverged: decide how it counts before any table is made")
    first = [difference(runs, *pair, end) for end in ("last", "average") for pair in FIRST]
    second = [difference(runs, *pair, end) for end in ("last", "average") for pair in SECOND]
    _common.holm(second)
    real = features.Features()(laws.digits().images)
    _common.write_json("cascades", {
        "schema": 1, "title": "Cascaded and plain heads on digits", "chapter": "cascading-rejection",
        "command": "python benchmarks/compare_cascades.py",
        **_common.environment("accelerate", "scikit-learn"), "rows": [], "tables": tables(runs, first + second),
        "steps": STEPS, "seconds": sum(block["seconds"] for block in kept),
        "floor": metrics.frechet_floor(real, SAMPLES)._asdict(), "first": first, "second": second, "runs": runs,
    })  # fmt: skip


def tables(runs: list[dict[str, Any]], differences: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For the page of results: one table a setting, one of differences."""
    made = []
    for setting in dict.fromkeys(setting for setting, _ in ARMS):
        mine = [run for run in runs if run["setting"] == setting]
        body = []
        for head in dict.fromkeys(run["head"] for run in mine):
            good = [run for run in mine if run["head"] == head]
            cells = [
                _common.spread([run[end][s] for run in good]) for end in ("last", "average") for s in mine[0]["last"]
            ]
            body.append([head, str(len(good)), *cells])
        title = f"{setting}: {STEPS} generator steps, mean ± 95 % interval"
        columns = [f"{s}, {end}" for end in ("last", "average") for s in mine[0]["last"]]
        made.append({"title": title, "head": ["head", "seeds", *columns], "rows": body})
    body = [
        [d["setting"], f"{d['a']} − {d['b']}", d["end"], str(d["n"]), f"{d['mean']:+.2f} ± {d['half']:.2f}",
         f"{d['p']:.2g}", f"{d['holm']:.2g}" if "holm" in d else "first question", f"{d['detectable']:.2f}"]
        for d in differences
    ]  # fmt: skip
    head = ["setting", "heads", "generator", "seeds", "difference", "p", "p after Holm", "found in 80 %"]
    return [*made, {"title": "Fréchet distance, seed by seed: lower is better", "head": head, "rows": body}]


def values(runs: list[dict[str, Any]], head: str, score: str, end: str) -> dict[int, float]:
    """One number a seed."""
    return {run["seed"]: run[end][score] for run in runs if run["head"] == head}


def asked_again(runs: list[dict[str, Any]], score: str, end: str, a: str, b: str) -> dict[str, Any]:
    """The paired difference of a score of conditional samples, head a minus head b."""
    one, other = (values(runs, head, score, end) for head in (a, b))
    gaps = [one[seed] - other[seed] for seed in sorted(one.keys() & other.keys())]
    n, spread = len(gaps), statistics.stdev(gaps)
    test = lambda: float(cast(Any, scipy.stats.ttest_1samp(gaps, 0)).pvalue)
    p = test() if spread > 0 else float(not any(gaps))  # all alike: SciPy divides by zero
    return {
        "score": score, "end": end, "a": a, "b": b, "n": n, "mean": statistics.fmean(gaps), "spread": spread,
        "half": half_width(gaps), "p": p,
        "detectable": detectable(n) * spread,
    }  # fmt: skip


def conditional() -> None:
    """The question that was asked again: run what is missing, write the result."""
    sweep(AGAIN)
    kept = [json.loads(path(*block).read_text(encoding="utf-8")) for block in AGAIN]
    runs = [run for block in kept for run in block["runs"]]
    if any(run["last"] is None for run in runs):
        raise SystemExit("a run diverged: decide how it counts before the question is answered")
    question = asked_again(runs, *QUESTION)
    others = [
        asked_again(runs, score, end, a, b)
        for end in ("last", "average") for score in ("agreement", "within classes")
        for a, b in (("plain 4", "one head"), ("cascade 4", "one head"), ("cascade 4", "plain 4"))
    ]  # fmt: skip
    body = []
    for head in THREE:
        cells = [
            _common.spread([*values(runs, head, score, end).values()])
            for end in ("last", "average") for score in ("agreement", "within classes")
        ]  # fmt: skip
        body.append([head, str(len(values(runs, head, "within classes", "average"))), *cells])
    columns = [
        f"{score}, {end}" for end in ("last", "average") for score in ("class agreement", "Fréchet within classes")
    ]
    _common.write_json("cascades-conditional", {
        "schema": 1, "title": "Conditional cascaded heads, new seeds", "chapter": "cascading-rejection",
        **_common.environment("accelerate", "scikit-learn"), "rows": [], "steps": STEPS,
        "command": "python benchmarks/compare_cascades.py --conditional",
        "tables": [{"title": "conditional hinge, new seeds: mean ± 95 % interval", "head": ["head", "seeds", *columns],
                    "rows": body}],
        "question": question, "others": [one for one in others if one != question], "runs": runs,
        "seconds": sum(block["seconds"] for block in kept),
    })  # fmt: skip


QUESTION = ("within classes", "average", "cascade 4", "one head")
AGAIN = [("conditional hinge", head, block) for block in (1, 2) for head in THREE]  # block 0 is of the first sweep
BLOCKS = [(setting, head, block) for (setting, head), n in ARMS.items() for block in range(n)]

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conditional", action="store_true", help="only the question that was asked again")
    only = parser.parse_args().conditional
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    if not only:
        sweep(BLOCKS)
        report()
    conditional()
