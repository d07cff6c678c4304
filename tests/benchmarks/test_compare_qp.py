"""`benchmarks/compare_qp.py`: lambda is scaled as Su scales it, a sweep goes on where it stopped, all adds up."""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from gantext.gan.images import Images
from gantext.gan.methods import Batch
from gantext.statistics import half_width

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
import compare_qp as script  # noqa: E402  # found by the path above

RECORD = ROOT / "benchmarks" / "results" / "qp.json"


def test_lambda_times_distance_is_the_same_for_one_picture_at_every_resolution() -> None:
    """10 / D of a sum over D numbers, 10 / D^(1/2) of a root of one: ten times the mean, the root mean square."""
    for pixels in script.SIZES:
        real, fake = (torch.full((3, 1, pixels, pixels), level) for level in (0.5, -0.1))
        batch = Batch(real, fake, None, torch.Generator())
        for norm in ("L1", "L2"):
            for suffix, times in (("", 1.0), (", 0.1 λ", 0.1), (", 10 λ", 10.0)):
                game = script.ARMS[f"GAN-QP, {norm}{suffix}"].game(pixels**2)
                score = lambda x: x.mean((1, 2, 3))  # real above fake by 0.6, at a distance lambda d of 6 times
                loss = game.critic_loss(score, batch).item()
                assert loss == pytest.approx(-0.6 + 0.6**2 / (2 * 6 * times), rel=1e-4)


def test_no_run_takes_the_place_of_another() -> None:
    tasks = [
        (p, arm, rate, seed) for p in script.SIZES for arm in script.ARMS for rate in (None, 1e-3) for seed in (0, 1)
    ]
    assert len({script.path(*task) for task in tasks}) == len(tasks)


def test_all_sizes_are_looked_at_in_28_pixels() -> None:
    x = torch.rand(2, 1, 28, 28)
    assert script.resized(x, 28) is x
    for pixels in script.SIZES:
        size = script.SIZES[pixels]._replace(width=2)
        generator, critic = script.networks_of(size, spectral=True)
        y = generator(torch.randn(4, script.LATENT))
        assert y.shape == (4, 1, pixels, pixels) and critic(y).shape == (4,)
        assert script.made(generator, 0).shape == (script.SAMPLES, 1, 28, 28)
        assert any("parametrizations" in name for name in critic.state_dict())
        assert not any("parametrizations" in name for name in script.networks_of(size, False)[1].state_dict())


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    rng = torch.Generator().manual_seed(0)
    law = lambda n: Images(torch.randint(256, (n, 1, 28, 28), generator=rng, dtype=torch.uint8), torch.arange(n) % 10)
    both = law(150), law(90)
    monkeypatch.setattr(script, "digits", lambda: both)
    monkeypatch.setattr(script, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(script._common, "RESULTS", tmp_path)
    versions = script._common.environment
    monkeypatch.setattr(script._common, "environment", lambda *names: versions(*(n for n in names if n != "mlxtend")))
    for name, value in {"SAMPLES": 90, "BATCH": 8, "RULER_STEPS": 3, "SEEDS": range(3)}.items():
        monkeypatch.setattr(script, name, value)
    monkeypatch.setattr(script, "SIZES", {8: script.Size(8, 3, 0), 28: script.Size(28, 2, 2)})
    names = ["GAN-QP, L1", "GAN-QP, L2", *script.RIVALS, "GAN-QP, L1, 10 λ"]
    monkeypatch.setattr(script, "ARMS", {name: script.ARMS[name] for name in names})
    script.ruler.cache_clear()
    yield tmp_path / "qp.json"
    script.ruler.cache_clear()


def test_it_searches_stops_goes_on_and_counts_right(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    keep = script.keep

    def kept(*task: Any) -> None:
        if len(calls) == 40:
            raise KeyboardInterrupt
        calls.append(task)
        keep(*task)

    monkeypatch.setattr(script, "keep", kept)
    with pytest.raises(KeyboardInterrupt):
        script.main([8, 28])
    first = json.loads(small.read_text(encoding="utf-8"))
    assert {run["pixels"] for run in first["runs"]} == {8}
    monkeypatch.setattr(script, "keep", lambda *task: (calls.append(task), keep(*task)))
    script.main([8, 28])
    assert len(calls) == len(set(calls))  # nothing twice
    record = json.loads(small.read_text(encoding="utf-8"))
    assert record["tasks"] == {"finished": 2 * 6 * 3, "of": 2 * 6 * 3}
    assert [run for run in record["runs"] if run["pixels"] == 8] == first["runs"]
    is_whole(record)


def is_whole(record: dict[str, Any]) -> None:
    """Tables and differences are those of the runs; a rate is the best that was tried, between two worse ones."""
    for run in record["runs"]:
        leader = script.ARMS[run["arm"]].rate_of or run["arm"]
        tried = {
            one["rate"]: math.inf if one["frechet, seen"] is None else one["frechet, seen"]
            for one in record["search"]
            if (one["pixels"], one["arm"]) == (run["pixels"], leader)
        }
        assert tried[run["rate"]] == min(tried.values())
        assert script._common.next_rate(tried, script.LADDER, script.FIRST) is None
    assert record["tables"] == script.tables(record["runs"], record["comparisons"])
    for one in record["comparisons"]:
        a, b = (script.held_out(record["runs"], one["pixels"], one[arm]) for arm in ("of", "minus"))
        gaps = [a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())]
        assert one["n"] == len(gaps) and one["mean"] == pytest.approx(statistics.fmean(gaps), abs=2e-4, rel=1e-3)
        assert one["half"] == pytest.approx(half_width(gaps), rel=1e-3) and one["p"] <= one["holm"] <= 1


def test_the_record_is_whole() -> None:
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    is_whole(record)
    done = {(run["pixels"], run["arm"], run["seed"]) for run in record["runs"]}
    pixels = sorted({run["pixels"] for run in record["runs"]})
    assert done == {(p, arm, seed) for p in pixels for arm in script.ARMS for seed in script.SEEDS}  # no half sizes
    assert record["settings"]["seeds"] == len(script.SEEDS) == 5
