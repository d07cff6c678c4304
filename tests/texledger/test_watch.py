"""A function is said to compute an equation only if it was seen to run during the check."""

from __future__ import annotations

import cProfile
import functools
import math

import mpmath as mp
import numpy as np
import pytest
import torch
from texledger._watch import Watch

from texledger import Draw, Entry, Ledger


def matrix(draw: Draw) -> dict:
    return {"A": draw.matrix(3)}


def outer(A):
    return inner(A)


def inner(A):
    return mp.expm(A, method="taylor")


def bystander(A):
    return A


@functools.wraps(inner)
def decorated(A):
    return inner(A)


cached = functools.lru_cache(lambda x: x + 1)


class Twice(torch.nn.Module):
    def forward(self, x):
        return x + x


class Idle(torch.nn.Module):
    def forward(self, x):
        return x


def check(code, lhs=inner) -> Entry:
    tex = r"\exp A = \sum_{k=0}^{\infty} \frac{A^k}{k!}"
    return Ledger("demo").numeric("demo:a", tex, matrix, lhs=lhs, code=code, weak=None)


def short(names: tuple[str, ...]) -> list[str]:
    return [name.rpartition(".")[2] for name in names]


def test_a_function_that_ran_computes_and_one_that_did_not_is_see_also() -> None:
    entry = check([outer, inner, bystander], lhs=lambda A: outer(A))
    assert short(entry.functions) == ["outer", "inner"]
    assert short(entry.see_also) == ["bystander"]
    assert "see also" in entry._repr_html_()
    assert "computed by" in entry._repr_html_()
    assert not check([bystander]).functions


def test_names_are_looked_up_and_functions_in_where_are_seen() -> None:
    entry = Ledger("demo").numeric(
        "demo:a", r"V = \operatorname{tr} A", matrix, code=["test_watch.trace", "math.sqrt"], computed={"V": trace}
    )
    assert entry.functions == ("test_watch.trace",)
    assert entry.see_also == ("math.sqrt",)


def trace(A):
    return A[0, 0] + A[1, 1] + A[2, 2]


def test_modules_decorators_and_built_in_functions_are_seen() -> None:
    watch = Watch([Twice, Idle, decorated, math.sqrt, math.sin, np.linalg.inv, torch.linalg.inv])
    module = Twice()
    partial = functools.partial(inner)
    with watch.on("left"):
        module(torch.ones(2))
        decorated(mp.eye(2))
        math.sqrt(2)
        np.linalg.inv(np.eye(2))
        torch.linalg.inv(torch.eye(2))
    assert all(map(watch.ran, (Twice, module, decorated, inner, partial, math.sqrt, np.linalg.inv, torch.linalg.inv)))
    assert not any(map(watch.ran, (Idle, Idle(), math.sin, bystander, np.linalg.det, torch.linalg.det)))


def test_what_does_not_run_as_python_is_not_claimed() -> None:
    watch = Watch([cached])
    cached(1)
    with watch.on("left"):
        cached(1)  # from the cache: nothing is computed
    assert not watch.ran(cached)


def test_watching_ends_once_all_was_seen_and_leaves_other_profilers_alone() -> None:
    import sys

    watch = Watch([inner])
    with watch.on("left"):
        inner(mp.eye(2))
    before = len(watch.codes)
    with watch.on("left"):
        bystander(1)
        assert sys.getprofile() is None
    assert len(watch.codes) == before
    other = lambda frame, event, arg: None
    sys.setprofile(other)
    try:
        with Watch([outer]).on("left"):
            pass
        assert sys.getprofile() is other
    finally:
        sys.setprofile(None)
    profile = cProfile.Profile()  # Python's own profiler sets another kind of function, from 3.12 on none at all
    profile.enable()
    with Watch([outer]).on("left"):
        pass
    outer(mp.eye(2))
    profile.disable()
    assert outer.__code__ in {entry.code for entry in profile.getstats()}
    assert sys.getprofile() is None


def test_an_error_inside_ends_the_watch() -> None:
    import sys

    with pytest.raises(ZeroDivisionError), Watch([inner], compare=True).on("left"):
        outer(1 / 0)
    assert sys.getprofile() is None


def test_calls_with_the_same_arguments_are_found_by_their_values() -> None:
    watch = Watch(compare=True)
    for phase, x in (("left", 2.0), ("right", 2.0), ("where", 3.0)):
        with watch.on(phase):
            bystander(mp.mpf(x))
    assert watch.common("left", "right") == {"bystander": 2}
    assert not watch.common("where", "right")
