"""The interval that every quoted mean over seeds has."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from gantext.statistics import half_width


def test_half_width_is_scipys_interval() -> None:
    x = np.random.default_rng(0).normal(size=8)
    low, high = scipy.stats.t.interval(0.95, 7, x.mean(), scipy.stats.sem(x))
    assert half_width(x) == pytest.approx((high - low) / 2, rel=1e-12)
    with pytest.raises(ValueError, match=r"^half_width: values has shape \(1,\), .* must be .* Run more seeds"):
        half_width([1.0])
    with pytest.raises(ValueError, match="1 of them not finite"):
        half_width([1.0, math.nan])
