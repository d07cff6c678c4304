"""`benchmarks/compare_gans.py`: rates are searched to a worse one on either side, a sweep goes on where it stopped,
runs of the record stay as they are, all adds up.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from gantext.gan import laws
from gantext.statistics import half_width

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
import compare_gans as script  # noqa: E402  # found by the path above

RECORD = json.loads((ROOT / "benchmarks" / "results" / "gans.json").read_text(encoding="utf-8"))
CLIPPED = "WGAN, clipped, 5 critic steps"


def test_no_run_takes_the_place_of_another() -> None:
    rates = (None, *script.TASKS["digits"].ladder)
    runs = [(t, m, rate, seed) for t in script.TASKS for m in script.METHODS for rate in rates for seed in (0, 1)]
    assert len({script.path(*run) for run in runs}) == len(runs)


def test_a_search_begins_with_a_third_of_the_common_rate_that_and_three_times_it() -> None:
    digits = script.TASKS["digits"]
    assert digits.first == pytest.approx((4e-4 / 3, 4e-4, 1.2e-3), rel=0.01)
    assert [b / a for a, b in zip(digits.ladder, digits.ladder[1:], strict=False)] == pytest.approx([3] * 9, rel=0.01)
    assert script._common.rounded(list(digits.ladder)) == list(digits.ladder)  # a record gives a rate back as it was


def test_the_clipped_one_has_rmsprop_where_rates_are_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(script.training, "fit", lambda *_, **settings: made.append(settings["optimizer"]))
    for task in script.TASKS:
        for method in script.METHODS:
            script.train(task, method, 0.01, 0)
    given = dict(zip([(t, m) for t in script.TASKS for m in script.METHODS], made, strict=True))
    assert [key for key, optimizer in given.items() if optimizer] == [("digits", CLIPPED)]
    (one,) = (optimizer([torch.nn.Parameter(torch.zeros(1))]) for optimizer in made if optimizer)
    assert isinstance(one, torch.optim.RMSprop) and one.param_groups[0]["lr"] == 0.01


def test_what_is_known_by_heart_is_near_what_was_trained_on_only() -> None:
    found = script.scores("digits", laws.digits().sample(script.SAMPLES, torch.Generator().manual_seed(0)))
    assert found["frechet, seen"] < 0.3 and found["frechet, held out"] > 2 and found["precision, seen"] == 1
    held_out = script.scores("digits", laws.digits("test").sample(script.SAMPLES, torch.Generator().manual_seed(0)))
    assert held_out["frechet, held out"] < 0.6 and held_out["frechet, seen"] > 2
    assert found["nearest is seen"] == 1 and held_out["nearest is seen"] == 0


def test_a_share_by_lot_has_the_mean_and_the_spread_of_random_splits() -> None:
    rng = torch.Generator().manual_seed(0)
    x, real = torch.randn(60, 2, generator=rng), torch.randn(90, 2, generator=rng)
    found = [script.nearest(x, *real[torch.randperm(90, generator=rng)].split([60, 30])) for _ in range(2000)]
    shares = [one["nearest is seen"] for one in found]
    assert statistics.fmean(shares) == pytest.approx(60 / 90, abs=0.01)
    assert {round(one["by lot"], 9) for one in found} == {round(found[0]["by lot"], 9)}
    assert statistics.stdev(shares) == pytest.approx(found[0]["by lot"], rel=0.06)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(script, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(script._common, "RESULTS", tmp_path)
    monkeypatch.setattr(script._common, "ProcessPoolExecutor", ThreadPoolExecutor)
    monkeypatch.setattr(script, "ProcessPoolExecutor", ThreadPoolExecutor)
    monkeypatch.setattr(script, "SAMPLES", 1200)
    monkeypatch.setattr(script.metrics, "frechet_floor", lambda *_: script.metrics.Floor(0.0, 0.0))
    small = {name: script.Task(task.law, 2, 8, task.learning_rate, task.ladder) for name, task in script.TASKS.items()}
    monkeypatch.setattr(script, "TASKS", small)
    names = ["SGAN, non-saturating", "hinge", CLIPPED]
    monkeypatch.setattr(script, "METHODS", {name: script.METHODS[name] for name in names})
    return tmp_path / "gans.json"


def test_it_searches_stops_goes_on_and_keeps_what_was_not_asked_for(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    keep = script.keep

    def kept(*run: Any) -> None:
        if len(calls) == 25:
            raise KeyboardInterrupt
        calls.append(run)
        keep(*run)

    monkeypatch.setattr(script, "keep", kept)
    with pytest.raises(KeyboardInterrupt):
        script.main(list(script.TASKS), range(3), 1)
    assert not small.exists()
    monkeypatch.setattr(script, "keep", lambda *run: (calls.append(run), keep(*run)))
    script.main(list(script.TASKS), range(3), 1)
    assert len(calls) == len(set(calls))  # nothing twice
    first = json.loads(small.read_text(encoding="utf-8"))
    is_whole(first, 3)
    first["measured"]["ring"]["date"] = "long ago"
    small.write_text(json.dumps(first), encoding="utf-8")
    for file in [*script.RUNS.glob("ring-*"), *script.RUNS.glob("grid-*")]:
        file.unlink()
    script.main(["digits"], range(3), 1)
    second = json.loads(small.read_text(encoding="utf-8"))
    assert second["runs"] == first["runs"] and second["measured"]["ring"]["date"] == "long ago"
    assert second["times"]["ring"] == first["times"]["ring"]
    is_whole(second, 3)


def is_whole(record: dict[str, Any], seeds: int) -> None:
    """Tables and differences are those of the runs; a rate is the best that was tried, between two worse ones."""
    runs, ladder = record["runs"], script.TASKS["digits"].ladder
    done = [(run["task"], run["method"], run["seed"]) for run in runs]
    assert done == [(t, m, s) for t in script.TASKS for m in script.METHODS for s in range(seeds)]
    assert record["tables"] == script.tables(runs, record["times"], record["comparisons"])
    assert record["comparisons"] == script.comparisons(runs)
    for method, rate in record["rates"]["digits"].items():
        tried = {
            one["rate"]: math.inf if one["frechet, seen"] is None else one["frechet, seen"]
            for one in record["search"]
            if one["method"] == method
        }
        assert tried[rate] == min(tried.values()) < math.inf and set(script.TASKS["digits"].first) <= set(tried)
        at = ladder.index(rate)
        assert {*ladder[max(0, at - 1) : at + 2]} <= set(tried)  # a worse one on either side, or the ladder ends
        assert {run["rate"] for run in runs if (run["task"], run["method"]) == ("digits", method)} == {rate}
    for one in record["comparisons"]:
        a, b = (script.logs(runs, one[way], one["score"], one["end"]) for way in ("of", "minus"))
        gaps = [a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())]
        assert one["n"] == len(gaps) and one["mean"] == pytest.approx(statistics.fmean(gaps), abs=2e-4, rel=1e-3)
        assert one["half"] == pytest.approx(half_width(gaps), rel=1e-3) and one["p"] <= one["holm"] <= 1


def test_the_record_is_whole() -> None:
    is_whole(RECORD, len(script.SEEDS))
    assert {task: one["rate"] for task, one in RECORD["measured"].items()} == {
        "ring": 0.001, "grid": 0.001, "digits": "searched by each way",
    }  # fmt: skip
    assert all(one["seeds"] == 8 and one["date"] and one["device"] for one in RECORD["measured"].values())


def test_every_search_of_the_record_ended_between_two_worse_rates() -> None:
    ladder = script.TASKS["digits"].ladder
    for rate in RECORD["rates"]["digits"].values():
        assert 0 < ladder.index(rate) < len(ladder) - 1
