"""`benchmarks/compare_ogan_bases.py`: runs of every arm, paired tests, and verdicts that a table decides."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from gantext_book.source import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import compare_ogan
import compare_ogan_bases as script


def test_every_run_has_a_file_of_its_own_and_its_arm_a_search() -> None:
    every = [*script.searches(), *script.runs()]
    assert len({script.path(*run) for run in every}) == len(every) == 4 * 2 * (3 + 8)
    assert {run[:2] for run in script.searches()} == {run[:2] for run in script.runs()}
    assert script.SEARCH_SEED not in script.SEEDS


def test_the_rate_is_the_search_s_and_a_run_is_judged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(script, "RUNS", tmp_path)
    monkeypatch.setattr(compare_ogan, "STEPS", 2)
    monkeypatch.setattr(compare_ogan, "SAMPLES", 300)
    for rate, distance in zip(script.RATES, (None, 3.0, 5.0), strict=True):  # the first diverged
        scores = distance and {"frechet": distance}
        torch.save({"scores": scores}, script.path("hinge", script.TERM, rate, script.SEARCH_SEED))
    script.keep("hinge", script.TERM, None, 7)
    kept = torch.load(script.path("hinge", script.TERM, None, 7))
    assert kept["rate"] == script.RATES[1] and not kept["searched"]
    assert set(script.COLUMNS) == set(kept["scores"])
    assert all(torch.tensor(value).isfinite() for value in kept["scores"].values())


def test_differences_are_paired_and_corrected_together() -> None:
    found: list[dict[str, Any]] = []
    for base in script.BASES:
        for seed in script.SEEDS:
            noise = torch.rand(2, generator=torch.Generator().manual_seed(seed)).tolist()
            for weight in script.WEIGHTS:
                gain = 0.5 if weight and base != "hinge" else 0.0
                worse = 10 ** (0.3 + 0.01 * seed) if weight and base == "WGAN-div" else 1.0
                scores = {"agreement": 0.1 * noise[0] + gain + 0.01 * seed * bool(weight)}
                scores |= {"frechet, held out": (1 + noise[bool(weight)]) * worse}
                found.append({"base": base, "weight": weight, "seed": seed, "searched": False, "scores": scores})
    found[0]["scores"] = None  # diverged: its pair is left out
    made = script.tests(found)
    assert len(made) == 8 and made[0]["n"] == 7 and made[1]["n"] == 8
    assert sorted(one["holm"] for one in made if "holm" in one)[0] > 0
    assert all(one["holm"] >= one["p"] for one in made if "holm" in one)
    kinds = {claim["claim"].partition(":")[0]: claim["verdict"] for claim in script.claims(made[:4])}
    assert kinds["non-saturating"] == kinds["WGAN-div"] == "holds"
    cost = {one["base"]: one for one in made[4:]}
    pairs = [torch.rand(2, generator=torch.Generator().manual_seed(seed)) for seed in script.SEEDS]
    gains = [(0.3 + 0.01 * k + ((1 + pair[1]) / (1 + pair[0])).log10()).item() for k, pair in enumerate(pairs)]
    assert cost["WGAN-div"]["mean"] == pytest.approx(sum(gains) / 8, rel=1e-6)
