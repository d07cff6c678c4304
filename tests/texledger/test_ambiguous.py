"""What the TeX alone does not determine is refused, and read once it is printed or declared in one way."""

from __future__ import annotations

from typing import Any

import mpmath as mp
import pytest
from texledger._declared import Means, Operator, Over, Superscript
from texledger._tex import statements
from texledger._tree import plain_reading

from texledger import Unreadable


def f(*x: Any) -> Any:
    return x[0]


A = mp.matrix([[1, 2], [3, 4]])
E = {"E": Means("expectation")}

# the TeX, `where`, what the message says; then the TeX and `where` that say it in one way, and the reading
CASES: list[tuple[str, dict[str, Any], str, str, dict[str, Any], str]] = [
    # letters and brackets
    (r"\beta (a - b)", {}, "function or a value", r"\beta (a - b)", {"beta": 1}, "beta·(a - b)"),
    (r"\sigma(a - b)", {}, "function or a value", r"\sigma(a - b)", {"sigma": f}, "sigma(a - b)"),
    (r"\mathrm{amp}(a - b)", {}, "no factor", r"\mathrm{amp}(a - b)", {"amp": f}, "amp(a - b)"),
    (r"p^*[0]", {"p^*": 1}, "no product", r"p^*[0]", {"p^*": f}, "p^*(0)"),
    (r"\frac{d f}{d x}(a + b)", {}, "argument or a factor", r"\frac{d f}{d x} \cdot (a + b)", {}, "(d/dx f)·(a + b)"),
    (r"(f + g)(x + 1)", {"f": f}, "no product", r"f(x + 1) + g(x + 1)", {"f": f, "g": f}, "f(x + 1) + g(x + 1)"),
    (r"B^2(x)", {"B": f}, "may be a power", r"B(x)^2", {"B": f}, "B(x)^2"),
    (r"P^2(x, y)", {"P": f}, "may be a power", r"P^2(x, y)", {"P^2": f}, "P^2(x, y)"),
    (r"c[x, y]", {"c": f}, "commutator", r"c(x, y)", {"c": f}, "c(x, y)"),
    (r"h_i^{i,g}(z)", {"h_i^i,g": 1}, "no product", r"h_i^{i,g}(z)", {"h_i^i,g": f}, "h_i^i,g(z)"),
    # functions without brackets, and what follows brackets
    (r"\cosh^2 u \, F(u)", {"F": f}, "does cosh end before", r"\cosh^2(u) \, F(u)", {"F": f}, "(cosh(u)^2)·F(u)"),
    (r"\cos\theta \, v", {}, "does cos end before", r"\cos(\theta) \, v", {}, "cos(theta)·v"),
    (r"\cos(i - n) \theta", {}, "is it of this too", r"\cos((i - n) \theta)", {}, "cos((i - n)·theta)"),
    (r"\log x y", {}, "does log end before", r"\log(x y)", {}, "log(x·y)"),
    (r"\sin x / 2", {}, "put brackets", r"\sin(x / 2)", {}, "sin(x/2)"),
    (r"\sqrt x_i", {}, "index of", r"\sqrt{x_i}", {}, "sqrt(x_i)"),
    (r"a {\operatorname{erf}}[x + 1]", {}, "", r"a \operatorname{erf}[x + 1]", {}, "a·erf(x + 1)"),
    # where operators end
    (r"\max_x f(x) + c", {"f": f}, "reach over", r"\max_x (f(x) + c)", {"f": f}, "max[x] (f(x) + c)"),
    (r"r + \max_a f(a) - a", {"f": f}, "reach over", r"r + \max_a (f(a) - a)", {"f": f}, "r + (max[a] (f(a) - a))"),
    (r"\arg\min_x f(x) + c", {"f": f}, "reach over", r"\arg\min_x (f(x) + c)", {"f": f}, "argmin[x] (f(x) + c)"),
    (r"\frac{d}{dx} u v", {}, "all of it", r"\frac{d}{dx} (u v)", {}, "d/dx (u·v)"),
    (r"\mathbb{E} x y", {}, "where does it end", r"\mathbb{E}[x y]", {}, "E[x·y]"),
    (r"\mathbb{E} x + y", {}, "may be random", r"\mathbb{E}[x] + y", {}, "E[x] + y"),
    (r"a + b \bmod n", {}, "all of it", r"(a + b) \bmod n", {}, "(a + b) bmod n"),
    (r"a / b / c", {}, "above or below", r"\frac{a}{b c}", {}, "a/(b·c)"),
    (r"\sum_{i=1}^{n} x", {"x": 1}, "does not hold it", r"\sum_{i=1}^{n} x_i", {}, "sum[i=1..n] x_i"),
    (r"\sum_{i=0} x_i", {}, "does not end", r"\sum_{i=0}^{\infty} x_i", {}, "sum[i=0..infty] x_i"),
    # names below a sign
    (r"\prod_{s \le t} x_s", {}, "may run or have", r"\prod_{s \le t} x_s", {"t": 1}, "prod[s; s <= t] x_s"),
    (r"\sum_{j \ne i} x_j", {}, "may run or have", r"\sum_{j \ne i} x_j", {"i": 1}, "sum[j; j != i] x_j"),
    (r"\min_{V \ge c} f(V)", {"f": f, "V": 1}, "has a value", r"\min_{V \ge c} f(V)", {"f": f, "c": 1}, ""),
    (r"\sum_{(i, j) \in S} x_{ij}", {"i": 1}, "", r"\sum_{(i, j) \in S} x_{ij}", {}, "sum[i, j; (i, j) ∈ S] x_ij"),
    (r"\sum_{k \in V, (i, k) \in S} x_{ik}", {}, "group of names", r"\sum_{k \in V} x_k", {}, "sum[k; k ∈ V] x_k"),
    (r"\sum_{k=1, k \ne i, j}^{n} x_k", {}, "condition belongs", r"\sum_{k=1, k \ne i, k \ne j}^{n} x_k", {}, ""),
    (r"\int_x \int_y f \,dx \,dy", {"f": f}, "no variable of it", r"\int_S f(x) dx", {"f": f}, "int[x in S] f(x)"),
    (r"\partial_j \rho", {}, "the index 'j'", r"\partial_x \rho", {}, "d/dx rho"),
    # what bars and braces are around
    (r"|A|", {}, "determinant", r"|A|", {"||": Operator(f)}, "||(A)"),
    (r"|A|", {"A": A}, "determinant", r"|A|", {"A": 1}, "abs(A)"),
    (r"|\Sigma(x)|", {"Sigma": f}, "determinant", r"|\Sigma(x)|", {"Sigma": f, "||": Operator(f)}, "||(Sigma(x))"),
    (r"|\mathcal{N}(i)|", {"N": f}, "number of elements", r"\#(i)", {"#": f}, "#(i)"),
    (r"|\lambda I - A|", {}, "determinant", r"\det(\lambda I - A)", {}, "det(lambda·I - A)"),
    (r"2 \{x\}", {}, "set or brackets", r"2 (x + 1)", {}, "2·(x + 1)"),
    (r"\sup \{ t > 0 | x_t = 1 \} + f(t | s)", {"f": f}, "", r"\sup \{ t : t > 0 \}", {}, "sup({t : t > 0})"),
    (r"\langle a | b \rangle", {}, "no inner product", r"\langle a, b \rangle", {}, "inner(a, b)"),
    (r"\begin{pmatrix} n \\ k \end{pmatrix} x", {}, "binomial", r"\binom{n}{k} x", {}, "binom(n, k)·x"),
    (r"(u v)_f", {}, "may be a mark", r"(u v)_i", {}, "(u·v)[i]"),
    # superscripts and subscripts
    (r"c^2_{t+1} + c^1_t", {"c_t^1": 1, "c_t+1": 1}, "as others", r"c^2_{t+1}", {"c_t+1^2": 1}, "c_t+1^2"),
    (r"H^{-1}_{ij}", {"H_ij": 1}, "entry", r"(H^{-1})_{ij}", {"H": A}, "(H^(-1))[i, j]"),
    (r"U_{ik}^{-1}", {"U_ik": 1}, "entry", r"(U_{ik})^{-1}", {"U_ik": 1}, "U_ik^(-1)"),
    (r"A^{-T}", {"A": A}, "inverse transpose", r"(A^{-1})^\top", {"A": A}, "(A^(-1))ᵀ"),
    (r"D^-2", {"D": 1}, "put it in braces", r"D^{-2}", {"D": 1}, "D^(-2)"),
    (r"U^{\prime\top}", {}, "a prime and more", r"{U'}^{\top}", {"U'": A}, "U'ᵀ"),
    (r"x_i' b", {}, "a transpose or another name", r"x_i' b", {"x_i'": 1}, "x_i'·b"),
    (r"d_{y \ne z}", {}, "condition for an index", r"d_{y \ne z}", {"d_ynez": 1}, "d_ynez"),
    (r"\overline{AB}", {}, "more than a name", r"\overline{A} \, \overline{B}", {}, "overline A·overline B"),
    (r"\mathtt{\frac{a}{b}}", {}, "more than a name", r"\frac{\mathtt{a}}{\mathtt{b}}", {}, "a/b"),
    (r"x_{it-1}", {"x": A, "i": 1, "t": 1}, "one index", r"x_{i,t-1}", {"x": A, "i": 1, "t": 1}, "x[i, t - 1]"),
    # factors
    (r"u \times v", {}, "of vectors", r"u \cdot v", {}, "u·v"),
    (r"\lambda x 2", {}, "behind a factor", r"2 \lambda x", {}, "2·lambda·x"),
    (r"\mathrm{or}\, 4 x", {}, "the word 'or'", r"4 x", {}, "4·x"),
    (r"\text{gain} \, x", {"gain": 1}, "beside the word", r"\text{gain} \cdot x", {"gain": 1}, "gain·x"),
    (r"\text{FOC:} \, x", {}, "a remark", r"x", {}, "x"),
    (r"2 \pi e s", {}, "Euler", r"2 \pi e s", {"e": mp.e}, "2·pi·e·s"),
    (r"d \mathbf{U}", {}, "change or a product", r"d \mathbf{U}", {"d U": 1}, "d U"),
    (r"\Delta \ln x", {}, "a change, an operator", r"\Delta \ln x", {"Delta": 1}, "Delta·ln(x)"),
    (r"a x \otimes y", {r"\otimes": Operator(f)}, "in brackets", r"x \otimes y", {r"\otimes": Operator(f)}, ""),
    (r"f \circ g(x)", {r"\circ": Operator(f), "g": f}, "in brackets", r"f(g(x))", {"f": f, "g": f}, "f(g(x))"),
    (r"\underset{p \times 1}{b}", {}, "write the sign alone", r"\underset{x}{\min} x(x - 1)", {"x": 1}, ""),
    (r"s ∘ t", {}, "no TeX", r"s t", {}, "s·t"),
    (r"f g(x)", {"f": f, "g": f}, "of nothing", r"f(x) g(x)", {"f": f, "g": f}, "f(x)·g(x)"),
    (r"\sigma(\{a, b\})", {"sigma": 1}, "list or set", r"\sigma(\{a, b\})", {"sigma": f}, "sigma({a, b})"),
    (r"\mathbb{E}(\{a, b\})", {}, "of a set", r"\mathbb{E}[a + b]", {}, "E[a + b]"),
    (r"s^{-i}", {"s": 1}, "if 'i' has a value", r"s^{-i}", {"s^-i": 1}, "s^-i"),
    (r"I^0 + I^+", {"I": 1, "I^+": 1}, "power 0 or 1", r"I^0 + I^+", {"I^0": 1, "I^+": 1}, "I^0 + I^+"),
    (r"[x \;\; y]", {}, "next of a list", r"[x \; y]", {}, "x·y"),
    (r"\mathbf{E}[x + y]", E, "in a style", r"E[x + y]", E, "E[x + y]"),
    # statements and their conditions
    (r"\{v : v \in S \wedge a = b\} = T", {r"\wedge": Operator(f)}, "commas", r"\{v : v \in S, a = b\} = T", {}, ""),
    (r"y = a \text{ if } x = 0 \\ y = b \text{ if } x = 1", {}, "of one", r"y = a \text{ if } x = 0", {}, ""),
    (r"y = 2 x, \quad x > 0", {}, "claim or a condition", r"y = 2 x \text{ for } x > 0", {}, "y = 2·x | for x > 0"),
    (r"y = a \\ b c", {}, "says nothing", r"y = a \\ \cdot b c", {}, "y = a·b·c"),
    (r"y = a \\ - z = b", {}, "may go on with the row", r"y = a \\ 0 = b + z", {}, "y = a; 0 = b + z"),
    (r"y = x \text{ with slope } z = 1", {}, "states something", r"y = x \text{ and } z = 1", {}, "y = x; z = 1"),
    (r"N = 10,000", {}, "thousands", r"N = 10000", {}, "N = 10000"),
    (r"x \sim \chi^2", {"chi": 1}, "name of a law", r"x \sim \chi^2", {"chi^2": 1}, "x ∼ chi^2"),
    (r"y = x \text{ for } 1/2 z > x", {}, "above or below", r"y = x \text{ for } z > x", {}, "y = x | for z > x"),
]  # fmt: skip


@pytest.mark.parametrize(("tex", "where", "says", "clear", "declared", "reading"), CASES, ids=[c[0] for c in CASES])
def test_it_is_refused_until_it_says_one_thing(
    tex: str, where: dict[str, Any], says: str, clear: str, declared: dict[str, Any], reading: str
) -> None:
    if says:
        with pytest.raises(Unreadable, match=says):
            statements(tex, {"zeta": 1, **where})
    found = plain_reading(statements(clear, {"zeta": 1, **declared}))
    assert found == reading or not reading
    assert found


def test_a_mean_is_known_in_every_style() -> None:
    for style in (r"\mathbb", r"\mathrm", r"\textrm", r"\operatorname"):
        assert plain_reading(statements(rf"{style}{{E}}[x]", {"zeta": 1})) == "E[x]"


def test_an_assignment_is_no_definition() -> None:
    reading = statements(r"w \leftarrow w - \eta g", {"eta": 1})
    assert [r.sign for r in reading.relations] == ["←"]
    assert [r.sign for r in statements(r"w := w - \eta g", {"eta": 1}).relations] == [":="]


def test_second_memberships_are_statements_if_the_first_is_one() -> None:
    reading = statements(r"a \in S, \qquad b \in T", {"zeta": 1})
    assert plain_reading(reading) == "a ∈ S; b ∈ T"
    assert plain_reading(statements(r"y = a \quad a \in S", {"zeta": 1})) == "y = a | for a ∈ S"


def test_the_bars_of_a_divergence_separate_its_arguments() -> None:
    for bars in (r"\|", r"\parallel", "||"):
        assert plain_reading(statements(rf"D(p {bars} q)", {"D": f})) == "D(p, q)"
    assert plain_reading(statements(r"D(\|p\|)", {"D": f})) == "D(‖p‖_2)"


def test_a_thin_space_ends_what_a_function_in_brackets_is_of() -> None:
    assert plain_reading(statements(r"\det(M) \, x", {"M": A})) == "det(M)·x"
    with pytest.raises(Unreadable, match="is it of this too"):
        statements(r"\det(M) x", {"M": A})


def test_letters_drawn_together_are_declared_by_their_law() -> None:
    from texledger._declared import Law

    where = {"m, m'": Law([(1, 2)], [1]), "^T": Superscript("transpose"), "i": Over([1, 2]), **E}
    assert plain_reading(statements(r"E[m - m']", where)) == "E[m - m']"
