"""What the book says of a GPU is what the record of one says, to the digits that are printed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECORD: dict[str, Any] = json.loads((ROOT / "benchmarks" / "results" / "gpu-h200.json").read_text(encoding="utf-8"))
PARTS = {part["item"]: part for part in RECORD["parts"]}
CAPTURED = ", captured"


def ratios(item: str, what: str, rival: str | None = None) -> list[float]:
    """Least and largest of an item's rows of that name, against a rival or the first one."""
    rows = [row for row in PARTS[item]["rows"] if row["what"] == what and (rival or "ours") in row["results"]]
    time = lambda row, name: row["results"][name]["median_ms"]
    found = [time(row, rival) / time(row, "ours") if rival else row["ratio"] for row in rows]
    return [min(found), max(found)]


def both(item: str, whats: list[str], rival: str | None = None) -> list[float]:
    found = [ratios(item, what, rival) for what in whats]
    return [min(low for low, _ in found), max(high for _, high in found)]


ATTENTION = [f"prefix-LM attention, {way}{CAPTURED}" for way in ("forward", "forward and backward")]
ON_SAMPLES = "step, penalty on real and fake samples"
SAID: dict[str, tuple[str, str, Callable[[], list[float]]]] = {
    "layer norm, backward": (
        "conditional-layer-norm",
        r"its backward pass was (\S+) to (\S+) times as fast as what `torch.compile`",
        lambda: ratios("layer-norm-peers", f"conditional layer norm, backward alone{CAPTURED}"),
    ),
    "layer norm, forward": (
        "conditional-layer-norm",
        r"its forward pass (\S+) to (\S+) times",
        lambda: ratios("layer-norm-peers", f"conditional layer norm, forward{CAPTURED}"),
    ),
    "attention": (
        "prefix-lm",
        r"the two calls together were (\S+) to (\S+) times as fast as one call with the mask",
        lambda: both("attention-peers", ATTENTION, "dense mask"),
    ),
    "matrix exponential": (
        "det-exp",
        r"10,000 of them at a time, (\S+) to (\S+) times as fast as `torch.linalg.matrix_exp`",
        lambda: both("expm-peers", ["expm, forward", "expm, forward and backward"], "torch"),
    ),
    "penalty, called": (
        "w-divergence",
        r"was (\S+) to (\S+) times as fast as with double backward when called",
        lambda: ratios("penalty-peers", ON_SAMPLES, "double backward"),
    ),
    "penalty, captured": (
        "w-divergence",
        r"(\S+) to (\S+) times in a CUDA graph",
        lambda: ratios("penalty-peers", f"{ON_SAMPLES}{CAPTURED}", "double backward"),
    ),
    "steps, captured": (
        "gan-comparison",
        r"the same steps took (\S+) to (\S+) times less",
        lambda: both("gan-steps", sorted({row["what"] for row in PARTS["gan-steps"]["rows"]})),
    ),
}


@pytest.mark.parametrize("name", SAID)
def test_a_chapter_says_what_the_record_says(name: str) -> None:
    chapter, pattern, found = SAID[name]
    said = re.findall(pattern, (ROOT / "notebooks" / f"{chapter}.md").read_text(encoding="utf-8"))
    assert len(said) == 1, said
    decimals = [len(words.partition(".")[2]) for words in said[0]]
    assert all(digits or float(words) >= 10 for digits, words in zip(decimals, said[0], strict=True)), said
    assert list(said[0]) == [f"{value:.{digits}f}" for digits, value in zip(decimals, found(), strict=True)]


def test_slower_where_the_book_says_so() -> None:
    of = lambda k: [row["ratio"] for row in PARTS["layer-norm-peers"]["rows"] if row["what"] == k]
    forward, backward = of("conditional layer norm, forward"), of("conditional layer norm, backward alone")
    assert max(forward) < 1 and [len(backward), sum(ratio < 1 for ratio in backward)] == [4, 3]  # called from Python
    halves = [
        row for row in PARTS["attention-peers"]["rows"] if row["dtype"] != "float32" and CAPTURED not in row["what"]
    ]
    assert [len(halves), sum(row["ratio"] < 1 for row in halves)] == [4, 3]


def test_jose_on_the_gpu_is_so_many_times_one_thread() -> None:
    (claim,) = PARTS["jose-words"]["claims"]
    text = (ROOT / "notebooks" / "jose.md").read_text(encoding="utf-8")
    (said,) = re.findall(r"on an NVIDIA H200, in batches, (\S+) times as many words a second", text)
    assert claim["measured"] == f"{said} times" and claim["verdict"] == "holds"


def test_the_arithmetic_of_sizes_is_held_against_recorded_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import scales

    found = [measured / predicted for _, predicted, measured in scales.recorded(RECORD)]
    assert len(found) == 15 and min(found) > 0.5 and max(found) < 2
    pattern = r"fifteen steps of other networks on an NVIDIA H200 took (\S+) to (\S+) times what the arithmetic says"
    text = (ROOT / "notebooks" / "w-divergence.md").read_text(encoding="utf-8")  # the other chapters refer to it
    assert re.findall(pattern, text) == [(f"{min(found):.1f}", f"{max(found):.1f}")]


def test_the_record_names_no_place_of_a_machine() -> None:
    assert not re.search(r"/(?:opt|work|root|home|tmp|usr)/", json.dumps(RECORD))
    assert RECORD["gpu"] and "H200" in RECORD["device"]


def facts(name: str) -> float:
    (value,) = (float(value) for _, told, value in RECORD["tables"][1]["rows"] if told == name)
    return value


MEASURED: dict[str, Callable[[], list[float]]] = {
    "a launch from Python": lambda: [facts("launch from Python, us")],
    "a launch in a graph": lambda: [facts("launch in a graph, us")],
    "conditional layer norm, forward": lambda: ratios("layer-norm-peers", f"conditional layer norm, forward{CAPTURED}"),
    "the same, backward": lambda: ratios("layer-norm-peers", f"conditional layer norm, backward alone{CAPTURED}"),
    "attention in two calls": lambda: both("attention-peers", ATTENTION, "dense mask"),
    "the same against compiled": lambda: both("attention-peers", ATTENTION, "FlexAttention"),
    "critic's step": lambda: ratios("graph-peers", "critic step with penalty, its graph"),
    "constrained beams": lambda: ratios("beam-peers", "constrained, 4 beams"),
    "JoSE": lambda: [
        facts("tuples a second, update of three tables, captured, 200000 words, p = 100, 65536 tuples") / 1e6
    ],
}


def test_what_was_expected_stands_beside_what_was_measured() -> None:
    page = (ROOT / "book" / "results.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("|")][2:]
    assert len(rows) == len(MEASURED)
    for (what, _, measured, _), (name, found) in zip(rows, MEASURED.items(), strict=True):
        said = measured.replace(",", "").split(" to ")
        digits = [len(words.partition(".")[2]) for words in said]
        assert what.startswith(name), what
        assert said == [f"{value:.{k}f}" for value, k in zip(found(), digits, strict=True)], what
