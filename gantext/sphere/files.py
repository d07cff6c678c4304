"""JoSE's files, replaced as a whole or not at all: safetensors, nothing pickled, and word2vec text."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from gantext._files import whole
from gantext.sphere.training import Run

FORMAT = "gantext.jose 1"
_TABLES = ("U", "V", "D")


def save(path: str | os.PathLike[str], run: Run, counts: NDArray[np.int64], about: Mapping[str, Any]) -> None:
    """Write a run with the counts of its words and what JSON can hold about it."""
    about = {**about, "history": run.history, "position": run.position, "sums": run.sums.tolist()}
    tables = {name: getattr(run, name).cpu() for name in _TABLES}
    tables |= {
        "counts": torch.from_numpy(counts),
        "touched": torch.from_numpy(run.touched),
        "about": torch.frombuffer(bytearray(json.dumps(about).encode()), dtype=torch.uint8),  # headers are limited
    }
    with whole(path) as draft:
        save_file(tables, draft, {"format": FORMAT})


def load(path: str | os.PathLike[str]) -> tuple[Run, NDArray[np.int64], dict[str, Any]]:
    """What `save` wrote; ValueError if it did not."""
    try:
        with safe_open(Path(path), "pt") as file:
            kind = (file.metadata() or {}).get("format")
            tables = {name: file.get_tensor(name) for name in file.keys()} if kind == FORMAT else {}  # noqa: SIM118  safetensors' file is no mapping
    except SafetensorError as error:
        raise ValueError(f"load: {path} is damaged or no safetensors file ({error}). Give one of save.") from error
    if not tables:
        raise ValueError(f"load: {path} has the format {kind!r}, must be {FORMAT!r}. Give a file of JoSE.save.")
    about = json.loads(tables["about"].numpy().tobytes())
    sums = np.array(about["sums"])
    U, V, D = (tables[name] for name in _TABLES)
    run = Run(U, V, D, tables["touched"].numpy(), about["position"], sums, about["history"])
    return run, tables["counts"].numpy(), about


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
