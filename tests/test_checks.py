"""What every module asks of its arguments: NumPy's numbers are Python's, and what is no number is refused in words."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, cast

import numpy as np
import pytest
import torch

from gantext._checks import check_count, check_number, probabilities

COUNTS = [np.int8(3), np.int64(3), np.uint16(3), 3]
NUMBERS = [*COUNTS, 3.0, np.float16(3), np.float32(3), np.float64(3), Fraction(3)]


@pytest.mark.parametrize("value", COUNTS, ids=lambda value: type(value).__name__)
def test_integers_come_back_as_pythons(value: Any) -> None:
    found = check_count("f", "n", value)
    assert found == 3 and type(found) is int
    assert type(check_number("f", "n", value, 0)) is int


@pytest.mark.parametrize("value", NUMBERS, ids=lambda value: type(value).__name__)
def test_numbers_come_back_as_pythons(value: Any) -> None:
    found = check_number("f", "x", value, 0)
    assert found == 3 and type(found) in (int, float)
    # beside a tensor, a NumPy scalar would take the product into an array
    assert isinstance(found * torch.ones(2), torch.Tensor)


@pytest.mark.parametrize(
    "value", [True, np.bool_(True), "3", None, 3 + 0j, torch.tensor(3), np.array(3), [3]], ids=lambda value: repr(value)
)
def test_what_is_no_number_is_refused(value: Any) -> None:
    for call in (lambda: check_count("f", "n", value), lambda: check_number("f", "n", value, 0)):
        with pytest.raises(TypeError, match=r"^f: n is .* \(\w+\), must be an? "):
            call()


def test_what_is_out_of_range_is_refused() -> None:
    for value in (0, np.int64(0), -1):
        with pytest.raises(ValueError, match=r"^f: n is -?\d, must be an int >= 1"):
            check_count("f", "n", cast(int, value))
    for value in (0.0, np.float32(0), float("nan"), np.float64("inf"), -1):
        with pytest.raises(ValueError, match=r"^f: x is \S+, must be a finite number > 0"):
            check_number("f", "x", cast(float, value), 0)
    assert check_number("f", "x", 0, 0, included=True) == 0
    with pytest.raises(TypeError, match=r"^f: n is 3.0 \(float\), must be an int"):
        check_count("f", "n", cast(int, 3.0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_probabilities_may_be_as_inexact_as_their_dtype(dtype: torch.dtype) -> None:
    """Rounded one by one they do not sum to 1, and dividing by the sum does not help."""
    for n in (3, 1000):
        law = torch.randn(n, generator=torch.Generator().manual_seed(n)).double().softmax(0)
        got = probabilities("f", "p", law.to(dtype))
        assert got.dtype == torch.float64 and got.sum() == pytest.approx(1, abs=1e-12)
        torch.testing.assert_close(got, law, rtol=2 * torch.finfo(dtype).eps + 1e-7, atol=1e-6)
        with pytest.raises(ValueError, match=r"f: p has minimum .* and sum 1\.0[12]"):
            probabilities("f", "p", (1.015 * law).to(dtype))
