"""The sizes of the GAN chapters: their cells run, follow the device, and cost what their tables say."""

from __future__ import annotations

import contextlib
import re
import sys
from pathlib import Path
from typing import Any

import _pretended
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
import _gpu_chapters  # noqa: E402  # found by the path above
import scales  # noqa: E402  # found by the path above

CHAPTERS = tuple(scales.SIZES)
inside = pytest.mark.skipif(not _pretended.POSSIBLE, reason="this PyTorch lacks what a pretended GPU is made of")


def text(chapter: str) -> str:
    return (ROOT / "notebooks" / f"{chapter}.md").read_text(encoding="utf-8")


def minutes(time: str) -> float:
    number, unit = time.split()
    return float(number) * {"min": 1, "h": 60}[unit]


@pytest.mark.parametrize(("chapter", "size"), [(name, size) for name, sizes in scales.SIZES.items() for size in sizes])
def test_a_table_says_what_its_cells_cost(chapter: str, size: str) -> None:
    section = _gpu_chapters.SECTION.search(text(chapter))
    assert section
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in re.findall(r"^\|.*\|$", section[0], re.M)]
    column = rows[0].index(f'`"{size}"`')
    said = {row[0].split()[0]: row[column] for row in rows[2:]}
    runs = scales.trainings(chapter, size)
    found = scales.table(runs)
    assert float(said["TFLOP"]) == pytest.approx(float(found["tflop"]), rel=0.1)
    for ours, theirs in zip(said["time"].split(", "), found["time"].split(", "), strict=True):
        assert minutes(ours) == pytest.approx(minutes(theirs), rel=0.2, abs=1)
    steps = next(row[column] for row in rows if row[0].startswith(("generator steps", "steps")))
    assert {f"{run.steps:,}" for run in runs} == {re.findall(r"\d[\d,]+\d", steps)[1 if "epochs" in steps else 0]}
    if size == "gpu":
        assert minutes(said["time"].split(", ")[0]) <= 15  # what a chapter may take on a T4


def test_the_tables_of_transformers_say_what_their_steps_cost() -> None:
    told = 0
    for chapter, size, run in scales.texts():
        section = _gpu_chapters.SECTION.search(text(chapter))
        assert section
        rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in re.findall(r"^\|.*\|$", section[0], re.M)]
        (said,) = (row[rows[0].index(f'`"{size}"`')] for row in rows if row[0].startswith("time"))
        for ours, theirs in zip(said.split(", "), scales.table([run])["time"].split(", "), strict=True):
            assert minutes(ours) == pytest.approx(minutes(theirs), rel=0.2, abs=1), (chapter, size)
        if size == "gpu":
            assert minutes(said.split(", ")[0]) <= 15
        if counted := re.search(r"([\d,]+) steps of (\d+) operations that are no mere views", text(chapter)):
            found = run.steps, sum(o.bytes > 0 for o in run.step)
            assert found == (int(counted[1].replace(",", "")), int(counted[2]))
        told += 1
    assert told == 4


@pytest.mark.parametrize("pretended", [False, pytest.param(True, marks=inside)], ids=["here", "pretended"])
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_larger_cells_run_and_follow_the_device(chapter: str, pretended: bool) -> None:
    told: list[dict[str, Any]] = []
    path = ROOT / "notebooks" / f"{chapter}.md"
    before = sorted(path.parent.iterdir())
    chosen = _gpu_chapters.sizes(text(chapter))
    assert len(chosen) == 2
    with _pretended.gpu() if pretended else contextlib.nullcontext():
        found = _gpu_chapters.run(path, told.append, lambda: 1e9, only=chosen)
    assert found["run"] == 2 and found["cuts"] >= 2, found
    assert not [record for record in told if record["kind"] != "cut"], told[0]["error"]
    assert sorted(path.parent.iterdir()) == before  # no checkpoint is left


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_at_reduced_nothing_more_runs(chapter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, larger = _gpu_chapters.sizes(text(chapter))
    space: dict[str, Any] = {"SCALE": "reduced", "torch": torch}
    exec(larger.source, space)  # no other name of the chapter is needed
    assert callable(space["larger"])


def test_the_books_are_right_where_the_answer_is_known() -> None:
    a, b = torch.ones(3, 4, dtype=torch.float32), torch.ones(4, 5, dtype=torch.float32)
    with scales.Books() as books:
        product = a @ b
        product.T.reshape(5, 3).add_(1)
    by_name = {o.name.split(".")[1]: o for o in books.found}
    assert by_name["mm"].flop == 2 * 3 * 4 * 5 and by_name["mm"].bytes == 4 * (12 + 20 + 15)
    assert by_name["t"].bytes == 0 if "t" in by_name else by_name["permute"].bytes == 0
    assert by_name["add_"].bytes == 4 * 30 and not by_name["add_"].flop
    step = [
        scales.Operation("computes", 8.1e12, 1),  # 1 / 0.4 s on a T4
        scales.Operation("moves", 1, 300e9),  # 1 / 0.8 s
        scales.Operation("starts", 1, 1),  # 50 microseconds
        scales.Operation("looks", 0, 0),
    ]
    assert scales.Training("x", 2, step).seconds("T4") == pytest.approx(2 * (2.5 + 1.25 + 5e-5))
    assert scales.duration(step, 4e12, 100e9, 0.5) == pytest.approx(8.1 / 1.6 + 3.75 + 0.5)  # of another machine
    line = scales.at(64, [scales.Operation("x", 12, 20)], [scales.Operation("x", 13, 25)])
    assert line == [scales.Operation("x", 74, 330)]
    assert [scales.time_of(s) for s in (3, 600, 5400, 509 * 3600)] == ["1 min", "10 min", "1.5 h", "510 h"]
