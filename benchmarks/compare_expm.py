"""Errors of four programs for the matrix exponential on matrices that the literature tests with.

Each calls its function as it comes: `gantext.matexp.expm`, `torch.linalg.matrix_exp`, `scipy.linalg.expm` and, where
JAX is installed, `jax.scipy.linalg.expm`. The truth has 80 digits and is computed from the matrix as the program gets
it, rounded to float64 or float32 first. The bar was fixed before any result was seen: an error is called large if it
is beyond 10 n u max(1, ||A||_1), for no program can promise to be below u ||A||, the least that the rounding of A
itself costs. It takes seconds; a program that is not installed keeps its column of the stored record, with its date.

python benchmarks/compare_expm.py
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import statistics
import sys
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import _common
import mpmath
import numpy as np
import scipy.linalg
import torch
from numpy.typing import NDArray

from gantext.matexp import expm

Matrix = NDArray[np.floating]
DIGITS = 80
FACTOR = 10
TYPES: tuple[type[np.floating], ...] = (np.float64, np.float32)


def gallery(n: int = 8) -> dict[str, Matrix]:
    """Named matrices from their definitions, of order n where the definition leaves it open."""
    i, j = np.indices((n, n)) + 1.0
    eye, up, upper = np.eye(n), np.eye(n, k=1), np.triu(np.ones((n, n)), 1)
    rising = np.arange(1.0, n)
    a, b, c, d, e = 2e10, 4e8 / 6, 200 / 3, 3.0, 1e-8
    listed = {
        "Moler and Van Loan": [[-49, 24], [-64, 31]],
        "Ward 1": [[4, 2, 0], [1, 4, 1], [1, 1, 4]],
        "Ward 2": [
            [29.87942128909879, 0.7815750847907159, -2.289519314033932],
            [0.7815750847907159, 25.72656945571064, 8.680737820540137],
            [-2.289519314033932, 8.680737820540137, 34.39400925519054],
        ],
        "Ward 3": [[-131, 19, 18], [-390, 56, 54], [-387, 57, 52]],
        "Ward 4": np.eye(10, k=1) + 1e-10 * np.eye(10, k=-9),
        "overscaling 1e4": [[1, 1e4], [0, -1]],
        "overscaling 1e8": [[1, 1e8], [0, -1]],
        "control": [[0, e, 0], [-(a + b), -d, a], [c, 0, -c]],
        "companion 1e19": [[-0.06, -1.4e9, -1.2e19, 1e-12], [1e-12, 0, 0, 0], [0, 1e-12, 0, 0], [0, 0, 0, 0]],
        "Jordan": eye / 2 + up,
        "nilpotent": 1e3 * upper,
        "Grcar": np.tril(np.triu(np.ones((n, n))), 3) - up.T,
        "Frank": np.where(j >= i - 1, n + 1 - np.maximum(i, j), 0),
        "Hilbert": 1 / (i + j - 1),
        "Lotkin": np.where(i == 1, 1, 1 / (i + j - 1)),
        "Pascal": scipy.linalg.pascal(n, kind="lower"),
        "minij": np.minimum(i, j),
        "Lehmer": np.minimum(i, j) / np.maximum(i, j),
        "Parter": 1 / (i - j + 0.5),
        "Cauchy": 1 / (i + j),
        "Clement": np.diag(rising, 1) + np.diag(rising[::-1], -1),
        "Kahan": math.sin(1.2) ** (i - 1) * (eye - math.cos(1.2) * upper),
        "Laplacian": (n + 1) ** 2 * (up + up.T - 2 * eye),
        "skew Toeplitz": 10 * (up - up.T),
        "Wilkinson": np.diag(np.abs(np.arange(n) - (n - 1) / 2)) + up + up.T,
        "Fiedler": np.abs(i - j),
        "Moler": np.minimum(i, j) - 2 + 2 * eye,
        "triw": eye - upper,
    }
    return {name: np.array(rows, dtype=np.float64) for name, rows in listed.items()}


def programs() -> dict[str, Callable[[Matrix], Matrix]]:
    """Each program's function for one NumPy matrix; JAX if it is there."""
    found: dict[str, Callable[[Matrix], Matrix]] = {
        "ours": lambda A: expm(torch.from_numpy(A)).numpy(),
        "torch": lambda A: torch.linalg.matrix_exp(torch.from_numpy(A)).numpy(),
        "scipy": scipy.linalg.expm,
    }
    if find_spec("jax"):
        import jax  # pyright: ignore[reportMissingImports]  # optional, not in the lock

        jax.config.update("jax_enable_x64", True)
        found["jax"] = lambda A: np.asarray(jax.scipy.linalg.expm(A))
    return found


def truth(A: Matrix) -> Any:
    """The exponential with 80 digits."""
    with mpmath.workdps(DIGITS):
        return mpmath.expm(mpmath.matrix(A.astype(float).tolist()), method="taylor")


def error(X: Matrix, true: Any, u: float) -> float | None:
    """In the 1-norm, relative, in units of u; None for a result that is not finite."""
    if not np.isfinite(X).all():
        return None
    with mpmath.workdps(DIGITS):
        off = mpmath.matrix(X.astype(float).tolist()) - true
        return float(mpmath.mnorm(off, 1) / mpmath.mnorm(true, 1) / u)


def bar(A: Matrix) -> float:
    """In units of u, what is beyond it is called large."""
    return FACTOR * len(A) * max(1.0, float(np.abs(A).sum(0).max()))


def measure(matrices: dict[str, Matrix], dtype: type[np.floating]) -> dict[str, dict[str, float | None]]:
    """The error of each program at each matrix."""
    u = float(np.finfo(dtype).eps) / 2
    found: dict[str, dict[str, float | None]] = {program: {} for program in programs()}
    for name, A in matrices.items():
        A = A.astype(dtype)  # what the program gets
        true = truth(A)
        for program, function in programs().items():
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of an overflow on the way
                found[program][name] = error(function(A.copy()), true, u)
    return found


def large(errors: dict[str, float | None], matrices: dict[str, Matrix]) -> list[str]:
    """The matrices at which a program is beyond the bar, or not finite."""
    return [name for name, e in errors.items() if e is None or e > bar(matrices[name])]


def table(errors: dict[str, dict[str, float | None]], matrices: dict[str, Matrix], dtype: str) -> dict[str, Any]:
    """One line a program, as the page of results shows it."""
    rows = []
    for program, each in errors.items():
        finite = [e for e in each.values() if e is not None]
        beyond = large(each, matrices)
        rows.append([program, f"{statistics.median(finite):.3g}", f"{len(beyond)}", ", ".join(beyond) or "none"])
    head = ["program", "median error, in u", "large errors", "at"]
    return {
        "title": f"Matrix exponential, {len(matrices)} matrices of the literature, {dtype}",
        "head": head,
        "rows": rows,
    }


def main() -> None:
    torch.set_num_threads(1)
    matrices = gallery()
    errors = {np.dtype(dtype).name: measure(matrices, dtype) for dtype in TYPES}
    record = _common.environment("scipy", "mpmath")
    record["kept"] = {}
    file = _common.RESULTS / "expm.json"
    if find_spec("jax"):
        record["versions"]["jax"] = importlib.metadata.version("jax")
    elif file.exists():
        stored = json.loads(file.read_text(encoding="utf-8"))
        if "jax" in stored["versions"]:
            record["versions"]["jax"] = stored["versions"]["jax"]
            record["kept"]["jax"] = stored["kept"].get("jax", stored["date"])
            for dtype, each in errors.items():
                each["jax"] = stored["errors"][dtype]["jax"]
    tables = [table(each, matrices, dtype) for dtype, each in errors.items()]
    result = {
        "schema": 1,
        "title": "Matrix exponential on the literature's matrices",
        "chapter": "det-exp",
        "command": "python benchmarks/compare_expm.py",
        **record,
        "rows": [],
        "tables": tables,
        "factor": FACTOR,
        "bars": {name: bar(A) for name, A in matrices.items()},
        "errors": errors,
    }
    _common.write_json("expm", result)
    for each in tables:
        print(each["title"], *("  ".join(map(str, row)) for row in each["rows"]), sep="\n", file=sys.stdout)


if __name__ == "__main__":
    main()
