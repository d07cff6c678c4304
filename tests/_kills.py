"""Trains with a checkpoint, is killed at random points, starts again: python _kills.py KIND FOLDER KILLS SEED.

Each attempt is a forked process, so that PyTorch is imported once; it ends itself by SIGKILL at a random one of its
function calls, which are the finest points at which Python can be stopped, in the middle of writing too. Every fourth
attempt counts from its start, which reads the checkpoint; the others from the first step; and every eighth counts the
moments alone at which a new file is complete and not yet in its place. The last attempt is not killed. The result of a
run that was never stopped lies beside, and what happened is printed as JSON.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

STEPS = {"gan": 30, "reader": 12, "jose": 40}  # of jose epochs
Result = dict[str, Any]


def gan(file: Path | None, begin: Callable[[], object]) -> Result:
    """Batch norm's statistics, spectral norm's vectors, Adam's moments, falling rates, the average, the history."""
    from torch import nn

    from gantext.gan.laws import ring
    from gantext.gan.methods import wgan_gp
    from gantext.gan.networks import mlp
    from gantext.gan.training import fit

    def real(n: int, rng: torch.Generator) -> torch.Tensor:
        begin()
        return ring().sample(n, rng)

    torch.manual_seed(1)
    nets = mlp([3, 8, 2], norm=nn.BatchNorm1d), mlp([2, 8, 1], spectral=True)
    options: dict[str, Any] = {"latent": 3, "batch_size": 8, "n_critic": 2, "decay": True}
    run = fit(*nets, real, wgan_gp(), steps=STEPS["gan"], checkpoint=file, save_every=1, progress=False, **options)
    states = [net.state_dict() for net in (run.generator, run.critic, run.ema)]
    return {"states": states, "history": run.history}


def reader(file: Path | None, begin: Callable[[], object]) -> Result:
    from gantext.qa.questions import Passage, Record
    from gantext.qa.reader import fit
    from gantext.qa.sources import Words
    from gantext.seq2seq.transformer import Config, Transformer

    rng = random.Random(0)
    texts = [rng.choices([f"w{k}" for k in range(12)], k=6) for _ in range(12)]
    records = [
        Record(f"r{k}", text[0], (Passage(" ".join(text), text[1]),), (text[1],)) for k, text in enumerate(texts)
    ]
    torch.manual_seed(1)
    known = Words(map(" ".join, texts))
    model = Transformer(Config(len(known), width=8, layers=1, heads=1, positions=32))
    plain = model.loss
    model.loss = lambda *given, **more: (begin(), plain(*given, **more))[1]
    options: dict[str, Any] = {"batch_size": 4, "warmup": 5, "progress": False}
    losses = fit(model, records, known, steps=STEPS["reader"], checkpoint=file, save_every=1, **options)
    return {"states": model.state_dict(), "history": losses}


def jose(file: Path | None, begin: Callable[[], object]) -> Result:
    from gantext.sphere.jose import JoSE

    rng = random.Random(0)
    corpus = [rng.choices([f"w{k}" for k in range(20)], k=12) for _ in range(8)]
    options: dict[str, Any] = {"dimension": 8, "min_count": 1, "epochs": STEPS["jose"], "sample": 0, "random_state": 3}
    resume = file is not None and file.exists()
    model = JoSE.load(file) if resume and file else JoSE(**options)
    model.fit(corpus, resume=resume, checkpoint=file, callbacks=[lambda model: begin()])
    tables = {"U": model.word_vectors_, "D": model.document_vectors_}
    return {"states": {name: torch.from_numpy(table) for name, table in tables.items()}, "history": model.history_}


KINDS = {"gan": gan, "reader": reader, "jose": jose}


class Calls:
    """Counts this process's calls of functions, and kills it at the one that is due."""

    def __init__(self, due: int | None, early: bool, writing: bool) -> None:
        self.count, self.due, self.on, self.writing = 0, due, False, writing
        if early:
            self.begin()

    def begin(self) -> None:
        if not self.on:
            self.on = True
            sys.setprofile(self.seen)

    def seen(self, frame: object, event: str, argument: object) -> None:
        if event in ("call", "c_call") and (argument is os.replace or not self.writing):
            self.count += 1
            if self.count == self.due:
                os.kill(os.getpid(), signal.SIGKILL)


def attempt(
    kind: str, file: Path | None, out: Path, due: int | None = None, early: bool = False, writing: bool = False
) -> bool:
    """Whether it came to its end; then its result lies at `out`, with the number of its calls."""
    child = os.fork()
    if not child:
        try:
            calls = Calls(due, early, writing)
            result = KINDS[kind](file, calls.begin)
            sys.setprofile(None)
            torch.save(result | {"calls": calls.count}, out)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return False
    if status:
        sys.exit(f"an attempt failed with status {status}")
    return True


def main(kind: str, folder: Path, kills: int, seed: int) -> None:
    torch.set_num_threads(1)
    KINDS[kind](None, lambda: None)  # what is imported and compiled here is so in every attempt
    rng, file = random.Random(seed), folder / "run.checkpoint"
    attempt(kind, folder / "counted.checkpoint", folder / "counted", early=True)
    attempt(kind, folder / "whole.checkpoint", folder / "whole")
    early, late = (torch.load(folder / name, weights_only=False)["calls"] for name in ("counted", "whole"))
    step, start = late // STEPS[kind], max(early - late, 1)
    done, drafts, before = 0, 0, 0
    for k in range(100 * kills):
        first, writing = k % 4 == 3, k % 8 == 1
        due = rng.randrange(1, (2 if writing else start if first else 2 * step) + 1)
        if attempt(kind, file, folder / "early", due, first, writing):
            break  # it came to its end before its time
        done += 1
        drafts += len([*folder.glob("run.checkpoint.*.tmp")]) > 0
        before += file.exists()
        if done == kills:
            break
    attempt(kind, file, folder / "resumed")
    left = sorted(path.name for path in folder.glob("run.checkpoint*"))
    print(json.dumps({"kills": done, "in writing": drafts, "with a file": before, "left": left}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
