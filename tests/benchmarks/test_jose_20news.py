"""The comparison on 20 Newsgroups: how the messages are chosen and ordered, what a run keeps, and the stored record."""

from __future__ import annotations

import io
import json
import re
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gantext_book.source import ROOT

from gantext.statistics import half_width

sys.path.insert(0, str(ROOT / "benchmarks"))
import compare_jose as script

GROUPS = [f"group{k:02d}" for k in range(20)]
RECORD = ROOT / "benchmarks" / "results" / "jose-20news.json"


def post(group: str, name: str, day: int, **changed: str) -> str:
    """A message of so early a day in April 1993."""
    fields = {
        "Path": "a!b",
        "From": f"{name}@x",
        "Newsgroups": group,
        "Subject": name,
        "Message-ID": f"<{group}-{name}>",
        "Date": f"{day} Apr 1993 10:00:00 GMT",
        **changed,
    }
    body = fields.pop("body", f"text of {name}")
    return "".join(f"{k}: {v}\n" for k, v in fields.items()) + "\n" + body + "\n"


def archive(folder: Path, posts: dict[str, dict[int, str]]) -> Path:
    path = folder / "20_newsgroups.tar.xz"
    with tarfile.open(path, "w:xz") as tar:
        for group, messages in posts.items():
            for number, text in messages.items():
                info = tarfile.TarInfo(f"20_newsgroups/{group}/{number}")
                info.size = len(text.encode("latin-1"))
                tar.addfile(info, io.BytesIO(text.encode("latin-1")))
    return path


def usual() -> dict[str, dict[int, str]]:
    """Four messages a group; the numbers do not follow the days."""
    return {g: {10: post(g, "late", 9), 11: post(g, "first", 1), 9: post(g, "mid", 5), 30: post(g, "end", 20)}
            for g in GROUPS}  # fmt: skip


LABELS = [*[k for k in range(20) for _ in range(2)], *range(20)]  # two of each for training, one for the test


def test_messages_are_the_earliest_of_each_topic_in_the_order_of_the_labels(tmp_path: Path) -> None:
    found = script.from_archive(archive(tmp_path, usual()), LABELS)
    assert (found.train, found.topics.tolist()) == (40, LABELS)
    subjects = [text.split("Subject: ")[1].split("\n")[0] for text in found.texts]
    assert subjects[:2] == ["mid", "first"]  # the two earliest, by number
    assert set(subjects[40:]) == {"late"}  # then the third by date, and never the last


def test_cross_posts_go_from_every_group_and_copies_come_last(tmp_path: Path) -> None:
    posts = usual()
    both = {"Message-ID": "<both>"}
    posts["group03"][11] = post("group03", "cross", 1, **both)
    posts["group04"][11] = post("group04", "cross", 1, **both)
    posts["group05"][12] = post("group05", "first", 2, **{"Message-ID": "<again>"})  # the words of number 11
    found = script.from_archive(archive(tmp_path, posts), LABELS)
    assert not any("cross" in text for text in found.texts)
    of = lambda topic: [t for t, y in zip(found.texts, found.topics, strict=True) if y == topic]
    assert sum("Subject: first" in text for text in of(5)) == 1
    assert any("Subject: end" in text for text in of(3))  # what is left of that group


def test_an_archive_that_does_not_fit_its_labels_is_refused(tmp_path: Path) -> None:
    posts = usual()
    whole = archive(tmp_path, posts)
    with pytest.raises(ValueError, match="group00 has 4 messages of its own, must have 5"):
        script.from_archive(whole, [*[0] * 4, *LABELS[2:40], *range(20)])
    with pytest.raises(ValueError, match="order is not that of the labels"):
        script.from_archive(whole, [*LABELS[:40], 1, 0, *range(2, 20)])
    del posts["group07"]
    with pytest.raises(ValueError, match="has 19 groups, must have 20"):
        script.from_archive(archive(tmp_path, posts), LABELS)


def test_without_the_messages_the_other_comparisons_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def offline(**_: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("sklearn.datasets.fetch_20newsgroups", offline)
    for data, missing in ((None, "cannot be fetched (no network)"), (tmp_path, "paper-order-labels.txt is not there")):
        script.news.cache_clear()
        with pytest.raises(SystemExit) as end:
            script.news(data)
        said = capsys.readouterr().err
        assert end.value.code == 0 and said.startswith("not run: ") and missing in said and "--data" in said


def test_what_names_the_group_is_not_read() -> None:
    text = post("sci.space", "a", 1, References="<x@sci.space>\n\t<y@sci.space>", Xref="sci.space:1", Lines="3")
    fields, read = script.message(text)
    assert "sci.space" not in read and fields["newsgroups"] == "sci.space"
    assert "From: a@x" in read and "Lines: 3" in read and read.endswith("text of a\n")


@pytest.mark.parametrize("readers", [1, 2, 3, 10])
def test_readers_take_turns_each_through_its_own_stretch(readers: int) -> None:
    lengths = np.random.default_rng(0).integers(0, 50, 400)
    order = script.taking_turns(lengths, readers)
    assert sorted(order.tolist()) == list(range(400))
    if readers == 1:
        assert order.tolist() == list(range(400))
    before = np.cumsum(lengths) - lengths
    owner = np.searchsorted(np.arange(readers) * (lengths.sum() / readers), before, side="right") - 1
    read, begun = np.zeros(readers), []
    for k in order:
        begun.append(read[owner[k]])
        read[owner[k]] += lengths[k]
    assert (np.diff(begun) >= 0).all()  # whoever has read the fewest words is next
    for r in range(readers):
        mine = order[owner[order] == r]
        assert (np.diff(mine) > 0).all()


def corpus(n: int = 60) -> script.News:
    """Two topics with words of their own, sorted; a third of it for training."""
    rng = np.random.default_rng(0)
    words = [[f"{'ab'[t]}{'cdefghij'[k]}" for k in rng.integers(0, 8, 40)] for t in [0, 1] * 2 for _ in range(n // 4)]
    topics = np.repeat([0, 1, 0, 1], n // 4)
    return script.News([" ".join(w) for w in words], topics, n // 2, "invented")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> script.Scale:
    found = corpus()
    monkeypatch.setattr(script, "news", lambda data: found)
    monkeypatch.setattr(script, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(script, "DIMENSION", 8)
    monkeypatch.setattr(script, "STARTS", 2)
    monkeypatch.setattr(script, "SAMPLE", 0)  # with so few words subsampling would leave none
    monkeypatch.setattr(script._common, "RESULTS", tmp_path / "results")
    for cached in (script.documents, script.numbered):
        cached.cache_clear()
    return script.Scale(2, 30, None)


def test_a_run_depends_on_rule_order_and_seed_alone(small: script.Scale) -> None:
    words, counts, tokens = script.numbered(small)
    train = lambda rule="paper", order=script.TEN, seed=0: script.sphere(
        words, counts, tokens, rule, 0.04, order, seed, 2
    )
    one = train()
    assert torch.equal(one.D, train().D)
    assert torch.allclose(one.D.norm(dim=1), torch.ones(60), atol=1e-5) and one.touched.all()
    for other in (train("plain"), train(order=script.ONE), train(order=script.SHUFFLED), train(seed=1)):
        assert not torch.equal(one.D, other.D)
    racing = train(order=script.RACING)
    assert torch.isfinite(racing.D).all() and racing.touched.all() and len(racing.history["loss"]) == 2


def test_doc2vec_meets_the_same_orders() -> None:
    text, lengths = [["a"], ["b"], ["c"], ["d"]], np.ones(4, np.int64)
    tags = lambda order, seed: [d.tags[0] for d in script.Ordered(text, order, lengths, seed)]
    assert tags(script.ONE, 0) == [0, 1, 2, 3] and tags(script.TWO, 0) == [0, 2, 1, 3]
    shuffled = script.Ordered(text * 9, script.SHUFFLED, np.ones(36, np.int64), 0)
    first, second = ([d.tags[0] for d in shuffled] for _ in range(2))
    assert sorted(first) == sorted(second) == list(range(36)) and first != second


def test_an_interrupted_sweep_goes_on_and_a_partial_record_says_so(
    small: script.Scale, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit, match="No run has ended"):
        script.report(small)
    one = [script.Job(script.RULES["plain"], script.SHUFFLED, 0), script.Job(script.DOC2VEC[0.1], script.TEN, 0)]
    all_jobs = [script.Job(script.TFIDF, "–", 0), *one, *script.jobs()[3:12]]
    monkeypatch.setattr(script, "jobs", lambda: all_jobs)
    keep, made = script.keep, []

    def three(job: script.Job, scale: script.Scale) -> None:
        if len(made) == 5:
            raise KeyboardInterrupt
        made.append(job)
        keep(job, scale)

    monkeypatch.setattr(script, "keep", three)
    monkeypatch.setattr(script, "minilm_folder", lambda: None)
    with pytest.raises(KeyboardInterrupt):
        script.sweep(small, float("inf"))
    script.sweep(small, -1)  # no time left
    assert len(made) == 5 and made == all_jobs[:5]
    made.clear()
    with pytest.raises(KeyboardInterrupt):
        script.sweep(small, float("inf"))
    assert made == all_jobs[5:10]  # nothing is made twice
    script.report(small)
    record = json.loads((script._common.RESULTS / "jose-20news.json").read_text(encoding="utf-8"))
    assert [(r["method"], r["order"], r["seed"]) for r in record["runs"]] == [tuple(job) for job in all_jobs[:10]]
    assert record["missing"] == [list(job) for job in all_jobs[10:]]
    assert record["data"]["documents"] == 60 and record["tables"] == script.tables(record["runs"])
    assert any(row[0] == script.SPHERE_SUMS for row in record["tables"][0]["rows"])
    kept = torch.load(script.path(all_jobs[0], small))
    assert kept["vectors"].shape == (60, 8) and kept["scores"]["NMI, k-means"] == pytest.approx(1)


def run(method: str, order: str, seed: int, nmi: float) -> dict[str, Any]:
    scores = dict.fromkeys([*script.CLUSTERING, *script.VOTE], 0.5) | {script.PRIMARY: nmi}
    return {"method": method, "order": order, "seed": seed, "scores": scores}


def invented() -> list[dict[str, Any]]:
    """The program's rule gains a tenth by the file's order, at every seed; nothing else differs but by noise."""
    rng = np.random.default_rng(1)
    arms = [*script.RULES.values(), *script.DOC2VEC.values()]
    level = lambda m, o: 0.5 + 0.1 * (m == script.RULES["reference"] and o == script.TEN)
    return [
        run(m, o, s, level(m, o) + 0.001 * rng.standard_normal())
        for m in arms
        for o in (script.SHUFFLED, script.TEN)
        for s in range(3)
    ]


def test_the_tests_find_a_difference_and_no_other() -> None:
    made = script.tests(invented())
    found = [(t["a"], t["b"]) for t in made if t["holm"] < 0.05]
    reference = script.RULES["reference"]
    best = script.best(invented(), script.DOC2VEC.values())
    gained = [reference, script.TEN]
    rivals = [[reference, script.SHUFFLED], [best, script.SHUFFLED], [best, script.TEN]]
    assert found == [(gained, rival) for rival in rivals]
    gain = next(t for t in made if t["a"][0] == reference)
    assert gain["mean"] == pytest.approx(0.1, abs=0.003) and gain["n"] == 3
    assert all(t["p"] <= t["holm"] <= 1 for t in made)


def test_threads_that_race_and_the_one_run_of_minilm_are_tested_with_the_rest() -> None:
    rng, plain = np.random.default_rng(2), script.RULES["plain"]
    noise = lambda: 0.001 * rng.standard_normal()
    racing = [run(plain, script.RACING, s, 0.4 + noise()) for s in range(3)]
    made = script.tests([*invented(), *racing, run(script.SAME_WORDS, "–", 0, 0.7)])
    by_pair = {(*t["a"], *t["b"]): t for t in made}
    rival = script.best(invented(), script.DOC2VEC.values())
    for other in ((plain, script.SHUFFLED), (plain, script.TEN), (rival, script.SHUFFLED)):
        test = by_pair[(plain, script.RACING, *other)]
        assert test["mean"] == pytest.approx(-0.1, abs=0.003) and test["holm"] < 0.05
    today = by_pair[plain, script.SHUFFLED, script.SAME_WORDS, "–"]
    assert today["n"] == 3 and today["mean"] == pytest.approx(-0.2, abs=0.003) and today["half"] > 0
    assert len(made) > len(script.tests(invented()))  # one family: Holm's correction knows of them


@pytest.mark.parametrize(
    ("method", "read"),
    [
        (script.MINILM, "From: a@b\nSubject: Re: Moon\n\nIs it far?"),
        (script.SAME_WORDS, "from subject re moon is it far"),
        (script.SUBJECT, "Re: Moon\nIs it far?"),
    ],
)
def test_minilm_reads_what_its_arm_says(
    small: script.Scale, monkeypatch: pytest.MonkeyPatch, method: str, read: str
) -> None:
    message = "From: a@b\nSubject: Re: Moon\n\nIs it far?"
    monkeypatch.setattr(script, "news", lambda data: script.News([message] * 60, corpus().topics, 30, "invented"))
    given: list[list[str]] = []

    def encoded(texts: list[str]) -> np.ndarray:
        given.append(texts)
        return script.normalised(np.random.default_rng(0).standard_normal((len(texts), 8)).astype(np.float32))

    monkeypatch.setattr(script, "minilm", encoded)
    job = script.Job(method, "–", 0)
    script.path(job, small).parent.mkdir(parents=True)
    script.keep(job, small)
    assert given == [[read] * 60] and torch.load(script.path(job, small))["vectors"].shape == (60, 8)


def test_power_is_what_simulation_says() -> None:
    rng, n = np.random.default_rng(0), 3
    d = script.detectable(n)
    gaps = d + rng.standard_normal((4000, n))
    found = np.abs(gaps.mean(1)) > np.array([half_width(row) for row in gaps])
    assert abs(found.mean() - 0.8) < 0.02


def test_similarity_counts_the_pairs_that_are_known(tmp_path: Path) -> None:
    (tmp_path / "wordsim").mkdir()
    (tmp_path / "wordsim" / "combined.csv").write_text("Word 1,Word 2,Human (mean)\nA,b,9\na,c,5\nb,c,1\na,zz,3\n")
    vectors = np.array([[1, 0], [1, 0.1], [1, 1]], np.float32)
    found = script.similarity(["a", "b", "c"], vectors, tmp_path)
    assert found == {"WordSim-353": {"rho": pytest.approx(0.5), "pairs": 3, "of": 4}}
    assert script.similarity(["a"], vectors[:1], None) == {}


def test_the_stored_record_is_that_of_its_runs() -> None:
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    runs, jobs = record["runs"], [list(job) for job in script.jobs()]
    there = [[r["method"], r["order"], r["seed"]] for r in runs]
    assert there == [job for job in jobs if job in there] and record["missing"] == [j for j in jobs if j not in there]
    assert record["tables"] == script.tables(runs)
    assert record["best"] == {name: script.best(runs, names) for name, names in script.searched().items()}
    assert record["tests"] == script._common.rounded(script.tests(runs))
    assert record["data"]["documents"] == 18_846 and record["data"]["train"] == 11_314
    assert {r["epochs"] for r in runs} == {record["settings"]["epochs"]}


def test_the_chapter_says_of_minilm_what_the_record_has() -> None:
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    text = (ROOT / "notebooks" / "jose.md").read_text(encoding="utf-8")
    said = re.search(
        r"words that the others read it has ([\d.]+), .*?the difference is ([\d.]+) ± ([\d.]+)\), and is ([\d.]+) ± "
        r"([\d.]+) behind Doc2Vec; in the vote of neighbours it has ([\d.]+), more than all of them",
        text,
    )
    assert said is not None
    mine = next(run["scores"] for run in record["runs"] if run["method"] == script.SAME_WORDS)
    today = {one["a"][0]: one for one in record["tests"] if one["b"][0] == script.SAME_WORDS}
    plain, rival = today[record["best"][script.RULES["plain"]]], today[record["best"]["Doc2Vec"]]
    assert [float(x) for x in said.groups()] == [
        round(mine[script.PRIMARY], 2),
        *(round(abs(one[key]), 3) for one in (plain, rival) for key in ("mean", "half")),
        round(mine["F1 micro"], 2),
    ]
    assert plain["holm"] > 0.05 > rival["holm"] and rival["mean"] > 0
    others = [s["F1 micro"] for run in record["runs"] for m, o, s in script.scores_of(run) if o == script.SHUFFLED]
    assert mine["F1 micro"] > max(others)
