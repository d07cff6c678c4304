"""`benchmarks/compare_cmrc.py`: the official rule, the windows, an interrupted run, and the stored record."""

from __future__ import annotations

import json
import random
import statistics
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from gantext_book.source import ROOT

from gantext.qa.questions import Passage, Record
from gantext.statistics import half_width

sys.path.insert(0, str(ROOT / "benchmarks"))
import compare_cmrc as script

RECORD = ROOT / "benchmarks" / "results" / "cmrc.json"


@pytest.mark.parametrize(
    ("prediction", "accepted", "em", "f1"),
    [
        ("光荣和ω-force", ["光荣和ω-force"], 1, 1),
        ("光荣", ["光荣和ω-force"], 0, 2 * 2 / (2 + 4)),  # 光 荣 和 ωforce
        ("《光荣》。", ["光荣"], 1, 1),  # signs do not count
        ("OMEGA Force", ["omega force"], 1, 1),
        ("甲乙丙丁", ["甲乙戊丙丁"], 0, 2 * 2 / (4 + 5)),  # the longest run, not the common characters
        ("丙", ["甲", "丙乙"], 0, 2 / 3),  # the best of what is accepted
        ("丁", ["甲"], 0, 0),
        ("", ["甲"], 0, 0),
        ("…甲", ["甲"], 0, 2 / 3),  # "……" is one sign of the program's list, "…" none
        ("3.5米", ["3.5 米"], 0, 1),  # EM sees blanks, F1 does not
    ],
)
def test_the_official_rule(prediction: str, accepted: list[str], em: float, f1: float) -> None:
    assert script.official(prediction, accepted) == (em, pytest.approx(f1))


def test_the_longest_run_is_that_of_all_runs() -> None:
    rng = random.Random(0)
    for _ in range(50):
        a, b = ("".join(rng.choices("abc", k=rng.randrange(12))) for _ in range(2))
        runs = [len(a[i:j]) for i in range(len(a)) for j in range(i + 1, len(a) + 1) if a[i:j] in b]
        assert script.longest_common(a, b) == max(runs, default=0)


def record(text: str, answer: str) -> Record:
    return Record("q", "什么？", (Passage(text, answer),), (answer,))


@pytest.mark.parametrize("n", [1, 159, 160, 161, 256, 257, 700])
def test_windows_cover_the_text_and_know_where_the_answer_is(n: int) -> None:
    text = "".join(chr(0x4E00 + k) for k in range(n))
    answer = text[n // 2 : n // 2 + 20]
    found = script.windows(record(text, answer))
    pieces = [p.text for p in found.passages]
    assert set("".join(pieces)) == set(text) and all(len(piece) <= script.WINDOW for piece in pieces)
    assert [text.index(piece) for piece in pieces] == [script.STRIDE * k for k in range(len(pieces))]
    assert all((p.answer == answer) == (answer in p.text) for p in found.passages)
    assert any(p.answer for p in found.passages)  # windows overlap by more than 20
    half = script.balanced(found, random.Random(0))
    useful = sum(bool(p.answer) for p in half.passages)
    assert useful == sum(bool(p.answer) for p in found.passages) and len(half.passages) <= 2 * useful


def test_the_interval_over_texts_knows_that_questions_of_one_text_go_together() -> None:
    scores = [float(k % 2) for k in range(40) for _ in range(5)]
    alone = script.by_texts(scores, [str(k) for k in range(200)])
    assert alone == pytest.approx(1.96 * statistics.stdev(scores) / 200**0.5)
    together = script.by_texts(scores, [str(k // 5) for k in range(200)])
    assert together == pytest.approx(1.96 * statistics.stdev([float(k % 2) for k in range(40)]) / 40**0.5)


def test_the_nearest_clause_shares_characters_with_the_question() -> None:
    text = "天气很好，光荣开发了这个游戏。别的事情。"
    assert script.nearest(text, "谁开发了游戏？", "。") == "天气很好，光荣开发了这个游戏"
    assert script.nearest(text, "谁开发了游戏？", "，。") == "光荣开发了这个游戏"


def files(folder: Path) -> None:
    """Two tiny files in the form of CMRC 2018."""
    for part, texts in (("dev", "甲乙丙丁戊"), ("trial", "己庚")):
        paragraphs = [
            {
                "context_id": f"{part}{k}",
                "context_text": f"{c}是一个字，后面还有别的字。" * 2,
                "title": c,
                "qas": [{"query_id": f"{part}{k}q", "query_text": "谁是一个字？", "answers": [c, f"{c}是"]}],
            }
            for k, c in enumerate(texts)
        ]
        (folder / f"cmrc2018_{part}.json").write_text(json.dumps(paragraphs), encoding="utf-8")


def test_a_run_goes_on_where_it_was_stopped_and_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files(tmp_path)
    monkeypatch.setattr(script, "RUNS", tmp_path)
    monkeypatch.setattr(script, "SIZES", {**script.SIZES, "width": 8, "heads": 2})
    monkeypatch.setattr(script, "LEAST", 1)
    monkeypatch.setattr(script._common, "RESULTS", tmp_path / "results")
    script.everything.cache_clear()
    fit, begun = script.fit, []

    def stopped(*given: Any, **options: Any) -> list[float]:
        usual = options["optimizers"]
        fit(*given, **options | {"save_every": 1, "optimizers": lambda model: interrupted(usual(model))})
        raise AssertionError("was not stopped")

    def interrupted(used: Any) -> Any:
        """The optimisers, the first of which is interrupted in its third step."""
        step = used[0].step

        def third(*more: Any) -> Any:
            begun.append(1)
            if len(begun) == 3:
                raise KeyboardInterrupt
            return step(*more)

        used[0].step = third
        return used

    monkeypatch.setattr(script, "fit", stopped)
    with pytest.raises(KeyboardInterrupt):
        script.keep(tmp_path, 0, steps=4)
    with pytest.raises(SystemExit, match="nothing is written"):
        script.report(tmp_path)
    monkeypatch.setattr(script, "fit", fit)
    for seed in (0, 1):
        script.keep(tmp_path, seed, steps=4)
    broken = torch.load(tmp_path / "0.pt")["losses"]
    (tmp_path / "0.pt").unlink()
    script.keep(tmp_path, 0, steps=4)
    assert broken == torch.load(tmp_path / "0.pt")["losses"]  # as one unbroken
    script.report(tmp_path)
    script.everything.cache_clear()
    found = json.loads((tmp_path / "results" / "cmrc.json").read_text(encoding="utf-8"))
    assert found["missing seeds"] == [2] and [run["seed"] for run in found["runs"]] == [0, 1]
    assert found["sizes"]["texts in both"] == 0 and found["sizes"]["asked"] == 2
    assert len(found["tables"][0]["rows"]) == 5 and len(torch.load(tmp_path / "0.pt")["losses"]) == 4
    assert not (tmp_path / "unfinished-0.pt").exists()


def test_without_the_files_the_other_comparisons_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script.main(tmp_path, 1)
    assert "cmrc2018_dev.json" in capsys.readouterr().err


def test_the_stored_record_follows_from_its_runs() -> None:
    found = json.loads(RECORD.read_text(encoding="utf-8"))
    for way, stored in found["ways"].items():
        for score in ("em", "f1"):
            of = [run["scores"][way][score] for run in found["runs"]]
            assert stored[score] == pytest.approx(statistics.fmean(of), rel=1e-3)
            if len(of) > 1:
                assert stored[f"{score}, half width, seeds"] == pytest.approx(half_width(of), rel=1e-2, abs=0.01)
    assert len(found["runs"]) + len(found["missing seeds"]) == len(script.SEEDS)
    assert found["settings"]["steps"] == script.STEPS and found["sizes"]["texts in both"] == 0
