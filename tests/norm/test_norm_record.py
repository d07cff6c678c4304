"""The chapter on conditional norms shows stored runs, and a run made live: both are the record's, to the last digit."""

from __future__ import annotations

import json
import re
import sys
from functools import cache
from types import ModuleType
from typing import Any

import pytest
import torch
from gantext_book.source import ROOT

from gantext import docstrings
from gantext.norm import ConditionalLayerNorm

RECORD = json.loads((ROOT / "benchmarks" / "results" / "conditions.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def script() -> ModuleType:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import compare_condnorm

    return compare_condnorm


@cache
def output_of(mark: str) -> str:
    """What the one stored cell with such a line printed or showed."""
    cells = json.loads((ROOT / "notebooks" / "conditional-layer-norm.ipynb").read_text(encoding="utf-8"))["cells"]
    (cell,) = [c for c in cells if c["cell_type"] == "code" and mark in "".join(c["source"])]
    parts = (o.get("text") or o.get("data", {}).get("text/html", "") for o in cell["outputs"])
    return "".join("".join(part) for part in parts)


def first_of(method: str, score: str) -> float:
    (run,) = [run for run in RECORD["runs"] if run["method"] == method and run["seed"] == 0]
    return run[score]


def test_the_record_is_whole_and_its_table_is_that_of_its_runs(script: Any) -> None:
    runs = RECORD["runs"]
    assert [(run["method"], run["seed"]) for run in runs] == [(m, s) for m in script.METHODS for s in script.SEEDS]
    assert RECORD["tables"] == script.tables(runs)
    for run in runs:
        assert abs(sum(run["by position"]) / len(run["by position"]) - run["nats"]) < 1e-3


def test_the_live_run_is_the_recorded_one() -> None:
    text = output_of("# Trained live: the last digits differ by machine.")
    live = {name.strip(): float(nats) for name, nats in re.findall(r"^(.{14}) *(\d\.\d+) nats", text, re.MULTILINE)}
    recorded = {
        "told nothing": first_of("told nothing", "nats"),
        "all norms": first_of("all norms", "nats"),
        "wrong label": first_of("all norms", "wrong"),
        "shuffled": first_of("all norms, labels shuffled in training", "nats"),
    }
    assert live.keys() == recorded.keys()
    for name, nats in recorded.items():
        assert abs(live[name] - nats) <= 0.0051, name  # a rounding to two digits


def test_the_tables_of_the_page_are_the_records(script: Any) -> None:
    rows = re.findall(r"<tr>(.*?)</tr>", output_of('table, differences = record["tables"]'))
    shown = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]
    shown = [[cell.replace("\xa0", " ").replace("&nbsp;", " ") for cell in row] for row in shown]
    table, differences = RECORD["tables"]
    two = lambda cell: " ± ".join(f"{float(part):.2f}" for part in cell.split(" ± ")) if "±" in cell else cell
    first = [table["head"], *([row[0], row[1], *map(two, row[2:])] for row in table["rows"])]
    assert shown == [*first, differences["head"], *differences["rows"]]
    assert RECORD["comparisons"] == script.compared(RECORD["runs"])


def test_every_way_to_tell_starts_as_the_model_told_nothing_but_the_one_that_says_so(
    script: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "windows", lambda length: [script.Windows(*a) for a in (two(length), two(length))])
    starts = {}
    for method in script.METHODS:
        if method == script.PREFIX:  # another first token: another text
            continue
        torch.manual_seed(0)
        told = script.Told(method, script.language_model(16))
        tokens, labels = two(16)
        starts[method] = told(tokens, labels)
        norms = sum(isinstance(m, ConditionalLayerNorm) for m in told.modules())
        assert norms == (1 if method == script.HEAD else 6 if "norms" in method else 0)
    for method, nats in starts.items():
        assert torch.equal(nats, starts[script.NONE]) == (method != script.LOUD), method
    told = script.Told(script.LOUD, script.language_model(16))
    assert 0.8 < told.classes.weight.norm(dim=1).mean() < 1.2 and 0.4 < told.net.tokens.weight.norm(dim=1).mean() < 0.55


def two(length: int) -> Any:
    rng = torch.Generator().manual_seed(1)
    tokens = torch.randint(2, 2000, (8, 1 + length), generator=rng)
    return tokens, torch.arange(8) % len(docstrings.TOPICS)
