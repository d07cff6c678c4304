"""How far a mean over seeds may be from the truth: for every chapter and benchmark that quotes one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["half_width"]


def half_width(values: Sequence[float] | np.ndarray) -> float:
    """Half of Student's 95 % interval of the mean, `t_0.975 s / n^(1/2)` (equation `gan-comparison:interval`).

    Args:
        values: n >= 2 scores, finite, one for each seed. With eight seeds t is 2.36 and not 1.96.

    >>> round(half_width([1.0, 2.0, 3.0]), 3)  # t = 4.303, s = 1
    2.484
    >>> half_width([1.0, 1.0])
    0.0
    """
    from scipy.stats import sem, t

    x = np.asarray(values, dtype=float)
    if x.ndim != 1 or len(x) < 2 or not np.isfinite(x).all():
        raise ValueError(
            f"half_width: values has shape {x.shape}, {np.sum(~np.isfinite(x))} of them not finite, must be (n,) with "
            "n >= 2, all finite. Run more seeds, and count those that diverged apart."
        )
    error = sem(x)
    return float(t.interval(0.95, len(x) - 1, scale=error)[1]) if error > 0 else 0.0  # SciPy warns of 0 times infinity
