"""What every stored comparison has: a command that repeats it, and tables that are those of its runs."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
import _common  # noqa: E402  # found by the path above
import compare_cascades  # noqa: E402  # found by the path above
import compare_images  # noqa: E402  # found by the path above
import compare_ogan  # noqa: E402  # found by the path above
import compare_ogan_bases  # noqa: E402  # found by the path above
import compare_reading  # noqa: E402  # found by the path above

RECORDS = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in ROOT.glob("benchmarks/results/*.json")}


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_a_record_says_how_and_where_it_was_made(name: str) -> None:
    record = RECORDS[name]
    assert record["device"] and record["date"] and record["versions"]
    if not name.startswith("gpu-"):
        program, script, *_ = shlex.split(record["command"])
        assert program == "python"
        text = (ROOT / script).read_text(encoding="utf-8")
        assert f"python {script}" in text and f'"{name.split("-")[0]}' in text  # which writes this command, this record


def test_the_tables_of_readers_are_those_of_their_runs() -> None:
    record = RECORDS["reading"]
    assert record["tables"] == compare_reading.tables(record["runs"])
    assert record["comparisons"] == compare_reading.compared(record["runs"])


NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[+-]\d+)?")


def alike(told: Any, found: Any) -> bool:
    """The same words, and numbers that differ by one unit of the last digit told at most: runs are stored rounded.

    Bare numbers, which are differences and p-values of such runs, by a hundredth, or .0005.
    """
    if isinstance(told, dict) and isinstance(found, dict):
        return told.keys() == found.keys() and all(alike(told[key], found[key]) for key in told)
    if isinstance(told, list) and isinstance(found, list):
        return len(told) == len(found) and all(map(alike, told, found))
    if isinstance(told, float) and isinstance(found, float):
        return found == pytest.approx(told, rel=0.01, abs=5e-4 if abs(told) > 1e-3 else 0)
    if NUMBER.sub("#", str(told)) != NUMBER.sub("#", str(found)):
        return False
    for one, other in zip(NUMBER.findall(str(told)), NUMBER.findall(str(found)), strict=True):
        a, b = (float(number.replace(",", "")) for number in (one, other))
        mantissa, _, exponent = one.partition("e")
        unit = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
        if abs(a - b) > max(1.01 * unit, 0.003 * abs(a)):
            return False
    return True


def test_numbers_are_alike_to_their_last_digit() -> None:
    assert alike(["1.23 ± 0.04", {"p": 0.00123}], ["1.24 ± 0.05", {"p": 0.001231}])
    assert not any(
        alike(a, b) for a, b in (("1.23", "1.25"), ("1.23 s", "1.23 ms"), (["1"], []), ("1e-05", "1e-04"), (0.01, 0.02))
    )


@pytest.mark.parametrize("name", ["images", "images-long"])
def test_the_tables_and_claims_of_images_are_those_of_their_runs(name: str) -> None:
    record = RECORDS[name]
    assert alike(record["tables"], compare_images.tables(record["runs"], record["budget"]["steps"]))
    assert alike(record["claims"], compare_images.claims(record["runs"]))


def test_the_tables_and_tests_of_o_gan_are_those_of_their_runs() -> None:
    assert alike(RECORDS["ogan"]["tables"], compare_ogan.tables(RECORDS["ogan"]["runs"]))
    bases = RECORDS["ogan-bases"]
    tests = _common.rounded(compare_ogan_bases.tests(bases["runs"]))
    assert alike([bases["tables"], bases["tests"]], [[compare_ogan_bases.table(bases["runs"])], tests])
    assert alike(bases["claims"], compare_ogan_bases.claims(tests))


def test_the_tables_and_tests_of_heads_are_those_of_their_runs() -> None:
    record = RECORDS["cascades"]
    ends = ("last", "average")
    first, second = (
        [compare_cascades.difference(record["runs"], *pair, end) for end in ends for pair in pairs]
        for pairs in (compare_cascades.FIRST, compare_cascades.SECOND)
    )
    _common.holm(second)
    assert alike(record["tables"], compare_cascades.tables(record["runs"], first + second))
    assert alike([record["first"], record["second"]], _common.rounded([first, second]))
    again = RECORDS["cascades-conditional"]
    question = compare_cascades.asked_again(again["runs"], *compare_cascades.QUESTION)
    assert alike(again["question"], _common.rounded(question))


def test_a_mean_and_its_interval_are_rounded_at_the_same_place() -> None:
    told = {
        "0.904 ± 0.051": [0.9, 0.908], "0.980 ± 0.002": [0.98, 0.981, 0.979], "0.267 ± 0.000": [0.267] * 3,
        "5.1 ± 2.5": [4.0, 6.0, 5.2], "0.0 ± 2.5": [-1.0, 1.0, 0.0], "0 ± 0": [0.0, 0.0],
        "0.00010 ± 0.00025": [1e-4, 0.0, 2e-4], "1.6321 ± 0.0006": [1.632, 1.6321],  # a digit of the interval is kept
        "586 ± 274": [579.0, 480.0, 700.0], "30400 ± 3800": [30100.0, 30700.0], "5.00 ± 0.00": [5.0],
    }  # fmt: skip
    assert {_common.spread(values): values for values in told.values()} == told
    for record in RECORDS.values():
        for mean, half in re.findall(r"(\d[\d.e+]*) ± (\d[\d.e+]*)", json.dumps(record, ensure_ascii=False)):
            assert len(mean.partition(".")[2]) == len(half.partition(".")[2]) and "e" not in mean + half


def test_a_family_is_corrected_as_a_whole() -> None:
    first, second, third = _common.paired([[1.0, 1.1, 0.9], [0.1, -0.1, 0.3], [0.0, 0.0, 0.0]])
    assert [one["holm"] for one in (first, second, third)] == pytest.approx(
        [3 * first["p"], 2 * second["p"], 1], rel=1e-3
    )
    assert first["mean"] == 1 and first["half"] == pytest.approx(0.2484, rel=1e-3) and third["p"] == 1
    table: dict[str, Any] = _common.paired_table("t", [{"of": "a", "minus": "z"} | first])
    assert table["rows"] == [["a − z", "+1.00 ± 0.25", f"{first['holm']:.2g}", f"{first['detectable']:.2f}"]]
