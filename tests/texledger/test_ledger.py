"""The ledger's promise: a right equation passes, a wrong one fails, and a check that cannot fail is not accepted."""

from __future__ import annotations

import json
from typing import Any

import mpmath as mp
import numpy as np
import pytest
import sympy as sp
import torch

from texledger import (
    MIME,
    CheckFailed,
    Derived,
    Draw,
    Entry,
    Law,
    Ledger,
    LedgerError,
    Optimum,
    Over,
    Samples,
    Superscript,
    normal,
)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger("demo")


def square(draw: Draw) -> dict:
    return {"A": draw.matrix(3)}


X = sp.Symbol("x")


def signs(A: torch.Tensor, n: int, rng: np.random.Generator) -> np.ndarray:
    v = rng.choice([-1.0, 1.0], size=(n, 3))
    return np.einsum("ni,ij,nj->n", v, A.numpy(), v)


class TestRightEquationsPass:
    def test_numeric(self, ledger: Ledger) -> None:
        entry = ledger.numeric("demo:main", r"\det(\exp A) = \exp(\operatorname{Tr} A).", square)
        assert entry.passed
        assert entry.strength == "both sides"
        assert entry.read == "det(exp(A)) = exp(Tr(A))"
        assert entry.drawn == "3 draws: A 3×3 real, entries in [-1, 1]"
        assert entry.killed == len(entry.mutants) >= 6
        assert ledger.entries == {"demo:main": entry}

    def test_symbolic(self, ledger: Ledger) -> None:
        entry = ledger.symbolic("demo:cube", r"(x+1)^3 = x^3 + 3x^2 + 3x + 1", {"x": X})
        assert entry.killed == len(entry.mutants) > 10

    def test_symbolic_with_unknown_functions(self, ledger: Ledger) -> None:
        t = sp.Symbol("t")
        entries = [sp.Function(f"m{k}") for k in range(9)]
        M = lambda t: sp.Matrix(3, 3, [f(t) for f in entries])
        tex = r"\frac{d}{dt}\det M = \operatorname{tr}(\operatorname{adj}(M)\,M')"
        where = {"M": Derived(M), "M'": M(t).diff(t), "t": t}
        entry = ledger.symbolic("demo:jacobi", tex, where, lhs=sp.diff(M(t).det(), t))
        assert entry.strength == "both sides"

    def test_exact(self, ledger: Ledger) -> None:
        entry = ledger.exact("demo:sum", r"\sum_{k=1}^{n} k = \frac{n(n+1)}{2}", lambda d: {"n": d.integer(3, 9)})
        assert entry.strength == "both sides"

    def test_gradient(self, ledger: Ledger) -> None:
        entry = ledger.gradient(
            "demo:gradient", r"\nabla_A \tfrac12\|A\|_F^2 = A", square, of=lambda A: (A * A).sum() / 2, wrt="A"
        )
        assert entry.strength == "both sides"

    def test_gradient_of_a_name(self, ledger: Ledger) -> None:
        tex = r"\frac{\partial L}{\partial A} = 2 A"
        entry = ledger.gradient("demo:gradient", tex, square, of=lambda A: (A * A).sum(), wrt="A", name="L")
        assert entry.strength == "both sides"
        with pytest.raises(LedgerError, match="name='L'"):
            ledger.gradient("demo:unnamed", tex, square, of=lambda A: (A * A).sum(), wrt="A")
        other = tex.replace("L", "G")
        with pytest.raises(LedgerError, match="the side itself"):
            ledger.gradient("demo:other", other, square, of=lambda A: (A * A).sum(), wrt="A", name="L")
        other = r"\frac{\partial L}{\partial B} = 2 A"
        with pytest.raises(LedgerError, match="the side itself"):
            ledger.gradient("demo:wrt", other, square, of=lambda A: (A * A).sum(), wrt="A", name="L")

    def test_statistical(self, ledger: Ledger) -> None:
        tex = r"\mathbb{E}[v^\top A v] = \operatorname{tr} A"
        where = lambda draw: {"A": draw.matrix(3), "v": Law.uniform([-1, 1]).independent(3)}
        entry = ledger.statistical("demo:hutchinson", tex, where, samples=signs, n=100_000)
        assert entry.strength == "both sides"
        why = {r"\mathbb{E}[v^\top A v]": "the law of v is that of the code"}
        entry = ledger.statistical("demo:excused", tex, square, samples=signs, n=100_000, unread=why)
        assert entry.strength == "one side"
        assert entry.unread == why
        assert "not read" in repr(entry)

    def test_statistical_with_two_sets_of_samples(self, ledger: Ledger) -> None:
        """The mean over `Samples` differs from that of `samples=` by the errors of both."""

        def where(draw: Draw) -> dict:
            return {"x": Samples(draw.rng.normal(2, 1, 400).tolist()), "a": 2 + 0 * draw.real()}

        many = lambda n, rng: rng.normal(2, 1, n)
        entry = ledger.statistical("demo:mean", r"\mathbb{E}[x] = a", where, samples=many, n=100_000)
        assert entry.strength == "both sides"
        with pytest.raises(CheckFailed):
            ledger.statistical("demo:off", r"\mathbb{E}[x + 1] = a", where, samples=many, n=100_000)

    def test_a_function_of_laws(self, ledger: Ledger) -> None:
        """A damaged copy may put a sign before a law: it has no value then, which is no failure of the check."""

        def where(draw: Draw) -> dict:
            a = draw.real(1, 2)
            return {"W": lambda p, q: abs(p.atoms[0] - q.atoms[0]), "p": Law([0], [1]), "q": Law([a], [1]), "a": a}

        entry = ledger.numeric("demo:distance", "W(p, q) = a", where)
        assert "a law" in entry.ill_formed["W of −(p)"]

    def test_a_probability_whose_damaged_copies_have_no_event(self, ledger: Ledger) -> None:
        """Without x nothing is random, and a complex number has no order: such copies have no value."""
        fair = Law.uniform([1, 2, 3, 4])
        where = lambda draw: {"x": fair, "n": draw.turn(4, 9), "b": draw.turn(2, 3), "a": draw.integer(5, 9)}
        entry = ledger.numeric("demo:event", r"\Pr(x + a \le \sqrt{n} + a) = \frac{b}{4}", where)
        assert "random" in entry.ill_formed["without x"]
        assert "complex" in entry.ill_formed["sqrt of −(n)"]

    def test_implementation(self, ledger: Ledger) -> None:
        tex = r"\exp A = \sum_{k=0}^{\infty} \frac{A^k}{k!}"
        entry = ledger.implementation("demo:series", tex, square, function=torch.linalg.matrix_exp)
        assert entry.strength == "both sides"
        assert [name.rpartition(".")[2] for name in entry.functions] == ["linalg_matrix_exp"]
        assert not entry.see_also

    def test_implementation_of_a_name(self, ledger: Ledger) -> None:
        tex = r"T_2(A) = I + A + \frac{A^2}{2}"
        T = lambda A: torch.eye(3, dtype=A.dtype) + A + A @ A / 2
        entry = ledger.implementation("demo:taylor", tex, square, function=T, name="T_2")
        assert entry.strength == "both sides"
        with pytest.raises(CheckFailed):  # called as the page calls it
            ledger.implementation("demo:other", tex.replace("(A)", "(2 A)"), square, function=T, name="T_2")
        with pytest.raises(LedgerError, match=r"X_2.* a function"):
            ledger.implementation("demo:name", tex.replace("T_2", "X_2"), square, function=T, name="T_2")
        with pytest.raises(LedgerError, match="hides"):
            ledger.implementation("demo:call", tex, square, function=T, call=lambda A: T(A), name="T_2")
        bare = ledger.implementation("demo:bare", tex.replace("(A)", ""), square, function=T, name="T_2")
        assert bare.strength == "both sides"

    def test_definition_is_counted_apart(self, ledger: Ledger) -> None:
        entry = ledger.definition("demo:name", r"\kappa := \|A\|\,\|A^{-1}\|", code="gantext.environment")
        assert repr(ledger) == (
            "demo: 0 equations checked (0 computed on both sides from their own TeX, 0 on one side, 0 quoted), "
            "1 definition; 0 of 0 mutants rejected"
        )
        assert entry.how == "introduces a name, nothing is checked"
        assert entry.see_also == ("gantext.environment",)
        assert not entry.functions

    def test_a_definition_is_compared_with_its_function(self, ledger: Ledger) -> None:
        tex = r"\kappa := \|A\|_F\,\|A^{-1}\|_F"
        condition = lambda A: A.norm() * torch.linalg.inv(A).norm()
        entry = ledger.definition("demo:name", tex, square, code=torch.linalg.cond, call=condition)
        assert entry.kind == "definition"
        assert entry.strength is None
        assert entry.killed == len(entry.mutants) > 2
        assert "compared" in entry.how
        with pytest.raises(CheckFailed):
            ledger.definition("demo:wrong", tex.replace("^{-1}", ""), square, call=condition)
        with pytest.raises(LedgerError, match="needs `where=`"):
            ledger.definition("demo:nowhere", tex, call=condition)

    @pytest.mark.parametrize("left", ["A", "2 A", "f(A)"])
    def test_a_left_side_with_a_value_of_its_own_is_no_new_name(self, ledger: Ledger, left: str) -> None:
        tex = r"S = \frac{1}{2} (A + A^{\top})"
        where = lambda draw: {**square(draw), "f": lambda X: 3 * X}
        half = lambda A, f: (A + A.T) / 2
        assert ledger.definition("demo:name", tex, where, call=half).killed
        with pytest.raises(CheckFailed):
            ledger.definition("demo:wrong", tex.replace("S", left), where, call=half)

    @pytest.mark.parametrize("known", [lambda x: 2 * x, 3.0])
    def test_a_definition_cannot_introduce_what_has_a_meaning(self, ledger: Ledger, known: Any) -> None:
        where = lambda draw: {"m": known, "x": draw.real(1, 2)}
        code = lambda x: 2 * x + 1
        assert ledger.definition("demo:new", r"y = 2 x + 1", where, call=code).killed
        with pytest.raises((LedgerError, CheckFailed), match="demo:old"):
            ledger.definition("demo:old", r"m = 2 x + 1", where, call=code)

    @pytest.mark.parametrize(
        ("tex", "says"),
        [
            (r"a = \sum_{=1}^{3} b", "a name is missing"),
            (r"a \le c \le b", "a list has its entries under an index"),
            (r"a = b \qquad \text{while } h_k = 0", "no whole number"),
        ],
    )
    def test_what_is_malformed_is_refused_by_its_label(self, ledger: Ledger, tex: str, says: str) -> None:
        where = lambda draw: {"a": draw.real(), "b": draw.real(), "c": [1.0, 2.0], "h": [1.0, 2.0], "k": [0.5, 1.0]}
        with pytest.raises(LedgerError, match=f"demo:bad(.|\n)*{says}"):
            ledger.numeric("demo:bad", tex, where)

    def test_notations_of_the_chapter_are_no_arguments(self) -> None:
        ledger = Ledger("demo", where={"^*": Superscript("adjoint"), "c": 2})
        entry = ledger.implementation("demo:i", r"B = A + A^* + c A", square, function=lambda A: 3 * A + A.T, name="B")
        assert entry.strength == "both sides"
        definition = ledger.definition("demo:d", r"B = A + A^* + c A", square, call=lambda A: 3 * A + A.T)
        assert definition.killed

    def test_computed_names(self, ledger: Ledger) -> None:
        where = lambda draw: {"a": draw.real(1, 2), "b": draw.real(1, 2)}
        entry = ledger.numeric("demo:mean", "m = \\frac{a + b}{2}", where, computed={"m": lambda a, b: b + (a - b) / 2})
        assert entry.strength == "both sides"
        with pytest.raises(LedgerError, match=r"'m'. is not in the TeX"):
            ledger.numeric("demo:unused", "b = \\frac{2 b}{2}", where, computed={"m": lambda a, b: b + (a - b) / 2})
        with pytest.raises(LedgerError, match=r"'m'. is not in the TeX as it was read: M ="):
            ledger.numeric("demo:swapped", "M = \\frac{a + b}{2}", where, computed={"m": lambda a, b: b + (a - b) / 2})
        with pytest.raises(CheckFailed):  # a name that means something else
            ledger.numeric("demo:a", "a = \\frac{a + b}{2}", where)
        with pytest.raises(LedgerError, match="give it once"):
            ledger.numeric("demo:twice", "a = \\frac{2a}{2}", where, computed={"a": 1})

    def test_inequality(self, ledger: Ledger) -> None:
        orthogonal = lambda draw: {"A": mp.qr(draw.matrix(3))[0] * mp.diag([1, 1, draw.real(0.99, 1.01)])}
        tex = r"|\det A| \le \Bigl( \frac{\|A\|_F^2}{3} \Bigr)^{3/2}"
        entry = ledger.numeric("demo:hadamard", tex, orthogonal, also_true={"det of −(A)": "only its size counts"})
        assert ("the bound one per cent tighter", True) in entry.mutants
        assert "relative difference" not in entry.how
        assert entry.weaker

    def test_one_side_in_code_needs_an_excuse_for_the_other(self, ledger: Ledger) -> None:
        ab = lambda draw: {"a": draw.real(1, 2), "b": draw.real(1, 2)}
        tex = r"Q(x) = a + b"
        with pytest.raises(LedgerError, match=r"Declare .Q.: f"):
            ledger.numeric("demo:q", tex, ab, lhs=lambda a, b: a + b)
        entry = ledger.numeric("demo:q", tex, ab, lhs=lambda a, b: a + b, unread={"Q(x)": "it is a name"})
        assert entry.strength == "one side"
        assert entry.read == "(not read) = a + b"
        with pytest.raises(LedgerError, match="needs both"):
            ledger.numeric("demo:quoted", r"\iint f = g", ab, lhs=lambda a: a * a, unread="no law is at hand")
        entry = ledger.numeric("demo:quoted", r"\iint f = g", ab, lhs=lambda a: a * a, rhs=lambda a: a**2, unread="why")
        assert entry.strength == "quoted"
        assert entry.unread == {r"\iint f = g": "why"}

    def test_refutation(self, ledger: Ledger) -> None:
        w = mp.expjpi(mp.mpf(2) / 3)
        entry = ledger.refutation(
            "demo:log",
            r"\ln\det B = \operatorname{tr}\ln B",
            {"B": mp.matrix([[w, 0, 0], [0, w, 0], [0, 0, w]])},
            source="a blog",
            counterexample="B = e^{2πi/3} I",
            holds=r"\det B = e^{\operatorname{tr}\ln B}",
        )
        assert entry.refutes is not None
        assert entry.refutes["holds instead"] == r"\det B = e^{\operatorname{tr}\ln B}"

    def test_mutants_by_name(self, ledger: Ledger) -> None:
        entry = ledger.numeric(
            "demo:product", "AB = C", lambda d: {"A": d.matrix(3), "B": d.matrix(3)},
            computed={"C": lambda A, B: A * B}, mutants={"swapped": lambda A, B: B * A},
        )  # fmt: skip
        assert ("swapped", True) in entry.mutants

    def test_what_a_conditional_is_given_has_no_sign_of_its_own(self, ledger: Ledger) -> None:
        entry = ledger.numeric(
            "demo:bayes", r"p(u, w \mid d) = u w + d^3",
            lambda d: {n: d.real(1, 2) for n in "uwd"} | {"p(|)": lambda u, w, d: u * w + d**3},
        )  # fmt: skip
        assert ("p given −(d)", True) in entry.mutants
        assert not any("(given d)" in name for name, _ in entry.mutants)

    def test_a_dropped_factor_that_leaves_a_sum_of_two_shapes_is_ill_formed(self, ledger: Ledger) -> None:
        def row(d: Draw) -> dict:
            x, g = d.matrix(d.turn(2, 3), 1), d.matrix(d.turn(2, 3), 1)
            return {"x": x, "g": g, "y": g - x * (x.T * g), "I": mp.eye(x.rows)}

        entry = ledger.numeric("demo:rest", r"y = (I - x x^{\top})\, g", row)  # the identity is no special draw
        assert (
            "shapes" in entry.ill_formed["without the factor x"] or "added" in entry.ill_formed["without the factor x"]
        )

    def test_a_derivative_by_an_entry_of_a_list_beside_code(self, ledger: Ledger) -> None:
        entry = ledger.numeric(
            "demo:entry", r"\frac{\partial S}{\partial p_i} = 3 p_i^2",
            lambda d: {"p": d.matrix(3, 1), "i": d.turn(1, 2, 3), "S": Derived(lambda p: sum(x**3 for x in p))},
            lhs=lambda p, i: 3 * float(p[int(i) - 1]) ** 2, tol=1e-12,
        )  # fmt: skip
        assert entry.strength == "both sides"

    def test_a_damaged_score_that_is_complex_is_ill_formed(self, ledger: Ledger) -> None:
        entry = ledger.numeric(
            "demo:score", r"\hat{x} = \arg\max_x x \log f(x)",
            lambda d: {"f": lambda x: 7 - x, "x": Over([1, 2, d.real(3, 4)])}, computed={"hat x": lambda x: x.items[2]},
            also_true={"f of −(x)": "7 + x is above 1", "without the factor log(f(x))": "x is largest there"},
        )  # fmt: skip
        assert "compared" in entry.ill_formed["log of −(f(x))"]

    def test_a_name_may_stand_for_a_list_that_is_empty_at_first(self, ledger: Ledger) -> None:
        entry = ledger.exact(
            "demo:past", r"y_T = \prod_{t=1}^{T} g(y_{<t})",
            lambda d: {"y": [2, 4, 12], "T": d.turn(2, 3), "y_<t": Derived(lambda y, t: y[: int(t) - 1]),
                       "g": lambda past: 1 + len(past) if len(past) else 2},
        )  # fmt: skip
        assert entry.read == "y_T = prod[t=1..T] g(y_<t)"

    def test_the_identity_hides_no_symmetric_matrix(self, ledger: Ledger) -> None:
        def pair(d: Draw) -> dict:
            A = d.matrix(d.turn(2, 3))
            return {"A": A + A.T, "I": mp.eye(A.rows)}

        with pytest.raises(LedgerError, match="A is symmetric in every draw"):
            ledger.numeric("demo:square", r"(I + A)^2 = I + 2 A + A^2", pair)


class TestWrongEquationsFail:
    """Each of these was printed by somebody, or could have been."""

    @pytest.mark.parametrize(
        "tex",
        [
            r"\det(\exp A) = \exp(-\operatorname{Tr} A)",
            r"\det(\exp A) = \operatorname{Tr}(\exp A)",
            r"\det(\exp A) = \exp(\det A)",
            r"\det(e^{A}e^{B}) = e^{\operatorname{tr}(AB)}",
            r"e^{A}e^{B} = e^{A+B}",
            r"\frac{d}{dt}\det e^{tA} = \det e^{tA}",
            r"\det(I + A) = 1 + \operatorname{tr} A",
            r"\operatorname{tr}(AB) = \operatorname{tr}(A)\operatorname{tr}(B)",
            r"(AB)^\top = A^\top B^\top",
            r"|\det A| > \|A\|_F^3",
        ],
    )
    def test_bound(self, ledger: Ledger, tex: str) -> None:
        with pytest.raises(CheckFailed, match="does not hold between them"):
            ledger.numeric("demo:wrong", tex, lambda d: {"A": d.matrix(3), "B": d.matrix(3), "t": d.real()})
        assert not ledger.entries

    def test_symbolic(self, ledger: Ledger) -> None:
        with pytest.raises(CheckFailed):
            ledger.symbolic("demo:wrong", r"(x+1)^2 = x^2 + x + 1", {"x": X})

    def test_exact(self, ledger: Ledger) -> None:
        with pytest.raises(CheckFailed):
            ledger.exact("demo:wrong", r"\sum_{k=1}^{n} k = \frac{n(n-1)}{2}", lambda d: {"n": d.integer(3, 9)})

    def test_gradient(self, ledger: Ledger) -> None:
        with pytest.raises(CheckFailed):
            ledger.gradient("demo:wrong", r"\nabla_A f = A", square, of=lambda A: (A * A).sum(), wrt="A", name="f")
        of = lambda A: (A * A).sum() / 2
        with pytest.raises(CheckFailed):  # the page's own left side is another function
            ledger.gradient("demo:wrong", r"\nabla_A \|A\|_F^2 = A", square, of=of, wrt="A")

    def test_statistical(self, ledger: Ledger) -> None:
        tex = r"\mathbb{E}[v^\top A v] = \operatorname{tr} A + \frac{1}{10}"
        for where in (square, lambda draw: {"A": draw.matrix(3), "v": Law.uniform([-1, 1]).independent(3)}):
            excuse = {r"\mathbb{E}[v^\top A v]": "why"} if where is square else {}
            with pytest.raises(CheckFailed):
                ledger.statistical("demo:wrong", tex, where, samples=signs, n=100_000, unread=excuse)

    def test_implementation(self, ledger: Ledger) -> None:
        with pytest.raises(CheckFailed):
            ledger.implementation("demo:wrong", r"S = I + A", square, function=torch.linalg.matrix_exp, name="S")

    def test_a_difference_in_one_entry_of_a_matrix_is_seen(self, ledger: Ledger) -> None:
        def nearly(A):
            B = A.copy()
            B[2, 0] += mp.mpf("1e-18")
            return B

        with pytest.raises(CheckFailed):
            ledger.numeric("demo:wrong", "A = B", square, computed={"B": nearly})

    def test_nan_is_never_equal(self, ledger: Ledger) -> None:
        with pytest.raises(CheckFailed):
            ledger.numeric("demo:wrong", "a = b", {"a": mp.nan, "b": mp.nan})

    def test_shapes_must_agree(self, ledger: Ledger) -> None:
        with pytest.raises(CheckFailed):
            ledger.numeric("demo:wrong", "A = b", {"A": mp.eye(1), "b": 1})


class TestChecksThatCannotFailAreRefused:
    def test_zero_equals_zero(self, ledger: Ledger) -> None:
        with pytest.raises(CheckFailed, match="lets a mutant survive"):
            ledger.numeric("demo:vacuous", "ab = ba", {"a": mp.mpf(0), "b": mp.mpf(1)}, weak="why")

    def test_a_symbol_may_have_any_name(self, ledger: Ledger) -> None:
        """A clash of names inside the ledger would make mutants fail to run, and so count as rejected."""
        names = {"change": mp.mpf(2), "side": mp.mpf(3)}
        zero = lambda change, side: 0 * change * side
        with pytest.raises(CheckFailed, match="survive"):
            ledger.numeric("demo:vacuous", r"\iint f = 0", names, lhs=0, rhs=zero, unread="why")

    def test_a_trace_of_zero_cannot_tell_a_sign(self, ledger: Ledger) -> None:
        nilpotent = mp.matrix([[0, 1], [0, 0]])
        tex = r"\det(\exp A) = \exp(\operatorname{Tr} A)"
        with pytest.raises(CheckFailed, match="Tr of"):
            ledger.numeric("demo:vacuous", tex, {"A": nilpotent}, weak="why")

    def test_a_constant_sample_has_no_error_bar(self, ledger: Ledger) -> None:
        excuse = {r"\mathbb{E} x": "why"}
        with pytest.raises(CheckFailed):
            ledger.statistical(
                "demo:vacuous", r"\mathbb{E} x = 1", {}, samples=lambda n: np.ones(n), n=100, unread=excuse
            )

    def test_too_few_samples_cannot_tell_mutants_apart(self, ledger: Ledger) -> None:
        def samples(n: int, rng: np.random.Generator) -> np.ndarray:
            return 1 + 50 * rng.normal(size=n)

        excuse = {r"\mathbb{E} x": "why"}
        tex = r"\mathbb{E} x = a"
        with pytest.raises(CheckFailed, match="survive"):
            ledger.statistical("demo:vacuous", tex, {"a": 1.0}, samples=samples, n=50, unread=excuse, weak="why")

    def test_symbolic_mutants_need_a_numerical_witness(self, ledger: Ledger) -> None:
        with pytest.raises(CheckFailed, match="cosh of"):
            ledger.symbolic("demo:even", r"\cosh^2 x - \sinh^2 x = 1", {"x": X})

    def test_what_is_true_as_well_is_said_with_its_reason(self, ledger: Ledger) -> None:
        why = {"cosh of −(x)": "cosh is even", "sinh of −(x)": "its square is even"}
        entry = ledger.symbolic("demo:even", r"\cosh^2 x - \sinh^2 x = 1", {"x": X}, also_true=why)
        assert entry.also_true == why
        assert not {name for name, _ in entry.mutants} & set(why)

    def test_an_excuse_for_a_dead_mutant_is_an_error(self, ledger: Ledger) -> None:
        with pytest.raises(LedgerError, match="also_true names"):
            ledger.numeric("demo:a", "a + b - a = b", {"a": 1, "b": 2}, also_true={"without b": "?"}, weak="why")

    def test_a_formula_in_code_needs_named_mutants(self, ledger: Ledger) -> None:
        with pytest.raises(LedgerError, match="name some in `mutants=`"):
            ledger.gradient("demo:g", r"\nabla_A f = g", square, of=lambda A: A.sum(), wrt="A", rhs=lambda A: A * 0 + 1)

    def test_a_statement_that_holds_is_not_refuted(self, ledger: Ledger) -> None:
        with pytest.raises(CheckFailed, match="does not fail here"):
            ledger.refutation(
                "demo:r", "a = b", {"a": 1, "b": 1}, source="s", counterexample="c", holds=r"a = b"
            )  # fmt: skip

    def test_a_counterexample_meets_the_printed_condition(self, ledger: Ledger) -> None:
        said: dict[str, Any] = {"source": "s", "counterexample": "c", "holds": r"2 x = x + x"}
        with pytest.raises(LedgerError, match="demo:r: the counterexample breaks the condition"):
            ledger.refutation("demo:r", r"|x| = x \qquad (x > 0)", {"x": -3}, **said)
        entry = ledger.refutation("demo:r", r"|x| = x \qquad (x < 1)", {"x": -3}, sides=(3, -3), **said)
        assert entry.strength == "both sides"

    def test_a_refuted_statement_is_told_from_other_false_ones(self, ledger: Ledger) -> None:
        def refuted(tex: str, *sides) -> Entry:
            x = mp.mpf("-0.1")
            ledger.entries.clear()
            said: dict[str, Any] = {"source": "s", "counterexample": "c", "holds": r"s = 2 x"}
            said |= {"sides": sides} if sides else {}
            return ledger.refutation("demo:r", tex, {"x": x, "s": 2 * x}, **said)

        entry = refuted("s = 1 + x", mp.mpf("-0.2"), "0.90")
        assert entry.strength == "both sides"
        assert "-0.2 and 0.90 there, as stated" in entry.how
        assert dict(entry.mutants)["stated with sign of x"] is True
        assert entry.undecided == ()
        for misprint in ("s = 1 - x", "s = 1 + 2 x", "2 s = 1 + x", "s + 1 = x", "s = 1 + x^2", r"s = 1.01 + x"):
            assert refuted(misprint).strength == "quoted"  # false as well, and nothing tells
            with pytest.raises(CheckFailed, match="not the statement that was meant"):
                refuted(misprint, mp.mpf("-0.2"), "0.90")
        assert "another false one would fail as well" in next(iter(refuted("s = 1 - x").unread.values()))
        for sides in ((1,), ("a", 1), ("nan", 1)):
            with pytest.raises(LedgerError, match="sides="):
                refuted("s = 1 + x", *sides)

    def test_a_slip_that_the_counterexample_does_not_see_is_named(self, ledger: Ledger) -> None:
        said: dict[str, Any] = {"source": "s", "counterexample": "c", "holds": r"3 y = y + y + y"}
        entry = ledger.refutation("demo:q", r"2 x + 1 = x^2", {"x": 2, "y": 3}, sides=(5, 4), **said)
        assert entry.undecided == ()
        entry = ledger.refutation("demo:p", r"x + 1 = x^2 + y", {"x": 1, "y": 2}, sides=(2, 3), **said)
        assert entry.undecided == ("stated with x^2 with the exponent's sign changed", "stated with 2 → 3")

    def test_the_sides_of_a_statement_in_words_and_of_matrices(self, ledger: Ledger) -> None:
        said: dict[str, Any] = {"source": "s", "counterexample": "c", "statement": "they are equal"}
        said |= {"holds": "they are not"}
        same: dict[str, Any] = {"corrected": (lambda x: 3 * x, lambda x: x + 2 * x)}
        same |= {"published": (lambda x: 1 / x, lambda x: x)}
        entry = ledger.refutation("demo:r", None, {"x": mp.mpf(3)}, sides=("0.333", 3), **said, **same)
        assert (entry.strength, entry.passed) == ("quoted", True)
        with pytest.raises(CheckFailed, match=r"a side of the statement is 0\.334"):
            ledger.refutation("demo:s", None, {"x": mp.mpf(3)}, sides=("0.334", 3), **said, **same)
        M = mp.matrix([[1, 2], [3, 4]])
        matrices: dict[str, Any] = {"source": "s", "counterexample": "c", "holds": "M + M = 2 M"}
        entry = ledger.refutation("demo:t", "M = 2 M", {"M": M}, sides=([[1, 2], [3, 4]], 2 * M), **matrices)
        assert entry.strength == "both sides"
        with pytest.raises(CheckFailed, match="not the statement that was meant"):
            ledger.refutation("demo:u", "M = 3 M", {"M": M}, sides=([[1, 2], [3, 4]], 2 * M), **matrices)

    def test_words_excused_leave_the_strength_as_in_every_check(self, ledger: Ledger) -> None:
        words = r"\text{for all } x"
        entry = ledger.refutation(
            "demo:r", rf"|x| = x \qquad {words}", {"x": -3}, source="s", counterexample="c", holds=r"2 x = x + x",
            unread={words: "x is one of them"}, sides=(3, -3),
        )  # fmt: skip
        assert (entry.strength, list(entry.unread)) == ("both sides", [words])

    def test_what_holds_instead_must_hold(self, ledger: Ledger) -> None:
        with pytest.raises(CheckFailed, match="does not hold between them"):
            ledger.refutation("demo:r", "a = b", {"a": 1, "b": 2}, source="s", counterexample="c", holds=r"a = 3 b")


def spread(draw: Draw) -> dict:
    return {"a": draw.real(1, 2), "b": draw.real(1, 2)}


def test_cases_of_which_a_damaged_copy_has_none() -> None:
    """A condition turned round may leave a draw without a case: the formula has no value there."""
    tex = r"f(x) = \begin{cases} x^2 & x \le 1 \\ 2 x - 1 & 1 \le x \le 2 \\ 3 & x \ge 2 \end{cases}"

    def f(x: Any) -> Any:
        return x**2 if x < 1 else min(2 * x - 1, 3)

    where = lambda draw: {"f": f, "x": draw.real(0.2, 0.9) + draw.turn(0, 1, 2)}
    entry = Ledger("demo").numeric("demo:cases", tex, where, draws=6)
    assert entry.strength == "both sides"
    assert "no case" in " ".join(entry.ill_formed.values())


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        (r"(i \ge N)", "the number i is compared with a matrix"),
        (r"\text{for } N < i", "the number i is compared with a matrix"),
        (r"(v > N)", "a 2×1 matrix is compared with a 3×3 one"),
        (r"i = 1, \ldots, N", "an end of it is a matrix"),
        (r"(N \ge -9)", None),  # every entry
        (r"(N \ne 0)", None),
    ],
)
def test_a_condition_compares_what_can_be_compared(ledger: Ledger, condition: str, says: str | None) -> None:
    where = lambda draw: {"x": draw.real(1, 2), "i": 1, "N": draw.matrix(3) + mp.eye(3), "v": draw.matrix(2, 1)}
    check = lambda: ledger.numeric("demo:a", rf"2 x = x + x \qquad {condition}", where)
    if says is None:
        assert check().strength == "both sides"
        return
    with pytest.raises(LedgerError, match=rf"demo:a: the condition .* has no value \(.*{says}"):
        check()


class TestMisuse:
    @pytest.mark.parametrize(
        ("call", "says"),
        [
            (lambda: Ledger("Det Exp"), "use lower-case letters"),
            (lambda: Ledger("demo").numeric("main", "a=a"), "labels of this chapter look like 'demo:some-name'"),
            (lambda: Ledger("demo").numeric("other:main", "a=a"), "labels of this chapter"),
            (lambda: Ledger("demo").numeric("demo:a", "$a=a$"), "without dollars"),
            (lambda: Ledger("demo").numeric("demo:a", "  "), "must be the page's TeX"),
            (lambda: Ledger("demo").numeric("demo:a", "a + b", {"a": 1, "b": 1}), "states no relation"),
            (lambda: Ledger("demo").numeric("demo:a", "a = b", {"a": 1}), "'b' has no value: add it to `where`"),
            (lambda: Ledger("demo").numeric("demo:a", r"\utter a = b", {"a": 1}), "cannot read"),
            (lambda: Ledger("demo").numeric("demo:a", "a = b", square, draws=0), "a check needs at least one"),
            (lambda: Ledger("demo").numeric("demo:a", "a = b", {"a": 1, "b": 1}, rhs=lambda c: c), "a side asks for c"),
            (lambda: Ledger("demo").numeric("demo:a", "2a = a + a", spread, code="gantext.nothing"), "does not exist"),
            (
                lambda: Ledger("demo").refutation("demo:a", statement="s", source="", counterexample="", holds=""),
                "in words needs",
            ),
            (
                lambda: Ledger("demo").refutation("demo:a", source="", counterexample="", holds="", sides=(1, 2)),
                "no display equation of this label was found",
            ),
            (
                lambda: Ledger("demo").statistical("demo:a", "E = 1", {"E": 1}, samples=lambda n: np.ones(3), n=5),
                "it must return n = 5 numbers",
            ),
        ],
    )
    def test_errors_say_what_to_do(self, call, says: str) -> None:
        with pytest.raises(LedgerError, match=says.replace("`", ".")):
            call()

    def test_one_equation_one_entry(self, ledger: Ledger) -> None:
        ledger.numeric("demo:a", "2a = a + a", spread)
        with pytest.raises(LedgerError, match="has an entry already: one equation, one entry"):
            ledger.numeric("demo:a", "2a = a + a", spread)
        with pytest.raises(LedgerError, match="has an entry already, for"):
            ledger.numeric("demo:a", "3a = a + a + a", spread)

    def test_a_cell_can_run_twice(self, ledger: Ledger) -> None:
        cell = compile('made = ledger.numeric("demo:a", "2a = a + a", spread)', "cell 1", "exec")
        for _ in range(2):
            exec(cell, {"ledger": ledger, "spread": spread})
        other = compile('made = ledger.numeric("demo:a", "3a = a + a + a", spread)', "cell 1", "exec")
        with pytest.raises(LedgerError, match="one equation, one entry"):
            exec(other, {"ledger": ledger, "spread": spread})
        del ledger.entries["demo:a"]
        exec(other, {"ledger": ledger, "spread": spread})
        assert ledger.entries["demo:a"].tex == "3a = a + a + a"

    def test_a_misspelt_option_is_an_error(self, ledger: Ledger) -> None:
        with pytest.raises(TypeError, match="mutant"):
            ledger.numeric("demo:a", "2a = a + a", spread, mutant={})  # type: ignore[call-arg]

    def test_a_failed_check_stores_nothing(self, ledger: Ledger) -> None:
        with pytest.raises(CheckFailed):
            ledger.numeric("demo:a", "a = 2a", spread)
        ledger.numeric("demo:a", "2a = a + a", spread)


class TestEntry:
    def entry(self) -> Entry:
        return Ledger("demo").numeric("demo:main", r"\det(\exp A) = \exp(\operatorname{Tr} A)", square)

    def test_the_stored_form_survives_json(self) -> None:
        entry = self.entry()
        bundle = entry._repr_mimebundle_()
        assert set(bundle) == {"text/plain", "text/html", MIME}
        assert Entry.from_json(json.loads(json.dumps(bundle[MIME]))) == entry

    def test_every_run_gives_the_same_entry(self) -> None:
        assert self.entry() == self.entry()

    def test_other_editions_and_broken_records_are_refused(self) -> None:
        data = self.entry().as_json()
        with pytest.raises(LedgerError, match="has schema 0"):
            Entry.from_json({**data, "schema": 0})
        with pytest.raises(LedgerError, match="incomplete"):
            Entry.from_json({k: v for k, v in data.items() if k != "mutants"})

    def test_problems_are_seen_in_the_record_itself(self) -> None:
        data = self.entry().as_json()
        failed = Entry.from_json({**data, "passed": False})
        survivor = Entry.from_json({**data, "mutants": [["a sign", False]]})
        toothless = Entry.from_json({**data, "mutants": []})
        unknown = Entry.from_json({**data, "kind": "guess"})
        claims = Entry.from_json({**data, "strength": "all of it"})
        shapeless = Entry.from_json({**data, "ill_formed": {name: "has no value" for name, _ in data["mutants"]}})
        assert "unknown strength" in claims.problems()[0]
        assert "by its value" in shapeless.problems()[0]
        assert "claims the strength" in Entry.from_json({**data, "kind": "definition"}).problems()[0]
        assert failed.problems() == ["failed its check"]
        assert survivor.problems() == ["lets a mutant survive: a sign"]
        assert "nothing shows that its check can fail" in toothless.problems()[0]
        assert "unknown kind" in unknown.problems()[0]
        assert repr(failed).startswith("✗")

    def test_html_is_escaped(self) -> None:
        evil = "<script>"
        entry = Entry(
            "demo:a", "numeric", "a", "both sides", True, evil, read=evil, unread={evil: evil}, drawn=evil,
            mutants=((evil, True),), ill_formed={evil: evil}, also_true={evil: evil}, weaker=(evil,), undecided=(evil,),
            functions=(evil,), see_also=(evil,), loose=evil, weak=evil, refutes={evil: evil},
        )  # fmt: skip
        assert evil not in entry._repr_html_()

    @pytest.mark.parametrize(
        ("one", "other", "same"),
        [
            ("a = b.", " a=b ", True),
            (r"\det  A = 1 ,\quad", r"\det A=1", True),
            ("a = b\n + c", "a=b+c", True),
            (r"\det A", r"\detA", False),
            ("a=b", "a=-b", False),
            ("a_{ij}", "a_{ji}", False),
        ],
    )
    def test_normal_form(self, one: str, other: str, same: bool) -> None:
        assert (normal(one) == normal(other)) is same


def test_draws_differ_between_labels_and_repeat_for_one() -> None:
    assert Draw("demo:a", 0).matrix(3) == Draw("demo:a", 0).matrix(3)
    assert Draw("demo:a", 0).matrix(3) != Draw("demo:b", 0).matrix(3)
    assert Draw("demo:a", 0).matrix(3) != Draw("demo:a", 1).matrix(3)
    assert all(isinstance(x, sp.Rational) for x in Draw("demo:a", 0, exact=True).matrix(2))


@pytest.mark.parametrize(
    "tex",
    [
        r"\int_{0}^{a} t^2 \,dt = \frac{a^3}{3}",
        r"\int_{0}^{a} t^2 dt = \frac{a^3}{3}",
        r"\int_{0}^{a} dt\, t^2 = \frac{a^3}{3}",
    ],
)
def test_the_variable_of_an_integral_may_be_raised_to_a_power(ledger: Ledger, tex: str) -> None:
    entry = ledger.numeric("demo:int", tex, lambda draw: {"a": draw.real(1, 2)}, digits=20, tol=1e-12)
    assert entry.strength == "both sides"


def test_a_damaged_mean_over_nothing_random_has_no_value(ledger: Ledger) -> None:
    entry = ledger.numeric(
        "demo:moment",
        r"\mathbb{E}[e^{k x}] = \frac{e^k + e^{-k}}{2}",
        lambda draw: {"k": draw.real(1, 2), "x": Law.uniform([-1, 1])},
        also_true={"exp of −(k·x)": "the law is even"},
    )
    assert "nothing that is random" in entry.ill_formed["without the factor x"]


def test_a_damaged_sum_of_matrices_of_two_shapes_has_no_value(ledger: Ledger) -> None:
    where = lambda draw: {k: draw.matrix(draw.turn(2, 3), 1) for k in ("w", "u")} | {"A": draw.matrix(draw.turn(2, 3))}
    outer = lambda A, w, u: A - w * u.T
    entry = ledger.numeric("demo:shapes", r"P = A - w u^{\top}", where, computed={"P": outer})
    assert "are added" in entry.ill_formed["without the factor w"]


def test_no_address_of_this_machines_memory_is_stored(ledger: Ledger) -> None:
    where = lambda draw: {"T": Optimum(lambda x: x, [lambda x: x / 2]), "x": draw.real(1, 2), "c": draw.real(1, 2)}
    entry = ledger.numeric("demo:address", r"\max_T (c T(x)) = c x", where)
    assert any("a function" in why for why in entry.ill_formed.values())
    assert "0x" not in repr(entry.as_json())
