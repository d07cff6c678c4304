"""What once was read wrongly is refused, with the remedy, or read right once it is declared."""

from __future__ import annotations

from typing import Any

import mpmath as mp
import pytest
from texledger._declared import Indexed, Interval, Law, Means, Operator, Optimum, Superscript
from texledger._numeric import Numeric
from texledger._tex import keyed, read, statements
from texledger._tree import plain, plain_reading

from texledger import Over, Unreadable

X = {"x": mp.mpf("0.3"), "y": mp.mpf(2), "n": mp.mpf(3), "f": mp.exp, "A": mp.matrix([[1, 2], [3, 4]]), "B": mp.eye(2)}


@pytest.mark.parametrize(
    ("tex", "remedy"),
    [
        (r"W^{(2)} W^{(1)} x", r"'W\^\(2\)'"),
        (r"f(x^*)", r"'x\^\*'"),
        (r"U^{*} A U", r"\^\*"),
        (r"A^{\dagger}", "dagger"),
        (r"x^+", r"x\^\+"),
        (r"f^{-1}(x)", r"'f\^-1'"),
        (r"\sin^{-1} x", r"'sin\^-1'"),
        (r"\tan^{-1}(x)", r"'tan\^-1'"),
        (r"f^2(x)", "power for|for the power"),
        (r"V^{\pi} \cdot V^{\pi}", r"'V\^pi'"),
        (r"x^\pi", r"'x\^pi'"),
        (r"A^T", r"\\top"),
        (r"x^\mathrm{old}", r"'x\^old'"),
        (r"w_i^g", r"w_i\^g"),
        (r"x^t_i", "'t'"),
        (r"R_{t+1}^{(n+1)}", r"\(n\+1\)"),
        (r"x^{i,j}", r"x\^i,j"),
        (r"\frac{d (x^3)}{d x^2}", "order 1"),
        (r"\frac{d^2 x}{d x}", "order 2"),
        (r"\frac{\partial^2 x}{\partial x \partial y \partial x}", "order 2"),
        (r"x \odot y", r"Operator"),
        (r"x \pm y", r"both cases"),
        (r"\langle x \rangle", "Operator"),
        (r"p(x \mid y)", r"'p': f"),
        (r"p(x | y)", r"'p': f"),
        (r"q[x]", "Means"),
        (r"\Delta x", "'Delta x'"),
        (r"AIC", "'AIC'"),
        (r"1/2 x", r"\\frac"),
        (r"\mathbb{E}(x)^2", r"\\mathbb{E}"),
        (r"\log f(x) y", "in brackets"),
        (r"\sum_i x_i - y_i", "brackets"),
        (r"\lim_{h \to 0} f(h) - f(2h)", "brackets"),
        (r"\nabla^2 f(x)", "hessian"),
        (r"\nabla_x x^\top x", "in brackets"),
        (r"\nabla_x f(x) x", "in brackets"),
        (r"\prod_{k=1}^{n} f(k) y", "in brackets"),
        (r"\prod_{k=1}^{n} f(k) / y", "in brackets"),
        (r"\max_t f(t) y", "in brackets"),
        (r"\operatorname{Var} x y", "in brackets"),
        (r"\partial_x f(x) f(x)", "in brackets"),
        (r"(A B)(x)", "is no product"),
        (r"\det_2 A", "'det_2'"),
        (r"\mathbf{x} + x", "tell|Tell"),
        (r"\begin{pmatrix} 1 & \cdots & 2 \end{pmatrix}", "dots"),
        (r"x + y + \ldots", "dots"),
        (r"x_1 + x_2 - \ldots + x_n", "dots"),
        (r"x_1 - x_2 + \ldots - x_n", "dots"),
        (r"x_1 + x_3 + \ldots + y_n", "dots"),
        (r"\left(\begin{array}{c} n \\ x \end{array}\right)", "binom"),
        (r"\utter \nonsense{}", "understood"),
        (r"\arg x", "arg"),
        (r"||x| - |y||", "bars"),
        (r"\hat{x + y}", "more than a name"),
        (r"x2 + 1", r"x2 may be a name or a product\. Declare 'x2'"),
        (r"2 x3", "'x3'"),
        (r"\text{log\_softmax}(x)", "'log_softmax', as a function"),
        (r"\log_{softmax}(x)", "'log_softmax', as a function"),
        (r"\begin{cases} 1 & x = 0 \text{ or } n \\ 2 & \text{otherwise} \end{cases}", "where a condition belongs"),
        (r"\begin{cases} 1 & x - 1 \\ 2 & \text{otherwise} \end{cases}", "where a condition belongs"),
        (r"x * y", r"\* is not declared\. A product is written without it or with \\cdot"),
        (r"x \ast y", r"\* is not declared"),
        (r"\min f(x)", "neither a name below it nor brackets"),
        (r"\sup |f(x)|", "neither a name below it nor brackets"),
        (r"\max \mathbb{E}[x]", "neither a name below it nor brackets"),
        (r"\operatorname{max} f(x)", "neither a name below it nor brackets"),
        (r"\mathrm{inf} \, x", "neither a name below it nor brackets"),
        (r"\max_{1 \le k \le m} k", "Give 'm' a value"),
        (r"\sum_{1 \le i < j \le m} i j", "Give 'm' a value"),
        (r"\int_0^1 d y", "ends too early"),
        (r"\int_0^1 d x \, d x", "ends too early"),
        (r"\int_0^1 x\, d x\, d y", "another number of differentials"),
        (r"\int_0^1 y d dx", "ends too early|'dx'|d x"),
        (r"x \; =", "ends too early|states|subset"),
        (r"x(y)", r"x\(y\) is no product: one is written without the brackets\. Declare 'x' a function"),
        (r"x^2(y)", r"'x\^2' a function"),
        (r"x_t(0)", "'x_t' a function"),
        (r"\pi(s)", "'pi' a function"),
        (r"x(y, n)", "'x' a function"),
        (r"2 (x, y)", "a list or set"),
        (r"\frac{d f}{d x}(y)", "argument or a factor"),
        (r"\frac{\partial u}{\partial x}(x, y)", "argument or a factor"),
        (r"E_{x \sim p}[f(x)]", r"'E': Means"),
        (r"E_{x \sim p} f(x)", r"'E': Means"),
        (r"E_x E_y \{ x y \}", r"'E': Means"),
        (r"u \{ x \}", "mean, a function or a product"),
        (r"\log [x]_n", "bracket the one or the other"),
        (r"\exp \{A\}_{12}", "bracket the one or the other"),
        (r"\operatorname{vec} A", "'vec': f"),
        (r"\mathop{\mathrm{Proj}} A", "'Proj': f"),
        (r"\text{minimize} \quad f(x)", "of nothing"),
        (r"\text{minimize} f(x)", "neither a name below it nor brackets"),
        (r"\mathbf{Pm}", "'Pm' for a word"),
        (r"\bm{AB} x", "'AB' for a word"),
        (r"[A \exp] B", "exp is of nothing"),
        (r"\sin + x", "function without brackets|of nothing"),
        (r"x \log", "log is of nothing"),
        (r"diag(A)", "declare 'diag'"),
        (r"f(x) cos(y)", r"\\cos, or declare 'cos'"),
        (r"exp(x)", "spelled like the function"),
        (r"\delta x", "'delta x'"),
        (r"{x y}^2", "print no brackets"),
        (r"{2 x}_n", "print no brackets"),
        (r"\mathbf{A B}_{12}", "print no brackets"),
        (r"c^1 + x", r"'c\^1'"),
        (r"f([n])", "set or a whole part"),
        (r"\mathrm{d}x = x \, \mathrm{d}y", "'d x'"),
        (r"\int_V x \, dV", "tell them apart"),
        (r"x_max", "word or a product"),
        (r"n = x_size", "word or a product"),
        (r"e^{(n)}", r"e\^\(n\) may be an index"),
        (r"\nabla \cdot x \nabla y", "divergence"),
        (r"\sup_f \mathbb{E}[f(x)] - \log \mathbb{E}[f(y)]", "does it reach"),
        (r"x < y, n < 2", "two statements, or a range"),
        (r"x \in \mathbb{R}_+ y \log n", "after a set of numbers"),
        (r"x \in [n]", "as a set"),
        (r"x_{1,1} + \ldots + x_{1,n}", "no single index"),
        (r"\log(A)_{12}", "bracket the one or the other"),
        (r"x {A + B}", "print no brackets"),
        (r"\exp{x + y}", "print no brackets"),
        (r"x - {y + n}", "print no brackets"),
        (r"\mathrm{HC:} x", "more than a name"),
        (r"\partial_j u_j", "derivative by the index 'j'"),
    ],
)
def test_it_is_refused_with_the_remedy(tex: str, remedy: str) -> None:
    with pytest.raises(Unreadable, match=remedy):
        statements(tex, X)


@pytest.mark.parametrize(
    ("tex", "where", "value"),
    [
        (r"x * y - y * x", {"x": 2, "y": 5, "*": Operator(lambda a, b: a - b)}, -6),
        (r"\max(x, 2) - \min[x, 2]", {"x": 5}, 3),
        (r"\sum_{1 \le i < j \le m} i j", {"m": 3, "i": Over([1, 2, 3]), "j": Over([1, 2, 3])}, 11),
        (r"W^{(2)} W^{(1)} x", {"W^(2)": 5, "W^(1)": 7, "x": 2}, 70),
        (r"\sum_{i=1}^{3} x^{(i)}", {r"x^{(i)}": Indexed([1, 2, 4])}, 7),
        (r"x^{t+1}_2 - x_1^t", {"x^t": Indexed([mp.matrix([1, 2]), mp.matrix([3, 9])]), "t": 1}, 8),
        (r"f(x^*) - f(x)", {"f": lambda x: x * x, "x^*": 1, "x": 3}, -8),
        (r"f^{-1}(f(x))", {"f": mp.exp, "f^-1": mp.log, "x": 3}, 3),
        (r"\sin(\sin^{-1}(x))", {"sin^-1": mp.asin, "x": mp.mpf(1) / 4}, mp.mpf(1) / 4),
        (r"V^{\pi}(s) + V(s)", {"V^pi": lambda s: 2 * s, "V": lambda s: s, "s": 4}, 12),
        (r"(2)^\pi - e^{\pi \log 2}", {}, 0),
        (r"n!!", {"n": 7}, 105),
        (r"\frac{\partial^2 (x^2 y^2)}{\partial x \partial y}", {"x": 2, "y": 3}, 24),
        (r"\frac{\partial (x^2 y^2)}{\partial x \partial y}", {"x": 2, "y": 3}, None),
        (r"\frac{d^3 (x^4)}{d x^3}", {"x": 2}, 48),
        (r"w_\mathrm{h} + w_h", {"w_h": 3}, None),
        (r"w_\mathrm{h}", {"w_h": 3}, 3),
        (r"v^T A v", {"^T": Superscript("transpose"), "v": mp.matrix([1, 2]), "A": mp.eye(2)}, 5),
        (r"\|w\|", {"w": -3}, 3),
        (r"||v||^2", {"v": mp.matrix([3, 4])}, 25),
        (r"E[x + 0] x", {"E": 5, "x": 2}, 20),
        (r"AIC - 2", {"AIC": 5}, 3),
        (r"x2 + 2 x", {"x2": 7, "x": 1}, 9),
        (r"A2x - x", {"A2": 5, "x": 2}, 8),
        (r"\text{log\_odd}(x)", {"log_odd": lambda x: x + 1, "x": 2}, 3),
        (r"\log_2 8 + \log_b c", {"b": 3, "c": 9}, 5),
        (r"\int_0^1 a d x", {"a": 5, "d": 7}, 5),
        (r"\int_0^1 d(x, y)\, d x", {"d": lambda x, y: x * y, "y": 4}, 2),
        (r"\int_0^d x^d dx", {"d": 3}, mp.mpf("20.25")),
        (r"\int_0^1 d t\, x", {"x": 4}, 4),
        (r"AB_{11}", {"A": 2, "B": mp.matrix([[3, 0], [0, 1]])}, 6),
        (r"\Delta x / x", {"Delta x": 6, "x": 2}, 3),
        (r"a \odot b \odot a", {"a": 2, "b": 3, r"\odot": Operator(lambda a, b: 10 * a + b)}, 232),
        (r"a \oplus b c", {"a": 2, "b": 3, "c": 5, r"\oplus": Operator(lambda a, b: a - b, "sum")}, -13),
        (r"\|x\|_{\mathrm{TV}}", {"x": mp.matrix([1, 2]), "norm_TV": lambda x: x[0] + 7}, 8),
        (r"p(u \mid d) - p(d \mid u)", {"p(|)": lambda a, b: a / b, "u": 1, "d": 2}, mp.mpf(-3) / 2),
        (r"p(u \mid d)", {"p(u|d)": 6}, 6),
        (r"x(y) + x(2)", {"x": lambda t: t * t, "y": 3}, 13),
        (r"E_x E_y \{ x y \}", {"E": Means("expectation"), "x": Law([1, 3], [0.5, 0.5]), "y": Law.uniform([2, 4])}, 6),
        (r"[\log x]_2", {"x": 3}, None),
        (r"{x + y} + {2 x} y", {"x": 3, "y": 4}, 31),
        (r"\operatorname{sq} x + 1", {"sq": lambda t: t * t, "x": 3}, 10),
        (r"\mathop{\mathrm{maximize}}_x x(1 - x)", {"x": Optimum(mp.mpf("0.5"), [0, 1])}, mp.mpf("0.25")),
        (r"\text{minimize}_x x^2", {"x": Optimum(0, [-1, 1])}, 0),
        (r"\underset{x}{\text{argmin}} (x - 1)^2", {"x": Optimum(1, [0, 3])}, 1),
        (r"\mathbf{A B_n}", {"A": 3, "B_n": 5}, 15),
        (r"\mathbf{A^{-1} B}", {"A": 4, "B": 2}, mp.mpf("0.5")),
        (r"\bm{x}_2", {"x": mp.matrix([3, 5])}, 5),
        (r"\mathbf{Pm}", {"Pm": 5}, 5),
        (r"\int_0^2 c(x) \, dx - \int_x x \, dx", {"c": lambda t: t, "x": Interval(0, 2)}, 0),
        (r"\int_{x \in S} x \, dx", {"S": Interval(0, 2)}, 2),
        (r"diag(x)", {"diag": lambda t: 2 * t, "x": 3}, 6),
        (r"\delta x / x", {"delta x": 6, "x": 2}, 3),
        (r"{x}^2 + {\|x\|}^2", {"x": 3}, 18),
        (r"\|x\|^2_1 - \|x\|_1^2", {"x": mp.matrix([3, -4])}, 0),
        (r"c^2 - c^1", {"c^1": 1, "c^2": 5, "c": 9}, 4),
        (r"f([n])", {"f": lambda t: t, "n": mp.mpf("2.5"), "[]": Operator(mp.floor)}, 2),
        (r"e^{(n)} - e^{n}", {"e^(n)": 1, "n": 0}, 0),
        (r"C_{21} + \ldots + C_{2n}", {"C": mp.matrix([[1, 2], [3, 4]]), "n": 2}, 7),
        (r"C_{11} + \ldots + C_{nn}", {"C": mp.matrix([[1, 2], [3, 4]]), "n": 2}, 5),
        (r"\sum_{1 \le i, j \le n} i j", {"n": 2, "i": Over([0, 1, 2, 3]), "j": Over([0, 1, 2, 3])}, 9),
        (r"x_size", {"size": 1, "x_s": 3, "i": 2, "z": 5, "e": 1}, 30),
        (
            r"\nabla^2 f(x)",
            {"nabla^2": Means("laplacian"), "f": lambda x: x[0] ** 2 * x[1], "x": mp.matrix([1, 5])},
            10,
        ),
    ],
)
def test_it_is_right_once_it_is_declared(tex: str, where: dict[str, Any], value: Any) -> None:
    where = keyed(where)
    if value is None:
        with pytest.raises((Unreadable, ValueError)):
            Numeric().evaluate(read(tex, declared=where), where)
        return
    with mp.workdps(40):
        computed = Numeric().evaluate(read(tex, declared=where), where)
        assert abs(computed - value) < mp.mpf("1e-25")


def test_a_power_of_a_name_needs_values_on_both_levels() -> None:
    assert plain(read("x^n", declared={"x": 1, "n": 2})) == "x^n"
    assert plain(read(r"\sum_{k=0}^{\infty} A^k", declared={"A": X["A"]})) == "sum[k=0..infty] (A^k)"
    for where in ({"x": 1}, {"n": 2}, {"x": 1, "n": mp.exp}):
        with pytest.raises(Unreadable) as error:
            read("x^n", declared=where)
        assert error.value.needs


def test_letters_without_a_space_are_a_product_only_if_each_has_a_value() -> None:
    assert plain(read("ab", declared={"a": 1, "b": 2})) == "a·b"
    assert plain(read("ab", declared={"ab": 1})) == "ab"
    with pytest.raises(Unreadable, match="word or a product"):
        read("ab", declared={"a": 1})
    assert plain(read(r"\lim_{h \to 0} hA", declared={"A": 1})) == "lim[h→0] (h·A)"
    assert plain(read(r"\int_0^1 xydx", declared={"y": 1})) == "int[x=0..1] (x·y)"


def test_two_keys_that_are_spelled_alike_are_refused() -> None:
    with pytest.raises(Unreadable, match="two keys"):
        keyed({r"\hat{x}": 1, "hat x": 2})


@pytest.mark.parametrize(
    ("tex", "reading"),
    [
        (r"\frac{x}{y} := z, \qquad x \equiv y, \quad a \approx b, \quad p \propto q", None),
        (r"V = 17 \sigma^9 = \frac{\sigma^2}{n}", "V = 17·(sigma^9); 17·(sigma^9) = (sigma^2)/n"),
        (r"V = \frac{a}{n}, \qquad n = 3 V + 7", "V = a/n; n = 3·V + 7"),
        (r"\sqrt{x^2} = x \qquad \text{for } x < 0", "sqrt(x^2) = x | for x < 0"),
        (r"\sqrt{x^2} = x \qquad \text{for all negative } x", "sqrt(x^2) = x | not read: 'for all negative x'"),
        (r"a = b \qquad \text{while } W_\gamma = W_\beta = 0", "a = b | for W_gamma = W_beta, W_beta = 0"),
        (r"a = b \qquad \text{with } \beta = \alpha (1 - f)", "a = b | for beta = alpha·(1 - f)"),
        (r"a = b \qquad \text{at } \alpha = 0", "a = b | for alpha = 0"),
        (r"a = b \quad (\rho \le 1), \qquad c = d \quad (1 \le \rho \le 2)", None),
        (r"y = G x + v, \quad \text{where} \quad v \sim p", "y = G·x + v | for v ∼ p"),
        (r"y = x \quad \text{and} \quad x = z", "y = x; x = z"),
        (r"x^2 > 0 \iff x \ne 0", None),
        (r"x > 0 \implies |x| = x", "abs(x) = x | for x > 0"),
        (r"a_i = b_i \quad \forall i \in S", "a_i = b_i | for i ∈ S"),
        (r"y_{T+1} = \text{[SEP]}", "y_T+1 = [SEP]"),
        (r"n\_features = 2 n\_x", "n_features = 2·n_x"),
        (r"p_v = q \quad \text{for } v \le M, \text{ the smallest such number}", None),
        (r"f : \mathbb{R}^n \to \mathbb{R}", None),
        (r"\begin{align} a &= b & c &= d \\ e &= f \end{align}", "a = b; c = d; e = f"),
        (r"\begin{split} a &= b \\ &\quad + c \end{split}", "a = b + c"),
        (r"\begin{eqnarray*} a & = & b \\ & = & c \end{eqnarray*}", "a = b; b = c"),
        (r"\min_x f(x) \quad \text{subject to } x \le 1", "min[x] (f·x) | for x <= 1"),
        (r"u = c \mbox{ in } S", "u = c | not read: 'in S'"),
        (r"I = 4 \text{ bits}", "I = 4·bits"),
        (r"a = b \qquad \text{(remark)}", "a = b | not read: '(remark)'"),
        (r"\begin{aligned} a &= b \quad \text{(rule)} \\ &= c \end{aligned}", "a = b; b = c | not read: '(rule)'"),
        (
            r"\begin{aligned} a &= b \quad \text{at } x = 0 \\ &= c \quad \text{at } x = 1 \end{aligned}",
            "a = b; b = c | not read: 'at x = 0', 'at x = 1'",
        ),
        (r"\begin{aligned} a &= b \quad (x > 0) \\ &= c \end{aligned}", "a = b; b = c | not read: '( x > 0 )'"),
        (
            r"\begin{aligned} \min_x & f \\ \text{subject to} & g \le 0 \\ & h = 0 \end{aligned}",
            "min[x] f | for g <= 0, h = 0",
        ),
        (r"a = b \quad \text{for } 1 \le i, j \le n", "a = b | for 1 <= i, i <= n, 1 <= j, j <= n"),
        (r"a \overset{!}{=} b", "a = b"),
    ],
)
def test_statements_and_conditions(tex: str, reading: str | None) -> None:
    read_ = statements(tex)
    if reading is not None:
        assert plain_reading(read_) == reading
    assert read_.relations or read_.expressions


def test_each_sign_is_told_from_the_others() -> None:
    found = statements(r"x := y, \qquad x \equiv y, \qquad x \approx y, \qquad x \propto y, \qquad x = y").relations
    assert [r.sign for r in found] == [":=", "≡", "≈", "∝", "="]
    both = statements(r"x^2 > 0 \iff x \ne 0").relations[0]
    assert both.sign == "⟺" and both.left.op == "holds"
