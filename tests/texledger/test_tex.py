"""The reader of TeX: what it reads, how it reads it, what it refuses; and SymPy's parser as a second opinion."""

from __future__ import annotations

import mpmath as mp
import pytest
import sympy as sp
from lark import Tree
from sympy.parsing.latex import parse_latex
from texledger._exact import Exact
from texledger._numeric import Numeric
from texledger._tex import read, statements
from texledger._tree import show

from texledger import Unreadable

A = mp.matrix([[mp.mpf("0.3"), mp.mpf("-0.5")], [mp.mpf("0.25"), mp.mpf("0.8")]])
B = mp.matrix([[mp.mpf("-0.4"), mp.mpf("0.1")], [mp.mpf("0.9"), mp.mpf("0.2")]])


@pytest.mark.parametrize(
    ("tex", "reading"),
    [
        (r"\det(\exp A)", "det(exp(A))"),
        (r"\det \exp tA", "det(exp(t·A))"),
        (r"\det(A) x", "det(A)·x"),
        (r"\operatorname{tr} A B + C", "tr(A·B) + C"),
        (r"\operatorname{tr} A \cdot b", "tr(A)·b"),
        (r"\operatorname{Tr} A / m", "Tr(A)/m"),
        (r"\log\det(I+A)", "log(det(I + A))"),
        (r"\sin x \cos x", "sin(x)·cos(x)"),
        (r"\cosh^2 x", "cosh(x)^2"),
        (r"e^{tA}A", "exp(t·A)·A"),
        (r"A e^{tA}", "A·exp(t·A)"),
        (r"M^{-1}M'", "M^(-1)·M'"),
        (r"A^\top A^*", "Aᵀ·A^*"),
        (r"p(x \mid y) V^\pi", "p(x, given y)·V^pi"),
        (r"\sqrt[3]{x}", "root(x, 3)"),
        (r"\sum_k a_k", "sum[k] a_k"),
        (r"\sum_{k=0}^{n} a_k b + c", "sum[k=0..n] (a_k·b) + c"),
        (r"\prod_{i=1}^n e^{\lambda_i}", "prod[i=1..n] exp(lambda_i)"),
        (r"\frac{d}{dt}\det M(t)", "d/dt det(M·t)"),
        (r"\frac{\mathrm{d}}{\mathrm{d}t} f t", "d/dt (f·t)"),
        (r"\frac{d}{dh} g\Big|_{h=0}", "d/dh g|h=0"),
        (r"\frac{dx}{dt}", "d/dt x"),
        (r"\int_0^t a s \,ds", "int[s=0..t] (a·s)"),
        (r"\int_0^1 (a+b)\,\mathrm{d}s", "int[s=0..1] (a + b)"),
        (r"\lim_{m\to\infty}\left(I+\frac{A}{m}\right)^m", "lim[m→infty] (I + A/m)^m"),
        (r"\begin{pmatrix} a & -b \\ c & d \end{pmatrix}", "[a, -b; c, d]"),
        (r"\begin{vmatrix} a & b \\ c & d \end{vmatrix}", "det([a, b; c, d])"),
        (r"-a^2", "-a^2"),
        (r"\|S\|_F^2", "‖S‖_F^2"),
        (r"|x-1| y", "abs(x - 1)·y"),
        (r"\vartheta_1", "vartheta_1"),
        (r"2ab", "2·a·b"),
        (r"k!", "factorial(k)"),
    ],
)
def test_reading(tex: str, reading: str) -> None:
    assert show(read(tex)) == reading


def test_a_letter_is_applied_only_if_it_is_declared() -> None:
    assert show(read("f(t)")) == "f·t"
    where = {"f": mp.exp, "t": 1}
    assert show(read("f(t)", where)) == "f(t)"
    assert show(read("f'(t)", where)) == "f'(t)"


@pytest.mark.parametrize(
    "tex",
    [
        r"a/b c",
        r"\iint x",
        r"\sum a_k",
        "a +",
        "(a",
        r"\begin{cases} a \end{cases}",
        r"\lim_{x} a",
        r"\foo a",
    ],
)
def test_what_is_not_understood_is_refused(tex: str) -> None:
    with pytest.raises(Unreadable, match="cannot read"):
        read(tex)


def test_macros_are_replaced_as_whole_commands() -> None:
    macros = {r"\T": r"^{\top}", r"\R": "R"}
    assert show(read(r"A\T B", macros=macros)) == "Aᵀ·B"
    with pytest.raises(Unreadable):
        read(r"A\Tt", macros=macros)


def test_products_keep_their_order() -> None:
    numeric = Numeric()
    env = {"A": A, "B": B}
    assert numeric.evaluate(read("AB"), env) == A * B
    assert numeric.evaluate(read("BA"), env) != A * B


def test_a_number_plus_a_matrix_has_no_value() -> None:
    with pytest.raises(ValueError, match="a number is added to a matrix"):
        Numeric().evaluate(read("1 + A"), {"A": A})
    with pytest.raises(ValueError, match="division by the matrix"):
        Numeric().evaluate(read(r"\frac{1}{A}"), {"A": A})


def test_identity_takes_its_size_from_the_matrices_and_only_if_that_is_clear() -> None:
    assert Numeric().evaluate(read("I + A"), {"A": A}) == mp.eye(2) + A
    with pytest.raises(Unreadable, match="size of I is not clear"):
        Numeric().evaluate(read("I"), {"A": A, "C": mp.eye(3)})


@pytest.mark.parametrize(
    ("tex", "env", "value"),
    [
        (r"\frac{d}{dx} x^3", {"x": mp.mpf(2)}, 12),
        (r"\frac12 x^2y", {"x": mp.mpf(2), "y": mp.mpf(3)}, 6),  # as TeX sets it: one half of x squared times y
        (r"\frac{d}{dx}\frac{d}{dx} x^3", {"x": mp.mpf(2)}, 12),
        (r"f''(x)", {"x": mp.mpf(1), "f": lambda x: x**4}, 12),
        (r"\int_0^2 x^2 \,dx", {}, mp.mpf(8) / 3),
        (r"\sum_{k=0}^{\infty} \frac{x^k}{k!}", {"x": mp.mpf(1)}, mp.e),
        (r"\lim_{n\to\infty} (1 + \frac{1}{n})^n", {}, mp.e),
        (r"\lim_{h\to 0} \frac{\sin h}{h}", {}, 1),
        (r"\prod_{k=1}^{5} k", {}, 120),
        (r"\sum_{i=1}^{2} \lambda_i", {"lambda": [3, 4]}, 7),
        (r"\det A - A_{11} A_{22} + A_{12} A_{21}", {"A": A}, 0),
        (r"\operatorname{tr}(A \operatorname{adj} A) - 2\det A", {"A": A}, 0),
        (r"\|A\|_F^2 - \operatorname{tr}(A^\top A)", {"A": A}, 0),
        (r"\binom{5}{2}", {}, 10),
        (r"|\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}|", {}, -2),
    ],
)
def test_values_to_thirty_digits(tex: str, env: dict, value: object) -> None:
    with mp.workdps(50):
        computed = Numeric().evaluate(read(tex, env), env)
        expected = mp.e if value is mp.e else mp.mpf(8) / 3 if tex.startswith(r"\int") else mp.mpmathify(value)
        tolerance = mp.mpf("1e-20") if "lim" in tex else mp.mpf("1e-30")
        assert abs(computed - expected) < tolerance


def test_a_series_that_does_not_settle_is_refused() -> None:
    for tex in (r"\sum_{k=1}^{\infty} \frac{1}{k}", r"\sum_{k=0}^{\infty} 2^k"):
        with pytest.raises(ValueError, match="does not settle"):
            Numeric().evaluate(read(tex), {})


def test_exact_arithmetic_takes_no_floating_point_matrix() -> None:
    import numpy as np

    with pytest.raises(TypeError, match="use SymPy rationals"):
        Exact().value(np.eye(2))


SECOND_OPINION = [
    r"a + b \cdot c - 2 a",
    r"\frac{a+b}{c} - \frac{1}{2} a^2",
    r"\sin(a) + \cos(b) \cdot c",
    r"\sqrt{a^2 + b^2}",
    r"a^{-1} + b^{2}",
    r"\sum_{k=1}^{4} k^2",
    r"\prod_{k=1}^{4} k",
    r"\int_0^1 x^2 dx",
    r"\lim_{x \to \infty} \frac{1}{x}",
    r"\log(a) + \ln(b)",
    r"\exp(a) - e^{b}",
    r"|a - b|",
    r"\binom{5}{2} + 3!",
    r"\alpha_1 + \beta",
    r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}",
    r"\cosh(a) \cdot \sinh(b)",
]


def test_sympy_reads_the_same_where_it_reads_at_all() -> None:
    """SymPy's own parser (lark) as an independent reading; several readings, or none, do not count."""
    names = {"a": "0.7", "b": "1.3", "c": "-0.4", "alpha_{1}": "0.2", "beta": "0.9", "e": None}
    with mp.workdps(40):
        env = {k.replace("{", "").replace("}", ""): mp.mpf(v) for k, v in names.items() if v}
    agreed = 0
    for tex in SECOND_OPINION:
        second = parse_latex(tex, backend="lark")
        if second is None or isinstance(second, Tree):
            continue
        values = {sp.Symbol(k): sp.E if v is None else sp.Float(v, 40) for k, v in names.items()}
        second = second.doit().subs(values)
        with mp.workdps(40):
            mine = Numeric().evaluate(read(tex), env)
            theirs = Numeric().value(second)
            gap = mp.mnorm(mine - theirs) if isinstance(mine, mp.matrix) else abs(mine - theirs)
            assert gap < mp.mpf("1e-25"), tex
        agreed += 1
    assert agreed >= 12


def test_brackets_without_end_are_refused() -> None:
    with pytest.raises(Unreadable):
        statements("(" * 3000 + "x" + ")" * 3000)


@pytest.mark.parametrize("name", [r"\sin", r"\operatorname{tr}", r"\max"])
def test_an_empty_superscript_is_none_since_it_prints_nothing(name: str) -> None:
    tr = {"tr": mp.cos}
    assert read(rf"{name}^{{}} (x)", declared=tr) == read(rf"{name} (x)", declared=tr)
