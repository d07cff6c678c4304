"""The record of the matrix exponential on the literature's matrices, against the programs that are here."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gantext_book.source import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import compare_expm

MATRICES = compare_expm.gallery()
RECORD: dict[str, Any] = json.loads((ROOT / "benchmarks" / "results" / "expm.json").read_text(encoding="utf-8"))


def test_the_matrices_are_what_their_names_say() -> None:
    spectrum = lambda name: np.sort(np.linalg.eigvals(MATRICES[name]).real)
    assert np.allclose(spectrum("Moler and Van Loan"), [-17, -1])
    assert np.allclose(spectrum("Ward 2"), [20, 30, 40])
    assert np.allclose(spectrum("Ward 3"), [-20, -2, -1], rtol=1e-9)
    assert np.allclose(spectrum("Clement"), np.arange(-7, 8, 2))
    assert np.linalg.det(MATRICES["Frank"]) == pytest.approx(1) == pytest.approx(np.linalg.det(MATRICES["minij"]))
    assert np.linalg.det(MATRICES["Moler"]) == pytest.approx(1) and np.linalg.eigvalsh(MATRICES["Moler"]).min() < 2e-4
    assert (MATRICES["Pascal"][-1] == [1, 7, 21, 35, 35, 21, 7, 1]).all()
    assert (MATRICES["skew Toeplitz"] == -MATRICES["skew Toeplitz"].T).all()
    for name in ("Hilbert", "Lehmer", "Cauchy", "Laplacian", "Wilkinson", "Fiedler", "Moler"):
        assert (MATRICES[name] == MATRICES[name].T).all(), name


def test_a_wrong_result_is_seen() -> None:
    A = MATRICES["Ward 1"]
    true = compare_expm.truth(A)
    right = np.array(true.tolist(), dtype=float)
    found = compare_expm.error(right, true, 2.0**-53)
    assert found is not None and found < 2
    off = compare_expm.error(right * (1 + 1e-10), true, 2.0**-53)
    assert off == pytest.approx(1e-10 * 2**53, rel=1e-4)
    assert compare_expm.error(right * np.inf, true, 2.0**-53) is None
    beyond = {"Ward 1": compare_expm.bar(A) * 1.01, "Jordan": 1.0, "control": None}
    assert compare_expm.large(beyond, MATRICES) == ["Ward 1", "control"]


@pytest.mark.parametrize("dtype", compare_expm.TYPES)
def test_the_record_is_what_is_measured_now(dtype: type[np.floating]) -> None:
    stored = RECORD["errors"][np.dtype(dtype).name]
    assert list(stored["ours"]) == list(MATRICES) and RECORD["factor"] == compare_expm.FACTOR
    live = compare_expm.measure(MATRICES, dtype)
    for errors in (stored["ours"], live["ours"]):
        assert compare_expm.large(errors, MATRICES) == []
    at_least_ten = lambda errors: np.array([max(errors[name] or np.inf, 10) for name in MATRICES])
    ratio = at_least_ten(live["ours"]) / at_least_ten(stored["ours"])
    assert (ratio > 0.1).all() and (ratio < 10).all()  # rounding differs between processors, orders of magnitude do not


def test_a_program_that_is_not_here_keeps_its_column(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shutil.copy(ROOT / "benchmarks" / "results" / "expm.json", tmp_path)
    monkeypatch.setattr(compare_expm._common, "RESULTS", tmp_path)
    monkeypatch.setattr(compare_expm, "find_spec", lambda name: None)
    monkeypatch.setattr(compare_expm, "measure", lambda matrices, dtype: {"ours": dict.fromkeys(matrices, 1.0)})
    for _ in range(2):  # and keeps the date of its measurement the second time
        compare_expm.main()
        written = json.loads((tmp_path / "expm.json").read_text(encoding="utf-8"))
        assert written["versions"]["jax"] == RECORD["versions"]["jax"]
        assert written["kept"] == {"jax": RECORD["kept"].get("jax", RECORD["date"])}
        for dtype, each in RECORD["errors"].items():
            assert written["errors"][dtype]["jax"] == each["jax"] and written["errors"][dtype]["ours"]["Jordan"] == 1.0
        assert [row[0] for row in written["tables"][0]["rows"]] == ["ours", "jax"]
