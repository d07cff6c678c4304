"""`benchmarks/compare_images.py`: its order, its places, its verdicts, and that it goes on where it was stopped."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from gantext.gan import training
from gantext.gan.images import Images


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The script at a tiny size, on random digits, with its results in a folder of the test."""
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[2] / "benchmarks")
    import _common
    import compare_images

    monkeypatch.setattr(_common, "RESULTS", tmp_path)
    monkeypatch.setattr(_common, "environment", lambda *packages: {"device": "this", "versions": {}})
    tiny = dataclasses.replace(compare_images.SCALES["cpu"], width=2, steps=4, batch_size=4, save_every=2)
    monkeypatch.setitem(compare_images.SCALES, "cpu", tiny)
    monkeypatch.setattr(compare_images, "SAMPLES", 8)
    monkeypatch.setattr(compare_images, "RULER_STEPS", 2)
    rng = torch.Generator().manual_seed(0)
    part = lambda: Images(torch.randint(256, (80, 1, 28, 28), dtype=torch.uint8, generator=rng), torch.arange(80) % 10)
    parts = part(), part()
    monkeypatch.setattr(compare_images, "digits", lambda: parts)
    return compare_images


def test_every_search_comes_before_what_needs_it_and_the_first_question_first(bench: ModuleType) -> None:
    groups = tuple(group for group, _ in bench.ORDER)
    for scale in bench.SCALES.values():
        every = list(bench.tasks(scale, groups))
        assert len(every) == len(set(every))
        place = {task: k for k, task in enumerate(every)}
        for arm, rate, seed in every:
            if rate is None:
                leader = bench.ARMS[arm].rate_of or arm
                assert all(place[leader, tried, bench.SEARCH_SEED] < place[arm, rate, seed] for tried in scale.rates)
                assert seed != bench.SEARCH_SEED
        done = {(arm, seed) for arm, rate, seed in every if rate is None}
        assert done == set(itertools.product(bench.ARMS, range(scale.seeds)))
        first = every[: 2 * len(scale.rates) + 36]
        assert {bench.ARMS[arm].group for arm, _, _ in first} == {"places"}
        assert {seed for _, rate, seed in first if rate is None} == {0, 1, 2}


def test_the_six_places_are_where_their_names_say(bench: ModuleType) -> None:
    x, y = torch.zeros(64, 1, 2, 2) + 2, torch.zeros(64, 1, 2, 2)
    x += 0.1 * torch.rand(64, 1, 1, 1)
    rng = torch.Generator().manual_seed(0)
    found = {name: place(x, y, rng) for name, place in bench.PLACES.items()}
    near_real = {name: (points > 1.99).all(1).all(1).all(1).float().mean().item() for name, points in found.items()}
    near_fake = {name: (points == 0).all(1).all(1).all(1).float().mean().item() for name, points in found.items()}
    assert (near_real["real"], near_fake["real"]) == (1, 0) and (near_real["fake"], near_fake["fake"]) == (0, 1)
    for name in ("real and fake", "between reals, between fakes"):
        assert len(found[name]) == 128 and (near_real[name], near_fake[name]) == (0.5, 0.5)
    assert torch.equal(found["real and fake"], torch.cat([x, y]))
    moved = found["between reals, between fakes"][:64]
    assert moved.min() >= x.min() and moved.max() <= x.max() and not torch.equal(moved, x)
    assert near_real[bench.USUAL] + near_fake[bench.USUAL] < 0.05
    any_two = near_real["between any two"] + near_fake["between any two"]
    assert 0.25 < any_two < 0.75  # half of all pairs are of one kind
    constant = [points.flatten(1) for points in found.values()]
    assert all(torch.equal(points, points[:, :1].expand_as(points)) for points in constant)  # one number a sample


def runs(bench: ModuleType, values: dict[str, list[list[float]]]) -> list[dict[str, Any]]:
    made = []
    for game, places in values.items():
        for place, by_seed in zip(bench.PLACES, places, strict=True):
            for seed, value in enumerate(by_seed):
                scores = None if value == float("inf") else {"frechet, held out": value}
                made.append({"arm": f"{game}, {place}", "seed": seed, "searched": False, "scores": scores})
    return made


def test_verdicts_follow_from_the_runs(bench: ModuleType) -> None:
    gp, div = (
        [[10.0 ** (k + 1) * (1 + 0.01 * s) for s in range(3)] for k in range(6)],
        [[5.0 + 0.01 * s for s in range(3)]] * 6,
    )
    for values, verdicts in (
        ({"WGAN-GP": gp, "WGAN-div": div}, ["holds", "holds"]),
        ({"WGAN-GP": div, "WGAN-div": gp}, ["fails", "open"]),
        ({"WGAN-GP": gp, "WGAN-div": gp}, ["open", "open"]),
    ):
        found = bench.claims(runs(bench, values))
        assert [claim["verdict"] for claim in found] == verdicts
        assert all(claim["where"].startswith("3 of the 3 seeds") for claim in found)
    diverged = [gp[0], [float("inf"), *gp[1][1:]], *gp[2:]]
    found = bench.claims(runs(bench, {"WGAN-GP": diverged, "WGAN-div": div}))
    assert all(claim["where"].startswith("2 of the 3 seeds") for claim in found)
    assert bench.claims(runs(bench, {"WGAN-GP": [v[:1] for v in gp], "WGAN-div": [v[:1] for v in div]})) == []
    assert bench.claims([]) == []
    unfinished = runs(bench, {"WGAN-GP": gp, "WGAN-div": div})[:-2]  # the last place has one seed
    assert bench.claims(unfinished) == []


def test_a_stopped_run_goes_on_and_ends_as_the_unbroken_one(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    arm, searched = "O-GAN, correlation", 1e-3
    whole, broken = bench.Bench("cpu", tmp_path / "a"), bench.Bench("cpu", tmp_path / "b")
    whole.keep(arm, searched, 100)
    fit, steps = training.fit, []

    def stopped(*nets: Any, **options: Any) -> None:
        fit(*nets, **options | {"steps": 2})
        raise KeyboardInterrupt

    def counted(*nets: Any, **options: Any) -> training.Fit:
        return fit(*nets, **options, callbacks=[lambda run: steps.append(run.step)])

    monkeypatch.setattr(training, "fit", stopped)
    with pytest.raises(KeyboardInterrupt):
        broken.keep(arm, searched, 100)
    assert broken.finished() == []
    monkeypatch.setattr(training, "fit", counted)
    broken.keep(arm, searched, 100)
    assert steps == [3, 4]
    a, b = ({key: value for key, value in each.finished()[0].items() if key != "seconds"} for each in (whole, broken))
    assert a == b and {"reconstruction, error", "recall"} <= set(a["scores"])
    monkeypatch.setattr(training, "fit", stopped)
    with pytest.raises(KeyboardInterrupt):
        broken.keep(arm, searched, 101)
    monkeypatch.setattr(training, "fit", counted)
    broken.keep(arm, 3e-3, 100)  # another task begins anew, whatever was left unfinished
    assert steps[2:] == [1, 2, 3, 4]


def test_what_there_is_is_reported_and_a_divergence_counted(bench: ModuleType, tmp_path: Path) -> None:
    it = bench.Bench("cpu", tmp_path / "runs")
    for arm, rate, seed in ((bench.GP, 1e-3, 100), (bench.GP, 3e-3, 100), (bench.GP, None, 0), (bench.GP, None, 1)):
        it.keep(arm, rate, seed)
    torch.save({**torch.load(it.path(bench.GP, None, 1)), "scores": None, "average": None}, it.path(bench.GP, None, 1))
    for arm in ("hinge, spectral norm", "hinge, spectral norm, cascade 4"):
        for rate in it.scale.rates:
            it.keep(arm, rate, 100)
        it.train(arm, 1e-3, 0)
    it.report()
    written = json.loads((tmp_path / "images.json").read_text())
    assert written["complete"] is False and written["tasks"]["finished"] == 6
    assert written["budget"]["steps"] == 4 and written["ruler"]["name"].startswith("classifier of 80 digits")
    (table,) = written["tables"]  # of methods and heads there are only guests
    assert "4 steps" in table["title"]
    assert table["rows"][0][:2] == [bench.GP, "1 of 2"] and len(table["rows"]) == 1
    assert "±" not in "".join(table["rows"][0])  # one run has no interval
    assert {"frechet, held out", "recall"} <= set(table["head"])
