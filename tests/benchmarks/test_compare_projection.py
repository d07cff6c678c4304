"""`benchmarks/compare_projection.py`: heads score as their formulas say, a sweep goes on where it stopped."""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from gantext.gan.cascades import cascade_ref
from gantext.gan.images import Images
from gantext.statistics import half_width

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
import compare_projection as script  # noqa: E402  # found by the path above

RECORD = ROOT / "benchmarks" / "results" / "projection.json"


def heads(number: int, cascade: bool, classes: int | None) -> script.Heads:
    """In evaluation mode, after so many power iterations that each weight is divided by its largest singular value."""
    torch.manual_seed(0)
    made = script.Heads(12, number, cascade, classes).double()
    for _ in range(100):
        made.directions()
    return made.eval()


def over_its_largest(layer: nn.Module) -> Tensor:
    raw = cast(Any, layer).parametrizations.weight.original
    return raw / torch.linalg.matrix_norm(raw, 2)


def test_one_head_is_the_projection_discriminator() -> None:
    """Miyato, Koyama 2018: w . v + e_y . v, w and the matrix of the e with spectral norm 1."""
    head, v, y = heads(1, False, 3), torch.randn(7, 12, dtype=torch.float64), torch.arange(7) % 3
    w, e = over_its_largest(head.weights[0])[0], over_its_largest(head.embeddings[0])
    assert torch.allclose(head(v, y)[:, 0], v @ w + (v * e[y]).sum(1), atol=1e-8)
    assert torch.allclose(heads(1, True, 3)(v, y), head(v, y))  # a cascade of one takes nothing away
    assert torch.allclose(heads(4, False, 3)(v, y)[:, :1], head(v, y))  # the first head of four is the same


@pytest.mark.parametrize("classes", [None, 3])
def test_a_cascade_scores_what_the_heads_before_it_left(classes: int | None) -> None:
    head, v, y = heads(4, True, classes), torch.randn(7, 12, dtype=torch.float64), torch.arange(7) % 3
    W = torch.cat([over_its_largest(layer) for layer in head.weights])  # (K, d)
    if classes:
        W = W + torch.stack([over_its_largest(layer)[y] for layer in head.embeddings], 1)  # (N, K, d)
    found = head(v, y if classes else None)
    assert torch.allclose(found, cascade_ref(v, W), atol=1e-7)
    U = head.directions()
    assert (U[..., 1:, :] @ U[..., :1, :].mT).abs().max() < 1e-9  # the others are orthogonal to the first
    plain = heads(4, False, classes)(v, y if classes else None)
    assert torch.allclose(plain, (W @ v[..., None])[..., 0] if classes else v @ W.mT, atol=1e-7)
    assert (plain - found)[:, 1:].abs().max() > 1e-3


def test_arms_of_one_seed_start_alike_and_are_of_one_form() -> None:
    for game in script.GAMES:
        made = {head: script.networks_of(game, head, 3) for head in script.HEADS}
        first, *others = ([net.state_dict() for net in nets] for nets in made.values())
        for other in others:  # generator, body, first head
            for one, two in zip(first, other, strict=True):
                assert all(torch.equal(two[name], value) for name, value in one.items())
        _, codes = script.samplers(game)
        rng = torch.Generator().manual_seed(0)
        for generator, critic in made.values():
            y = generator(codes(4, rng))
            assert y.shape == (4, 784 + 10 * (game == "conditional"))
            assert critic(y).shape == (4, len(cast(Any, critic).heads.weights))
            assert all("parametrizations" in name or "bias" in name for name, _ in critic.named_parameters())


@pytest.fixture(autouse=True)
def law(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise in the place of digits, which are not installed everywhere."""
    rng = torch.Generator().manual_seed(0)
    noise = lambda n: Images(torch.randint(256, (n, 1, 28, 28), generator=rng, dtype=torch.uint8), torch.arange(n) % 10)
    both = noise(150), noise(100)
    monkeypatch.setattr(script, "digits", lambda: both)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    monkeypatch.setattr(script, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(script._common, "RESULTS", tmp_path)
    versions = script._common.environment
    monkeypatch.setattr(script._common, "environment", lambda *names: versions(*(n for n in names if n != "mlxtend")))
    smaller = {"SAMPLES": 100, "EACH": 10, "STEPS": 2, "BATCH": 8, "WIDTH": 2, "RULER_STEPS": 3, "SEEDS": range(3)}
    for name, value in (smaller | {"LADDER": script.FIRST}).items():
        monkeypatch.setattr(script, name, value)
    caches = (script.ruler, script.judge, script.by_class)
    for cached in caches:
        cached.cache_clear()
    yield tmp_path / "projection.json"
    for cached in caches:
        cached.cache_clear()


def test_it_searches_stops_goes_on_and_counts_right(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    keep = script.keep

    def kept(*task: Any) -> None:
        if len([call for call in calls if call[2] is None]) == 8:  # two of the second seed
            raise KeyboardInterrupt
        calls.append(task)
        keep(*task)

    monkeypatch.setattr(script, "keep", kept)
    with pytest.raises(KeyboardInterrupt):
        script.main()
    first = json.loads(small.read_text(encoding="utf-8"))
    assert {run["seed"] for run in first["runs"]} == {0} and first["comparisons"] == []
    monkeypatch.setattr(script, "keep", lambda *task: (calls.append(task), keep(*task)))
    script.main()
    assert len(calls) == len(set(calls))  # nothing twice
    record = json.loads(small.read_text(encoding="utf-8"))
    assert record["tasks"] == {"finished": 6 * 3, "of": 6 * 3}
    assert [run for run in record["runs"] if run["seed"] == 0] == first["runs"]
    is_whole(record)


def is_whole(record: dict[str, Any]) -> None:
    """Tables and differences are those of the runs; a rate is the best that was tried, between two worse ones."""
    for run in record["runs"]:
        tried = {
            one["rate"]: math.inf if one["frechet, seen"] is None else one["frechet, seen"]
            for one in record["search"]
            if (one["game"], one["head"]) == (run["game"], run["head"])
        }
        assert tried[run["rate"]] == pytest.approx(min(tried.values()))
        assert script._common.next_rate(tried, script.LADDER, script.FIRST) is None
    assert record["tables"] == script.tables(record["runs"], record["comparisons"])
    asked = [script.Question(*(one[field] for field in script.Question._fields)) for one in record["comparisons"]]
    assert asked == script.QUESTIONS
    for question, one in zip(asked, record["comparisons"], strict=True):
        a, b = (
            script.values(record["runs"], question.game, head, question.score, question.end)
            for head in (question.of, question.minus)
        )
        gaps = [a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())]
        assert one["n"] == len(gaps) and one["mean"] == pytest.approx(statistics.fmean(gaps), abs=2e-4, rel=2e-3)
        assert one["half"] == pytest.approx(half_width(gaps), abs=2e-4, rel=2e-3) and one["p"] <= one["holm"] <= 1


def test_the_questions_are_those_of_the_protocol() -> None:
    families = [asked.family for asked in script.QUESTIONS]
    assert [families.count(name) for name in ("first", "again", "second")] == [4, 1, 11]
    assert len({asked[1:] for asked in script.QUESTIONS}) == 16


def test_the_record_is_whole() -> None:
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    is_whole(record)
    done = {(run["game"], run["head"], run["seed"]) for run in record["runs"]}
    assert done == {(*arm, seed) for arm in script.ARMS for seed in script.SEEDS}
    settings = record["settings"]
    assert (settings["seeds"], settings["steps"]) == (len(script.SEEDS), script.STEPS) == (5, 600)
