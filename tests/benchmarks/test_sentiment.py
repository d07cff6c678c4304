"""The comparison on the article's reviews: each counts once, every way starts alike, the record is its runs'."""

from __future__ import annotations

import json
import math
import re
import statistics
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from gantext.statistics import half_width

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "benchmarks" / "results" / "sentiment.json"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import compare_sentiment

    monkeypatch.setattr(compare_sentiment, "RUNS", tmp_path / "runs")
    yield compare_sentiment
    compare_sentiment.data.cache_clear()
    compare_sentiment.classifier.cache_clear()


def packed(folder: Path, **parts: list[tuple[str, int]]) -> Path:
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "sentiment.zip", "w") as archive:
        for part in ("train", "valid", "test"):
            lines = "\n".join(f"{text}\t{label}" for text, label in parts.get(part, []))
            archive.writestr(f"sentiment/sentiment.{part}.data", lines + "\n")
    return folder / "sentiment.zip"


def test_a_review_counts_once_and_is_tested_on_only_where_it_was_not_learned(script: Any, tmp_path: Path) -> None:
    archive = packed(
        tmp_path,
        train=[("好\t书", 1), ("差", 0), ("好\t书", 1), ("都说", 0), ("都说", 1)],
        valid=[("差", 0), ("一般", 0)],
        test=[("好\t书", 1), ("一般", 0), ("新", 1), ("新", 1), ("都说", 1)],
    )
    parts, sizes = script.split(archive)
    assert parts == {"train": [("好\t书", 1), ("差", 0)], "valid": [("一般", 0)], "test": [("新", 1)]}
    assert sizes["test, as published"] == 5 and sizes["with both labels"] == 1
    assert sizes["test, also in train or valid"] == 3


def tiny(script: Any, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """Reviews of which one character in four tells the label, and sizes for seconds."""
    sizes = {"VOCABULARY": 30, "WIDTH": 16, "LAYERS": 1, "CONDITION": 4, "LENGTH": 8, "CLASSIFIED": 100, "WARM": 5}
    sizes |= {"BASE_STEPS": 60, "STEPS": 80, "LATE_STEPS": 80, "DRAWN": 40, "BETWEEN": 20}
    sizes |= {"RATES": (5e-5, 1e-4, 5e-4, 1e-3, 2e-3), "OWN_RATES": (1e-4, 3e-4, 1e-3, 6e-3, 3e-2)}
    for name, value in sizes.items():
        monkeypatch.setattr(script, name, value)
    rng = torch.Generator().manual_seed(0)

    def reviews(count: int) -> list[tuple[str, int]]:
        rows = []
        for k in range(count):
            letters = [chr(ord("甲") + int(i)) for i in torch.randint(12, (6,), generator=rng)]
            own = "好妙佳美" if k % 2 else "差坏烂劣"
            for place in torch.randperm(6, generator=rng)[:3].tolist():
                letters[place] = own[int(torch.randint(4, (1,), generator=rng))]
            rows.append(("".join(letters), k % 2))
        return rows

    return packed(folder, train=reviews(400), valid=reviews(40), test=reviews(100))


def test_every_way_starts_as_the_model_that_is_told_nothing(
    script: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    parts = script.data(tiny(script, monkeypatch, tmp_path))
    wish, starts = parts.test.labels.float(), {}
    for method in script.METHODS:
        torch.manual_seed(0)
        told = script.Told(method, script.language_model(), script.words_of(parts))
        starts[method] = script.nats(told, parts.test, wish)
        assert starts[method].shape == wish.shape
        if method == script.PROMPT:  # a character has a meaning: all the others are the same, and that is no start
            assert (starts[method] - starts[script.NONE]).abs().min() > 0
            written = parts.test.tokens.clone()
            written[:, 0] = torch.tensor(told.words)[parts.test.labels]
            plain = script.Told(script.NONE, told.net, told.words)
            torch.testing.assert_close(script.nats(plain, script.Reviews(written, wish), wish), starts[method])
        else:
            torch.testing.assert_close(starts[method], starts[script.NONE])
        if method == script.NONE:
            continue
        if method != script.PROMPT:
            torch.nn.init.normal_(told.classes.weight)  # and hears the wish from then on
        for name, parameter in told.net.named_parameters():
            if ".W_" in f".{name}":
                torch.nn.init.normal_(parameter)
        heard = script.nats(told, parts.test, wish)
        assert method == script.PROMPT or (heard - starts[method]).abs().min() > 0
        other = script.nats(told, parts.test, 1 - wish)
        assert (heard - other).abs().min() > 0
        # one wish for all, as in writing, is the same wish for each
        one = script.nats(told, parts.test, torch.ones_like(wish))
        each = torch.where(wish == 1, heard, other)
        torch.testing.assert_close(one, each)


def test_padding_and_later_pieces_change_no_target(
    script: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    archive = tiny(script, monkeypatch, tmp_path)
    parts = script.data(archive)
    assert (script.lengths(parts.test) == 7).all()  # six characters and the end
    torch.manual_seed(0)
    told = script.Told(script.CODE, script.language_model(), script.words_of(parts))
    torch.nn.init.normal_(told.classes.weight)
    short = script.Reviews(parts.test.tokens[:, :9], parts.test.labels)
    wish = parts.test.labels.float()
    torch.testing.assert_close(script.nats(told, short, wish), script.nats(told, parts.test, wish))


def test_a_sweep_learns_to_obey_goes_on_where_it_stopped_and_counts_right(
    script: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    archive = tiny(script, monkeypatch, tmp_path / "data")
    calls: list[tuple[Any, ...]] = []

    def sweep(keep: Any, runs: list[tuple[Any, ...]], path: Any, jobs: int) -> None:
        script.RUNS.mkdir(exist_ok=True)
        for run in runs:
            if not path(*run).exists():
                calls.append(run)
                keep(*run)

    monkeypatch.setattr(script._common, "sweep", sweep)
    monkeypatch.setattr(script._common, "RESULTS", tmp_path)
    script.main(archive.parent, [0, 1, 2], 1)
    assert len(calls) == len(set(calls)) and len(calls) - 1 - 1 - 6 * 3 in range(5 * 3, 5 * 5 + 1)
    first = json.loads((tmp_path / "sentiment.json").read_text(encoding="utf-8"))
    script.path("told", script.ALL, 1).unlink()
    calls.clear()
    script.main(archive.parent, [0, 1, 2], 1)
    assert calls == [("told", script.ALL, 1)]
    record = json.loads((tmp_path / "sentiment.json").read_text(encoding="utf-8"))
    assert record["runs"] == first["runs"] and record["comparisons"] == first["comparisons"]
    late = record["late"]
    assert (late["method"], late["steps"]) == (script.ALL, 80) and late["guessed"] > 0.9
    for run in [late, *record["runs"]]:
        assert all(len(run["seen"][wish]) == len(texts) for wish, texts in run["samples"].items())
        if run["method"] == script.NONE:
            assert "wrong" not in run and run["none"] == run["right"]
            continue
        assert run["right"] < run["none"] < run["wrong"] and run["guessed"] > 0.9 and run["obeyed"] > 0.8, run
        assert run["none"] - run["right"] <= record["ceiling"]  # a label tells log 2 a text at most
        assert run["obeyed"] == pytest.approx(((40 - run["good"]["0.0"]) + run["good"]["1.0"]) / 80)
        assert {t: run["drawn"][t] for t in ("0.0", "0.5")} == {"0.0": 40, "0.5": 20}
    for one in record["comparisons"]:
        assert one["p"] <= one["holm"] <= 1 and one["n"] == 3 and one["detectable"] >= 0
        assert is_of_the_runs(one, record["runs"])


def test_without_the_reviews_the_other_comparisons_go_on(
    script: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        script.main(tmp_path / "nowhere", [0], 1)
    said = capsys.readouterr().err
    assert end.value.code == 0 and said.startswith("not run: ") and "sentiment.zip is not there" in said
    assert "--data" in said


def is_of_the_runs(one: dict[str, Any], runs: list[dict[str, Any]]) -> bool:
    """A difference is that of its runs, as far as four digits of each tell; mean and interval are those of its gaps."""
    of = lambda name: [run[one["score"]] for run in runs if run["method"] == name]
    for gap, a, b in zip(one["gaps"], of(one["of"]), of(one["minus"]), strict=True):
        assert math.isclose(gap, a - b, abs_tol=2e-3)
    assert math.isclose(one["mean"], statistics.fmean(one["gaps"]), rel_tol=1e-3, abs_tol=1e-6)
    if len(one["gaps"]) > 2:
        digits = 2e-3 * max(map(abs, one["gaps"]))  # what rounding to four of them may do, times Student's 4.3
        assert math.isclose(one["half width"], half_width(one["gaps"]), rel_tol=1e-3, abs_tol=digits + 1e-6)
    return True


def test_the_record_is_whole_and_its_tables_are_those_of_its_runs(script: Any) -> None:
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    seeds = record["settings"]["seeds"]
    assert [(run["method"], run["seed"]) for run in record["runs"]] == [(m, s) for s in seeds for m in script.METHODS]
    assert record["tables"] == script.tables(record["runs"], record["comparisons"])
    assert {one["method"] for one in record["search"]} == {*script.METHODS} - {script.PROMPT}
    for run in record["runs"]:
        if run["method"] == script.PROMPT:  # adds nothing to be searched for
            assert run["rate"] == next(r["rate"] for r in record["runs"] if r["method"] == script.NONE)
            continue
        tried = {one["rate"]: one["above the best"] for one in record["search"] if one["method"] == run["method"]}
        assert tried[run["rate"]] == min(tried.values())
        ladder = script.ladder(run["method"])
        assert script._common.next_rate(tried, ladder, ladder[2:5]) is None
        assert run["rate"] not in (ladder[0], ladder[-1])  # a worse one was tried on either side
    for one in record["comparisons"]:
        assert is_of_the_runs(one, record["runs"])
    sizes = record["sizes"]
    assert (sizes["train, as published"], sizes["valid, as published"], sizes["test, as published"]) == (
        16883,
        2111,
        2111,
    )


def test_the_tables_of_the_page_are_the_records() -> None:
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    cells = json.loads((ROOT / "notebooks" / "conditional-layer-norm.ipynb").read_text(encoding="utf-8"))["cells"]
    mark = "book.table(head, compared"
    (cell,) = [c for c in cells if c["cell_type"] == "code" and mark in "".join(c["source"])]
    page = "".join("".join(output["data"]["text/html"]) for output in cell["outputs"])
    page = page.replace("\xa0", " ").replace("&nbsp;", " ")
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", page)]
    first, second = record["tables"]
    differences = [  # in one column what is compared, in another the mean and its interval; p is left to the record
        [score, f"{one} − {other}", f"{mean.replace('-', '−')} ± {seeds}", texts, holm, found]
        for score, one, other, mean, seeds, texts, _, holm, found in second["rows"]
    ]
    assert rows[: 1 + len(first["rows"])] == [first["head"], *first["rows"]]
    assert rows[2 + len(first["rows"]) :] == differences and len(differences) > 10
