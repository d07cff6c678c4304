"""`benchmarks/compare_cascades.py`: the question that was asked again of new seeds."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from gantext_book.source import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import compare_cascades as script


def test_the_question_is_asked_of_seeds_that_no_run_had_used_the_same_in_every_arm() -> None:
    size = script.SIZE["conditional hinge"]
    seeds = {
        head: {block * size + k for _, arm, block in script.AGAIN if arm == head for k in range(size)}
        for head in script.THREE
    }
    assert all(found == set(range(size, 3 * size)) for found in seeds.values())
    assert not set(script.AGAIN) & set(script.BLOCKS)
    assert {setting for setting, _, _ in script.AGAIN} == {"conditional hinge"}


def test_missing_blocks_are_run_and_the_question_answered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    begun = []

    def keep(setting: str, head: str, block: int) -> None:
        begun.append((head, block))
        shift = {"one head": 0.0, "plain 4": 0.5, "cascade 4": -1.0}[head]
        score = lambda k: {"agreement": 0.9, "within classes": 13 + shift * (1 + k % 2) + k}
        runs = [
            {"setting": setting, "head": head, "seed": 8 * block + k, "last": score(k), "average": score(k)}
            for k in range(8)
        ]
        script.path(setting, head, block).write_text(json.dumps({"seconds": 1.0, "runs": runs}))

    monkeypatch.setattr(script, "RUNS", tmp_path)
    monkeypatch.setattr(script._common, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(script, "keep", keep)
    keep(*script.AGAIN[0])
    begun.clear()
    script.conditional()
    assert begun == [(head, block) for _, head, block in script.AGAIN[1:]]
    found = json.loads((tmp_path / "results" / "cascades-conditional.json").read_text())
    asked = found["question"]
    assert (asked["score"], asked["end"], asked["a"], asked["b"]) == script.QUESTION
    assert (asked["n"], asked["mean"]) == (16, -1.5) and asked["p"] < 1e-6
    assert len(found["others"]) == 11 and len(found["runs"]) == 48 and asked not in found["others"]
