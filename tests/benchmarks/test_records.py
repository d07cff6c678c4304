"""What every stored comparison has: a command that repeats it, and tables that are those of its runs."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
import _common  # noqa: E402  # found by the path above
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


def test_a_family_is_corrected_as_a_whole() -> None:
    first, second, third = _common.paired([[1.0, 1.1, 0.9], [0.1, -0.1, 0.3], [0.0, 0.0, 0.0]])
    assert [one["holm"] for one in (first, second, third)] == pytest.approx(
        [3 * first["p"], 2 * second["p"], 1], rel=1e-3
    )
    assert first["mean"] == 1 and first["half"] == pytest.approx(0.2484, rel=1e-3) and third["p"] == 1
    table: dict[str, Any] = _common.paired_table("t", [{"of": "a", "minus": "z"} | first])
    assert table["rows"] == [["a − z", "+1.00 ± 0.25", f"{first['holm']:.2g}", f"{first['detectable']:.2f}"]]
