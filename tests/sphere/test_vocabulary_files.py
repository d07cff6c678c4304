"""Corpora as files of other people: encodings, gzip, what is no file; and documents that are missing."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from gantext.sphere.vocabulary import alias_table, keep_chance, read

TEXT = "the cat\r\n\r\ncafé the\r\n"


@pytest.mark.parametrize("packed", [False, True])
def test_a_corpus_is_utf_8_with_or_without_mark_and_gzip(packed: bool, tmp_path: Path) -> None:
    file, pack = tmp_path / "corpus.txt", gzip.compress if packed else bytes
    for encoding in ("utf-8", "utf-8-sig"):
        file.write_bytes(pack(TEXT.encode(encoding)))
        words, counts, tokens = read("fit", file, 1)
        assert words == ["the", "café", "cat"] and counts.tolist() == [2, 1, 1] and tokens.lengths.tolist() == [2, 0, 2]
    for encoding in ("utf-16", "utf-16-le", "utf-32-be", "latin-1", "gbk"):
        file.write_bytes(pack(TEXT.encode(encoding)))
        with pytest.raises(
            ValueError, match=r"fit: line \d of .*corpus\.txt has the byte 0x.. at column \d+, must be UTF-8"
        ):
            read("fit", file, 1)
    file.write_bytes(pack(b""))
    assert read("fit", file, 1)[0] == []


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match=r"fit: .* is a folder"):
        read("fit", tmp_path, 1)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match=r"fit: .* is a pipe or a device"):
        read("fit", tmp_path / "pipe", 1)
    (tmp_path / "cut.gz").write_bytes(gzip.compress(TEXT.encode() * 999)[:-20])
    with pytest.raises(ValueError, match="damaged gzip"):
        read("fit", tmp_path / "cut.gz", 1)
    with pytest.raises(FileNotFoundError):
        read("fit", tmp_path / "none", 1)


@pytest.mark.parametrize("missing", [float("nan"), None, 7])
def test_a_missing_document_is_named(missing: Any) -> None:
    with pytest.raises(TypeError, match=r"fit: document 2 is (nan|None|7) .*must be a sequence of words"):
        read("fit", cast(Any, [["a"], ["b"], missing]), 1)


@pytest.mark.parametrize("weights", [[], [1, -1], [0, 0], [1, float("nan")], [1, float("inf")], [[1, 2]]])
def test_weights_that_are_none_are_refused(weights: Any) -> None:
    with pytest.raises(ValueError, match=r"^alias_table: weights are .*must be \(n,\), finite, >= 0 and not all 0"):
        alias_table(weights)


def test_counts_that_are_none_are_refused() -> None:
    for counts, sample in (([0, 2], 0.1), ([1, 2], -1), ([1, 2], float("nan"))):
        with pytest.raises(ValueError, match=r"^keep_chance: counts are .*, sample .*, must be >= 1 and >= 0"):
            keep_chance(cast(Any, counts), sample)
    assert np.array_equal(keep_chance(cast(Any, [3, 1]), 0.1), keep_chance(np.array([3, 1]), 0.1))
