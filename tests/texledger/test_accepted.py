"""What reviewers saw certified though it is false, empty or unread: each must be refused, or read as it is meant."""

from __future__ import annotations

import mpmath as mp
import pytest

from texledger import CheckFailed, Derived, Draw, Entry, Ledger, LedgerError


def ledger() -> Ledger:
    return Ledger("t")


def scattered(draw: Draw) -> dict:
    return {"sigma": draw.real(1, 2), "n": draw.integer(4, 9)}


def numeric(tex: str, where, **options) -> Entry:
    return ledger().numeric("t:a", tex, where, **options)


def two_matrices(draw: Draw) -> dict:
    n = draw.turn(2, 3)
    return {"A": draw.matrix(n), "B": draw.matrix(n)}


def of_mean(sigma, n):
    return sigma**2 / n


V, BESIDE = {"computed": {"V": of_mean}}, {"lhs": of_mean}


def cube(x):
    return x**3


def cubed(x):
    return cube(x)


def x_and_y(draw: Draw) -> dict:
    return {"x": draw.real(1, 2), "y": draw.real(1, 2)}


@pytest.mark.parametrize(
    ("tex", "where", "options", "error", "says"),
    [
        # 1: the left side is gibberish
        (r"\utter \nonsense{} = \frac{\sigma^2}{n}", scattered, BESIDE, LedgerError, "read"),
        (r"V(17) = \frac{\sigma^2}{n}", scattered, BESIDE, LedgerError, "unread="),
        # 2: the middle of a chain is wrong, or the end, or the beginning
        (r"V = 17 \sigma^9 = \frac{\sigma^2}{n}", scattered, V, CheckFailed, "does not hold"),
        (r"V = \frac{\sigma^2}{n} = 17 \sigma^9", scattered, V, CheckFailed, "does not hold"),
        (r"V = 17 \sigma^9 = \frac{\sigma^2}{n}", scattered, BESIDE, LedgerError, "computed={'V'"),
        (r"V = 17 \sigma^9 = \frac{\sigma^2}{n}", scattered,
         {"lhs": of_mean, "unread": {"V": "a name"}}, CheckFailed, "does not hold"),
        # 3: the second statement is wrong
        (r"V = \frac{\sigma^2}{n}, \qquad n = 3 V + 7", scattered,
         V, CheckFailed, "does not hold"),
        (r"V = \frac{\sigma^2}{n}, \qquad n = 3 V + 7", scattered,
         {"lhs": of_mean, "unread": {"V": "a name"}}, LedgerError, "'V' has no value"),
        # 4: named mutants of an inequality
        (r"x \le 2 x", x_and_y, {"mutants": {"loose": r"1000 x"}, "loose": "why"}, CheckFailed, "survive: loose"),
        (r"x + y > 1", x_and_y, {"mutants": {"low": r"0"}, "loose": "why"}, CheckFailed, "survive: low"),
        # 5: bounds that are too loose
        (r"\|A B\|_2 \le 10^9 \|A\|_2 \|B\|_2", two_matrices, {}, CheckFailed, "one per cent tighter"),
        (r"x^2 \ge -10^9 x", x_and_y, {}, CheckFailed, "one per cent tighter"),
        (r"\|A B\|_2 < 2 \|A\|_2 \|B\|_2", two_matrices, {}, CheckFailed, "one per cent tighter"),
        # 12: a false identity at one fixed point, however it is drawn
        (r"x y = x + y", {"x": 2, "y": 2}, {}, LedgerError, "one fixed value of x, y"),
        (r"x y = x + y", lambda d: {"x": 2, "y": 2}, {}, LedgerError, "one fixed value of x, y"),
        (r"x y = x + y", lambda d: {"x": 2, "y": 2}, {"draws": 1}, LedgerError, "one fixed value of x, y"),
        # 13: tautologies
        (r"a - a = 0", lambda d: {"a": d.real()}, {}, LedgerError, "the same formula"),
        (r"a = a", lambda d: {"a": d.real()}, {}, LedgerError, "the same formula"),
        (r"a + b = b + a", lambda d: {"a": d.real(), "b": d.real()}, {}, LedgerError, "the same formula"),
        (r"\frac{a}{a} b = b", lambda d: {"a": d.real(), "b": d.real()}, {}, LedgerError, "the same formula"),
        # 14: conditions in words
        (r"\sqrt{x^2} = x \qquad \text{for all negative } x", x_and_y, {}, LedgerError, "no check reads"),
        # absolute tolerances
        (r"e^{-100} = 0", {}, {}, CheckFailed, "does not hold"),
        (r"e^{-x} = 0", {"x": 100}, {}, CheckFailed, "does not hold"),
        (r"\tanh x = 1", {"x": 50}, {}, LedgerError, "one fixed value of x"),
        (r"\tanh x = 1", lambda d: {"x": d.real(20, 22)}, {}, CheckFailed, "does not hold"),
        (r"n!! = 720", {"n": 3}, {}, CheckFailed, "does not hold"),
        (r"e^{-x - 100} = 0", x_and_y, {}, CheckFailed, "does not hold"),
        (r"10^{-30} x = 10^{-30} y", x_and_y, {}, CheckFailed, "does not hold"),
        # matrices that are too special
        (r"\det(2 A) = 4 \det A", lambda d: {"A": d.matrix(2)}, {}, LedgerError, "of order 2"),
        (r"A^{\top} A = A A^{\top}", lambda d: (lambda X: {"A": X + X.T})(d.matrix(3)), {}, LedgerError, "symmetric"),
        (r"A B = B A", lambda d: (lambda X: {"A": X, "B": X * X})(d.matrix(3)), {}, LedgerError, "commute"),
        # the two sides are one computation
        (r"\iint f = g", x_and_y, {"lhs": cubed, "rhs": lambda x: cube(x) + 0, "unread": "why"}, LedgerError, "same"),
        (r"c = x^3", lambda d: (lambda x: {"x": x, "c": cube(x)})(d.real(1, 2)), {"lhs": cubed}, LedgerError, "same"),
        # a condition that the draws break, or that has no value
        (r"\sqrt{x^2} = x \qquad (x < 0)", x_and_y, {}, LedgerError, "break the condition"),
        (r"x y = y x \qquad (i \ne j)", x_and_y, {}, LedgerError, "excuse it"),
        # sides of ≠
        (r"x \ne x + 10^{-12}", x_and_y, {}, CheckFailed, "differ by"),
    ],
)  # fmt: skip
def test_it_is_refused(tex: str, where, options: dict, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says) as caught:
        numeric(tex, where, **options)
    assert str(caught.value).startswith("t:a")


@pytest.mark.parametrize(
    "tex",
    [
        r"\frac{\partial (x^2 y^2)}{\partial x \partial y} = 2 x y^2",  # 6: the true value is 4xy
        r"\frac{d (x^3)}{d x^2} = 3 x^2",  # 7
        r"\sin^{-1} x = \frac{1}{\sin x}",  # 11
        r"W^{(2)} W^{(1)} x = W^3 x",  # 8: a layer's index
        r"f(x^*) \le f(x)",  # 9: the optimum
        r"f^{-1}(x) f(x) = 1",  # 10
        r"V^{\pi} \cdot V^{\pi} = V^{2 \pi}",  # 15
    ],
)
def test_what_would_be_misread_is_refused(tex: str) -> None:
    where = lambda d: {
        "x": d.real(0.1, 0.9), "y": d.real(1, 2), "W": d.matrix(3), "f": mp.exp, "V": d.real(1, 2),
    }  # fmt: skip
    with pytest.raises((LedgerError, CheckFailed)):
        numeric(tex, where)


def test_norms_of_numbers_and_double_bars_have_values_or_say_what_to_do() -> None:
    """16, 17: a raw AttributeError, a raw ValueError about a determinant."""
    for tex, where in (
        (r"\|w\| \ge w", lambda d: {"w": d.real(1, 2)}),
        (r"||v||^2 = v^\top v", lambda d: {"v": d.matrix(3, 1)}),
    ):
        try:
            numeric(tex, where)
        except (LedgerError, CheckFailed) as error:
            assert str(error).startswith("t:a")  # noqa: PT017


def test_a_subscript_in_words_is_a_name() -> None:
    """19: w_\\mathrm{h}."""
    entry = numeric(r"w_\mathrm{h} = 2 v", lambda d: {"v": d.real(1, 2)}, computed={"w_h": lambda v: v + v})
    assert entry.read == "w_h = 2·v"


@pytest.mark.parametrize(("half", "holds"), [("2m", True), ("4m", False)])
def test_a_bound_that_is_too_sharp_fails(half: str, holds: bool) -> None:
    """The error of Euler's method: with scalars of all sizes among the draws the true bound is nearly attained."""

    def where(draw: Draw) -> dict:
        scalar = draw.turn(0.002, 1, 6, None)
        return {
            "A": draw.matrix(3, complex=True) if scalar is None else mp.matrix([[scalar]]),
            "m": draw.turn(1, 1, 1, 5),
        }

    tex = r"\Bigl\| \exp A - \Bigl( I + \frac{A}{m} \Bigr)^m \Bigr\|_2 \le \frac{\|A\|_2^2\, e^{\|A\|_2}}{HALF}"
    tex = tex.replace("HALF", half)
    if holds:
        entry = numeric(tex, where, draws=4)
        assert ("the bound one per cent tighter", True) in entry.mutants
        assert entry.weaker
    else:
        with pytest.raises(CheckFailed, match="does not hold"):
            numeric(tex, where, draws=4)


def test_a_loose_bound_is_said_to_be_loose() -> None:
    entry = numeric(r"x \le 2 x", x_and_y, loose="it is twice as large as it need be")
    assert "it is twice as large as it need be" in repr(entry)
    assert "the bound one per cent tighter" in entry.undecided
    assert "no draw comes within one per cent" in entry.how
    with pytest.raises(LedgerError, match="loose= is not needed"):
        numeric(r"x \le |x|", x_and_y, loose="it is not")


def test_excuses_need_reasons_and_something_to_excuse() -> None:
    for options in ({"weak": " "}, {"loose": ""}, {"unread": {"2 x": ""}}):
        with pytest.raises(LedgerError, match="needs a reason"):
            numeric(r"x + x = 2 x", x_and_y, **options)
    with pytest.raises(LedgerError, match="weak= is not needed"):
        numeric(r"x + x = 2 x", x_and_y, weak="why")
    with pytest.raises(LedgerError, match="no whole side"):
        numeric(r"x + x = 2 x", x_and_y, unread={"3 x": "why"})
    with pytest.raises(LedgerError, match="no whole side"):
        numeric(r"x + x = 2 x", x_and_y, unread={"+ x": "why"})
    with pytest.raises(LedgerError, match="does not contain"):
        numeric(r"x + x = 2 x", x_and_y, unread={r"\text{for all } x": "why"})


def test_what_is_excused_is_printed_and_counted() -> None:
    entry = numeric(
        r"x + x = 2 x, \qquad z = 3 x \qquad \text{for every } x", x_and_y,
        unread={"z = 3 x": "z is introduced here", r"\text{for every } x": "x is drawn"},
    )  # fmt: skip
    assert entry.strength == "one side"
    assert "z = 3 x, because z is introduced here" in repr(entry)
    words = numeric(r"x + x = 2 x \qquad \text{for every } x", x_and_y, unread={r"\text{for every } x": "x is drawn"})
    assert words.strength == "both sides"
    assert "for every" in repr(words)


def test_a_condition_is_a_guard() -> None:
    entry = numeric(r"|x| = x \qquad (x > 0)", lambda d: {"x": d.real()}, draws=4)
    assert entry.strength == "both sides"
    assert "for x > 0" in entry.read


def test_cancelling_terms_are_measured_by_their_size() -> None:
    where = lambda d: {"x": 10**6 * d.real(1, 2), "y": d.real(1, 2)}
    entry = numeric(r"(x + y)^2 - x^2 - 2 x y - y^2 = 0", where)
    assert "largest term" in entry.how
    with pytest.raises(CheckFailed):
        numeric(r"(x + y)^2 - x^2 - 2 x y = 0", where)
    residue = lambda x: mp.mpf(10) ** -45 * x
    with pytest.raises(CheckFailed, match="scale=1"):
        numeric(r"r = 0", where, computed={"r": residue})
    entry = numeric(
        r"r + x = x",
        where,
        computed={"r": residue},
        also_true=dict.fromkeys(("sign of r", "2·(r)", "without r"), "r is rounding"),
    )
    assert entry.passed
    with pytest.raises(CheckFailed) as caught:  # nothing cancels here, and no advice may make it pass
        numeric(r"e^{-100 y} = 0", where)
    assert "scale" not in str(caught.value)
    scaled = numeric(r"r = 0", where, computed={"r": residue}, scale=1e6)
    assert "in code: 1e+06" in scaled.how


def test_damaged_copies_of_the_jacobian_of_a_softmax_are_tried_entry_by_entry_and_as_a_matrix() -> None:
    weights = lambda S: S.apply(mp.exp) / sum(S.apply(mp.exp))

    def entry(draw: Draw) -> dict:
        n = draw.turn(3, 4)
        j, k = draw.turn((1, 1), (2, 1), (2, 2), (1, 3))
        return {"S": draw.matrix(n, 1), "a": Derived(weights), "j": j, "k": k, "delta": mp.eye(n)}

    found = numeric(r"\frac{\partial}{\partial S_k} a_j = a_j (\delta_{jk} - a_k)", entry, draws=4)
    assert found.strength == "both sides"
    assert all(dead for _, dead in found.mutants)

    def column(draw: Draw) -> dict:
        S, b = draw.matrix(draw.turn(3, 4), 1), draw.matrix(4, 1)
        a, b = weights(S), b[: S.rows, 0]
        return {"a": a, "b": b, "c": mp.matrix([a[j] * (b[j] - (a.T * b)[0]) for j in range(S.rows)])}

    found = numeric(r"c = (\operatorname{diag}(a) - a a^{\top}) b", column)
    assert found.ill_formed["without the factor a"].startswith("has no value")


def test_draws_do_not_depend_on_what_ran_before() -> None:
    import itertools

    sizes = itertools.cycle((2, 3, 4))
    with pytest.raises(LedgerError, match=r"draw\.turn\(2, 3, 4\)"):
        numeric(r"\operatorname{tr} A = \operatorname{tr} A^{\top}", lambda d: {"A": d.matrix(next(sizes))})


def test_a_number_that_takes_the_place_of_a_block_has_no_value():
    def where(draw: Draw) -> dict:
        n = draw.turn(2, 3)
        return {"A": draw.matrix(n), "B": draw.matrix(n)}

    block = r"\begin{pmatrix} %s & 0 \\ 0 & %s \end{pmatrix}"
    entry = numeric(rf"\exp {block} = {block}" % ("A", "B", r"\exp A", r"\exp B"), where)
    assert "stands in a block" in entry.ill_formed["0 → 1"]
