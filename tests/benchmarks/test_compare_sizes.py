"""What SCALE = "gpu" trains: the chapters' own cells are run, resumed and kept; the record is what the pages show."""

from __future__ import annotations

import base64
import functools
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gantext.gan import features, images, training

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
import _common  # noqa: E402  # found by the path above
import compare_sizes  # noqa: E402  # found by the path above
from _gpu_chapters import SECTION  # noqa: E402  # found by the path above


def test_a_chapter_is_run_by_its_own_cells_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []

    def short(*given: Any, **settings: Any) -> training.Fit:
        run = training.Recipe(steps=settings["steps"])
        assert run.steps == 2000  # of the chapter
        few = {**settings, "steps": 2, "batch_size": 4, "progress": False}
        few["callbacks"] = [*settings["callbacks"], lambda run: begun.append(run.step)]
        return fit(*given, **few)

    def some(*_: object, **__: object) -> images.Images:
        pixels = torch.randint(256, (1000, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        return images.Images(pixels, torch.arange(1000) % 10)

    fit, runs = training.fit, tmp_path / "runs"
    runs.mkdir()
    monkeypatch.setattr(compare_sizes, "RUNS", runs)
    monkeypatch.setattr(compare_sizes, "FIT", short)
    monkeypatch.setattr(features, "classifier_ruler", functools.partial(features.classifier_ruler, steps=1))
    monkeypatch.setattr(images, "images", some)
    first = compare_sizes.chapter("gan-qp")
    assert [run["game"] for run in first] == ["GAN-QP-L1", "GAN-QP-L2"] and begun == [1, 2, 1, 2]
    assert sorted(file.name for file in runs.glob("*.pt")) == [
        "GAN-QP-L1-batch-norm-gpu.pt",
        "GAN-QP-L2-batch-norm-gpu.pt",
    ]
    assert training.fit is fit  # what was watched is as it was
    again = compare_sizes.chapter("gan-qp")
    assert len(begun) == 4, "a finished training was trained again"
    for one, other in zip(first, again, strict=True):
        assert one["processor ms a step"] > 0 and "processor ms a step" not in other
        assert one["scores"] == other["scores"] and one["pictures"] == other["pictures"]
        with Image.open(io.BytesIO(base64.b64decode(one["pictures"][one["game"]]))) as picture:
            assert picture.size == (8 * 28, 4 * 28) and np.asarray(picture).std() > 0


def test_a_picture_is_its_images_row_by_row() -> None:
    levels = torch.linspace(-1, 1, 16)[:, None, None, None].expand(16, 1, 2, 2)
    with Image.open(io.BytesIO(base64.b64decode(compare_sizes.picture(levels)))) as picture:
        shown = np.asarray(picture)
    assert shown.shape == (4, 16) and shown[0, ::2].tolist() == [0, 17, 34, 51, 68, 85, 102, 119]
    assert shown[2, ::2].tolist() == [136, 153, 170, 187, 204, 221, 238, 255]


def test_the_record_is_of_the_sizes_that_the_pages_tell() -> None:
    record = json.loads((_common.RESULTS / "sizes.json").read_text(encoding="utf-8"))
    assert record["tables"] == [compare_sizes.table(record["chapters"])]
    texts = {name: (ROOT / "notebooks" / f"{name}.md").read_text(encoding="utf-8") for name in compare_sizes.SIZES}
    shown = [name for name, text in texts.items() if 'book.record("sizes", EDITION)' in text]
    assert list(record["chapters"]) == shown and record["complete"] == (len(shown) == len(texts))
    assert all("been trained" in text for name, text in texts.items() if name not in shown)
    for name, runs in record["chapters"].items():
        section = SECTION.search(texts[name])
        assert section
        rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in re.findall(r"^\|.*\|$", section[0], re.M)]
        column = rows[0].index('`"gpu"`')
        (steps,) = (row[column] for row in rows if row[0].startswith(("generator steps", "steps")))
        assert {f"{run['steps']:,}" for run in runs} == {steps}, name
        assert all(run["scores"]["images"] == 1000 and run["pictures"] for run in runs)


def test_an_unknown_chapter_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["compare_sizes.py", "gan-pq"])
    with pytest.raises(SystemExit):
        compare_sizes.main()
    assert "no sizes in gan-pq: wasserstein" in capsys.readouterr().err
