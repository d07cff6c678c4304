"""The image experiment of each GAN chapter at SCALE = "gpu", as the chapter's own cells run it: what comes out.

The cells of the section on sizes are run with SCALE = "gpu", one seed each, and nothing in them is changed; what their
ruler says, and the images that they show, are kept. Nothing is asked and nothing is chosen here: these runs show that
the experiments work and what a reader may expect of them, not which method is better.

All cells run in one folder, `_build/sizes`, where they keep their checkpoints: stopped, the next call goes on from the
last thousand steps, and a game that two chapters train alike (networks, settings and seed) is trained once. A chapter
is in the record, `benchmarks/results/sizes.json`, when all of it has run. One thread of a CPU takes an hour or two for
the six chapters (their steps take 77 to 138 ms each, those of cascading rejection half a second and more), a T4 by
arithmetic (`scales.py`) ten minutes.

    python benchmarks/compare_sizes.py                   # the chapters that the record lacks
    python benchmarks/compare_sizes.py wasserstein       # this one, from its checkpoints if they are there
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import functools
import io
import json
import os
import re
import sys
import time
from typing import Any
from unittest import mock

import _common
import matplotlib.pyplot as plt
import torch
from _gpu_chapters import ROOT, Unchecked, sizes
from PIL import Image
from scales import SIZES, inside
from torch import Tensor

from gantext.gan import features, images, training

RUNS = ROOT / "_build" / "sizes"
RECORD = _common.RESULTS / "sizes.json"
COLUMNS = {"frechet, seen": "training digits", "frechet, held out": "held-out digits"}
Run = dict[str, Any]
FIT, JUDGE = training.fit, features.Ruler.judge


def picture(grid: Tensor, columns: int = 8) -> str:
    """Grey images (n, 1, H, W) in [-1, 1], row by row, as one PNG in base64."""
    rows = grid.unflatten(0, (-1, columns)).permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2)
    levels = ((rows[..., 0].cpu() + 1) * 127.5).round().clamp(0, 255).byte()
    with io.BytesIO() as file:
        Image.fromarray(levels.numpy()).save(file, "PNG", optimize=True)
        return base64.b64encode(file.getvalue()).decode()


class Watch:
    """What a chapter's cells train, judge and show."""

    def __init__(self) -> None:
        self.runs: list[Run] = []

    def fit(self, generator: Any, critic: Any, real: Any, game: Any, **settings: Any) -> training.Fit:
        """`fit`, timed from its first step on in this call: a run that goes on from a checkpoint does the rest."""
        begun: list[tuple[float, int]] = []

        def note(run: training.Fit) -> None:
            if not begun:
                begun.append((time.process_time(), run.step))

        run = FIT(generator, critic, real, game, callbacks=[note], **settings)
        made: Run = {"game": game.name, "steps": run.step, "device": _common.device_name()}
        if begun and run.step > begun[0][1]:
            per_step = (time.process_time() - begun[0][0]) / (run.step - begun[0][1])
            made["processor ms a step"] = 1e3 * per_step
        self.runs.append(made)
        return run

    def judge(self, ruler: features.Ruler, generator: Any, codes: Tensor, seen: Any, held_out: Any) -> Any:
        """`Ruler.judge`, its scores kept."""
        fakes, row = JUDGE(ruler, generator, codes, seen, held_out)
        self.runs[-1]["scores"] = row
        if "digits" not in self.runs[-1]:
            n = len(fakes)
            self.runs[-1]["digits"] = ruler.scores(
                seen.take(slice(n)), held_out.take(slice(n)), held_out.take(slice(n))
            )
        return fakes, row

    def show(self, grid: Tensor, title: str, columns: int = 8) -> None:
        """`images.show`, as data."""
        self.runs[-1].setdefault("pictures", {})[title] = picture(grid, columns)


def chapter(name: str) -> list[Run]:
    """What the cells of the chapter's section on sizes make at SCALE = "gpu"."""
    watch, path = Watch(), ROOT / "notebooks" / f"{name}.md"
    space: dict[str, Any] = {"__name__": "__main__"}
    patches = (
        mock.patch.object(training, "fit", watch.fit),
        mock.patch.object(features.Ruler, "judge", lambda ruler, *given: watch.judge(ruler, *given)),
        mock.patch.object(features, "classifier_ruler", functools.cache(features.classifier_ruler)),
        mock.patch.object(images, "images", functools.cache(images.images)),
        mock.patch.object(images, "show", watch.show),
        mock.patch("texledger.Ledger", Unchecked),
        mock.patch.dict(os.environ, {"MPLBACKEND": "agg"}),
    )
    with contextlib.ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        stack.enter_context(inside(path.parent))
        for cell in sizes(path.read_text(encoding="utf-8")):
            source = re.sub(r'^SCALE = "reduced"', 'SCALE = "gpu"', cell.source, flags=re.MULTILINE)
            code = compile("\n" * (cell.line - 1) + source, str(path), "exec")
            with inside(RUNS) if "larger" in source else contextlib.nullcontext():
                exec(code, space)
        torch.set_num_threads(1)
        torch.set_default_dtype(torch.float32)
        plt.close("all")
    return watch.runs


def table(chapters: dict[str, list[Run]]) -> dict[str, Any]:
    """For the page of results: a row for each training, though several chapters show it."""
    head = ["chapters", "game", "steps", *(f"Fréchet distance to {name}" for name in COLUMNS.values()),
            "processor time a step, ms"]  # fmt: skip
    rows: dict[tuple[str, ...], list[str]] = {}
    timed: dict[tuple[str, ...], str] = {}
    for name, runs in chapters.items():
        for run in runs:
            training = (run["game"], f"{run['steps']:,}", *(f"{run['scores'][column]:.3g}" for column in COLUMNS))
            rows.setdefault(training, []).append(name)
            if "processor ms a step" in run:
                timed[training] = f"{run['processor ms a step']:.0f}"
    body = [[", ".join(dict.fromkeys(names)), *training, timed.get(training, "–")] for training, names in rows.items()]
    return {"title": 'The experiments of SCALE = "gpu", one seed each', "head": head, "rows": body}


def write(chapters: dict[str, list[Run]]) -> None:
    """The record of the chapters that are there, in the book's order."""
    ordered = {name: chapters[name] for name in SIZES if name in chapters}
    _common.write_json("sizes", {
        "schema": 1, "title": 'What SCALE = "gpu" trains', "chapter": "gan-comparison",
        "command": "python benchmarks/compare_sizes.py", **_common.environment("accelerate", "mlxtend"),
        "complete": len(ordered) == len(SIZES), "rows": [], "tables": [table(ordered)], "chapters": ordered,
    })  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chapters", nargs="*", metavar="CHAPTER", help=f"of {', '.join(SIZES)}")
    options = parser.parse_args()
    if unknown := set(options.chapters) - set(SIZES):
        parser.error(f"no sizes in {', '.join(sorted(unknown))}: {', '.join(SIZES)}")
    _common.device()
    torch.set_flush_denormal(True)
    RUNS.mkdir(parents=True, exist_ok=True)
    with _common.alone(RUNS):
        done = json.loads(RECORD.read_text(encoding="utf-8"))["chapters"] if RECORD.exists() else {}
        for name in options.chapters or [name for name in SIZES if name not in done]:
            print(f"{name} …", file=sys.stderr, flush=True)
            done[name] = chapter(name)
            write(done)


if __name__ == "__main__":
    main()
