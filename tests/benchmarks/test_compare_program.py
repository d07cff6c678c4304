"""`benchmarks/compare_program.py`: another program is asked as its authors ask it, and the record adds up."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
import compare_program as script  # noqa: E402  # found by the path above

RECORD = ROOT / "benchmarks" / "results" / "jose-program.json"
FAKE = """#!{python}
import sys
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
lines = open(given["-train"]).read().splitlines()
print("\\rWords/thread/sec: 1.00k  \\rWords/thread/sec: 61.50k  ", flush=True)
if given["-iter"] == "9":
    sys.exit(3)
with open(given["-doc-output"], "w") as file:
    print(len(lines), given["-size"], file=file)
    for k, line in enumerate(lines):
        print(k, *[float(len(line.split())) + d for d in range(int(given["-size"]))], file=file)
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    file = tmp_path / "jose"
    file.write_text(FAKE.format(python=sys.executable))
    file.chmod(0o755)
    return file


def test_the_program_reads_a_message_a_line_and_its_vectors_are_in_their_order(program: Path) -> None:
    made = script.run_program(program, [["a"], [], ["a", "b", "c"]], 1, 1)
    assert made["words a second"] == 61_500  # the last that it printed
    assert made["vectors"].shape == (3, 100) and made["vectors"][:, 0].tolist() == [1, 0, 3]
    assert made["processor seconds"] > 0


def test_a_program_that_fails_is_named(program: Path) -> None:
    with pytest.raises(RuntimeError, match="ended with 3"):
        script.run_program(program, [["a"]], 9, 1)


def test_a_shuffled_text_is_put_back(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The vector of a message is judged with the topic of that message."""
    text = [["w"] * (k + 1) for k in range(12)]
    seen: list[Any] = []
    monkeypatch.setattr(script, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(script.news, "documents", lambda scale: text)
    monkeypatch.setattr(script.news, "news", lambda data: script.news.News([], np.arange(12), 6, "a test"))
    monkeypatch.setattr(script.news, "judged", lambda x, topics, train: seen.append(x) or {script.PRIMARY: 0.5})
    for order in (script.FILE, script.SHUFFLED):
        job = script.Job(script.PROGRAM, order, 10, 0, *script.SHORT)
        script.path(job).parent.mkdir(exist_ok=True)
        script.keep(job, program, None)
        assert script.path(job).exists()
    assert script.order_of(script.SHUFFLED, 12, 0).tolist() != list(range(12))
    np.testing.assert_array_equal(seen[0], seen[1])
    assert np.all(np.diff(seen[0][:, 0]) > 0)  # longer messages have larger numbers here


def test_no_run_takes_the_place_of_another() -> None:
    assert len({script.path(job) for job in script.jobs()}) == len(script.jobs())


def test_speeds_and_tests_and_tables_are_those_of_the_runs() -> None:
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    rounds, runs = record["rounds"], record["runs"]
    assert all(job[-2:] == list(script.PAPER) for job in record["missing"]) and len(rounds) == script.ROUNDS
    assert record["tables"] == script.tables(runs)
    assert script._common.rounded(script.tests(runs)) == record["tests"]
    for name, row in zip(script.news.RULES.values(), record["rows"], strict=True):
        ratios = [one["words a second"][name] / one["words a second"][script.PROGRAM] for one in rounds]
        assert row["least"] == pytest.approx(min(ratios), rel=1e-3) and row["most"] == pytest.approx(
            max(ratios), rel=1e-3
        )
        times = [row["results"][who]["median_ms"] for who in (script.AUTHORS, "ours")]
        assert row["ratio"] == pytest.approx(times[0] / times[1], rel=1e-3)
        assert row["least"] * 0.99 < row["ratio"] < row["most"] * 1.01
