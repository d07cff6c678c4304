"""JoSE's files, replaced as a whole or not at all: safetensors, nothing pickled, and word2vec text."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from gantext._files import readable, whole
from gantext.kernels.sphere import MODES
from gantext.sphere.training import Run, Settings

FORMAT = "gantext.jose 1"
_TABLES = ("U", "V", "D")


def save(path: str | os.PathLike[str], run: Run, counts: NDArray[np.int64], about: Mapping[str, Any]) -> None:
    """Write a run with the counts of its words and what JSON can hold about it."""
    about = {**about, "history": run.history, "position": run.position, "sums": run.sums.tolist()}
    text = json.dumps(about, default=lambda number: number.item())  # NumPy's numbers among the parameters
    tables = {name: getattr(run, name).cpu() for name in _TABLES}
    tables |= {
        "counts": torch.from_numpy(counts),
        "touched": torch.from_numpy(run.touched),
        "about": torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8),  # headers are limited
    }
    try:
        with whole(path) as draft:
            save_file(tables, draft, {"format": FORMAT})
    except SafetensorError as error:  # as on a full disk
        raise OSError(f"save: {path} cannot be written ({error}). Make room, or name a file elsewhere.") from error


def load(path: str | os.PathLike[str]) -> tuple[Run, NDArray[np.int64], dict[str, Any]]:
    """What `save` wrote; ValueError if it did not, or if its parts do not fit each other."""
    remedy = f"must be a file of JoSE.save, format {FORMAT!r}. Give another file, or fit anew."
    try:
        with safe_open(readable("load", path), "pt") as file:
            kind = (file.metadata() or {}).get("format")
            tables = {name: file.get_tensor(name) for name in file.keys()} if kind == FORMAT else {}  # noqa: SIM118  safetensors' file is no mapping
    except SafetensorError as error:
        raise ValueError(f"load: {path} is damaged or no safetensors file ({error}), {remedy}") from error
    if kind != FORMAT:
        raise ValueError(f"load: {path} has the format {kind!r}, {remedy}")
    try:
        about = json.loads(tables["about"].numpy().tobytes())
        U, V, D, counts, touched = (tables[name] for name in (*_TABLES, "counts", "touched"))
        words, sums, history = about["vocabulary"], np.array(about["sums"], float), about["history"]
        settings = Settings(**about["settings"])
        p, rounds = settings.dimension, [*history["loss"], *history["active"]]
        rules = {
            "tables": all(t.dtype == torch.float32 and t.isfinite().all() for t in (U, V, D)),
            "shapes": U.shape == V.shape == (len(words), p) and D.shape == (len(touched), p),
            "counts": counts.dtype == torch.int64 and counts.shape == (len(words),) and bool((counts > 0).all()),
            "touched": touched.dtype == torch.bool and touched.dim() == 1,
            "vocabulary": len({*words}) == len(words) > 1 and all(isinstance(word, str) for word in words),
            "history": all(isinstance(x, float) for x in rounds) and sums.shape == (3,),
            "settings": settings.mode in MODES and all(isinstance(x, int) for x in (p, settings.seed, settings.epochs)),
            "position": isinstance(about["position"], int) and about["position"] >= 0,
            "checksum": isinstance(about["checksum"], int) and isinstance(about["params"], dict),
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"load: {path} lacks a part or has another in its place ({error!r}), {remedy}") from error
    if broken := [name for name, holds in rules.items() if not holds]:
        raise ValueError(f"load: {path} has {', '.join(broken)} that do not fit the rest, {remedy}")
    run = Run(U, V, D, touched.numpy(), about["position"], sums, history)
    return run, counts.numpy(), about | {"settings": settings}


def write_vectors(path: str | os.PathLike[str], words: Sequence[str], rows: NDArray[np.float32]) -> None:
    """word2vec text, nine digits a number, which is float32 without loss; ValueError for a word it cannot hold."""
    for word in words:
        if word.split() != [word] or any("\ud800" <= sign <= "\udfff" for sign in word):
            raise ValueError(
                f"to_keyedvectors: the word {word!r} has a blank or half a character, which the format cannot hold. "
                "Replace it in the corpus, or use save."
            )
    with whole(path) as draft, draft.open("w", encoding="utf-8", newline="\n") as file:
        file.write(f"{len(words)} {rows.shape[1]}\n")
        for word, row in zip(words, rows, strict=True):
            file.write(f"{word} {' '.join(f'{x:.9g}' for x in row.tolist())}\n")
