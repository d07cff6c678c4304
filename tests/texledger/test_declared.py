"""Laws, sets, optima, operators: the values that formulas with declared names have, in both arithmetics."""

from __future__ import annotations

from typing import Any

import mpmath as mp
import pytest
import sympy as sp
from texledger._declared import By, Density, Derived, Indexed, Interval, Law, Means, Operator, Optimum, Over, Samples
from texledger._exact import Exact
from texledger._numeric import Numeric
from texledger._tex import keyed, read

from texledger import Unreadable

R = sp.Rational

SIGN = Law.uniform([-1, 1])
DIE = Law.uniform(range(1, 7))
M = sp.Matrix([[1, 2, 3], [4, 5, 6], [7, 8, 10]])


def value(tex: str, where: dict[str, Any], arithmetic: Any = None) -> Any:
    where = keyed(where)
    return (arithmetic or Exact()).evaluate(read(tex, declared=where), where)


@pytest.mark.parametrize(
    ("tex", "where", "expected"),
    [
        (r"\mathbb{E}[v^\top A v]", {"v": SIGN.independent(3), "A": M}, 16),
        (r"\operatorname{Var}(v^\top A v)", {"v": SIGN.independent(3), "A": M}, 332),
        (r"\mathbb{E}\, x^2 - \mathbb{E}\, x \cdot \mathbb{E}\, x", {"x": DIE}, R(35, 12)),
        (r"\mathbb{E}[x]^2", {"x": DIE}, R(49, 4)),
        (r"\mathbb{E}^2[x]", {"x": DIE}, R(49, 4)),
        (r"\mathbb{E}_{x \sim p} x - \mathbb{E}_{x \sim q} x", {"p": DIE, "q": SIGN}, R(7, 2)),
        (r"\mathbb{E}_{x \sim p, y \sim q}[x y^2]", {"p": DIE, "q": SIGN}, R(7, 2)),
        (r"\mathbb{E}_{x, y \sim p}[x y]", {"p": DIE}, R(49, 4)),
        (r"\mathbb{E}_{(x, y) \sim p}[x y]", {"p": Law([(1, 1), (2, 3)], [R(1, 3), R(2, 3)])}, R(13, 3)),
        (r"\operatorname{Cov}(x, y)", {"x, y": Law([(1, 1), (2, 3)], [R(1, 2), R(1, 2)])}, R(1, 2)),
        (r"\mathbb{E}_p T - \mathbb{E}_q T", {"p": DIE, "q": SIGN, "T": lambda x: 2 * x}, 7),
        (r"\mathbb{E}[x \mid x > 4]", {"x": DIE}, R(11, 2)),
        (r"\Pr(x > 4)", {"x": DIE}, R(1, 3)),
        (r"\Pr(x = 6 \mid x > 4)", {"x": DIE}, R(1, 2)),
        (r"\mathbb{P}(x > 2, x < 5)", {"x": DIE}, R(1, 3)),
        (r"\mathbb{E}\, m^2", {"z": SIGN.independent(2), "m": Derived(lambda z: (z[0] + z[1]) / 2)}, R(1, 2)),
        (r"\mathbb{E}\, z^4", {"z": Law.normal(3)}, 3),
        (r"\mathbb{E}[\mathbf{1}\{x \ge 5\}]", {"x": DIE}, R(1, 3)),
        (r"E[x]", {"x": DIE, "E": Means("expectation")}, R(7, 2)),
        (r"\mathbb{E}_{x \sim p} x", {"p": Density(lambda x: 2 * x, 0, 1)}, R(2, 3)),
        (r"\sum_i x_i", {"x": [1, 2, 4], "i": Over([1, 3])}, 5),
        (r"\sum_{i < j} x_i x_j", {"x": [1, 2, 4], "i": Over([1, 2, 3]), "j": Over([1, 2, 3])}, 14),
        (r"\sum_{i \ne j} x_i", {"x": [1, 2, 4], "i": Over([1, 2, 3]), "j": 2}, 5),
        (r"\sum_{x \in S} \sum_{y \in S} x y", {"S": Over([1, 2])}, 9),
        (r"\sum_{x \in \{1, \ldots, n\}} x", {"n": 4}, 10),
        (r"\sum_{a \in A(s)} a", {"A": lambda s: [s, s + 1], "s": 3}, 7),
        (r"\prod_{k} (1 + k)", {"k": Over([1, 2])}, 6),
        (r"\sum_{i=1, i \ne j}^{3} i", {"j": 2}, 4),
        (r"\sum_{i,j=1}^{2} i j", {}, 9),
        (r"\sum_{i,j=1}^{2} a_{ij}", {"a": sp.Matrix([[1, 2], [3, 4]])}, 10),
        (r"\max_{x \in S} (4 x - x^2)", {"S": Over([1, 2, 3])}, 4),
        (r"\min_j (d_{ij} + T_j)", {"d": sp.Matrix([[0, 1], [1, 0]]), "T": [3, 1], "i": 1, "j": Over([1, 2])}, 2),
        (r"\arg\max_x (4 x - x^2)", {"x": Over([1, 2, 3])}, 2),
        (r"\max_{t \ge 0} (3 t - t^2)", {"t": Optimum(R(3, 2))}, R(9, 4)),
        (r"\max\{1, x\} + \min(x, 1)", {"x": 4}, 5),
        (r"\max_x f(x) - x", {"f": lambda x: 2 * x, "x": Over([1, 2])}, 2),
        (r"x_1 + x_2 + \ldots + x_n", {"x": [1, 2, 4], "n": 3}, 7),
        (r"9 - x_1 - x_2 - \ldots - x_n", {"x": [1, 2, 4], "n": 3}, 2),
        (r"x_1 x_2 \cdots x_n", {"x": [1, 2, 4], "n": 3}, 8),
        (r"a x + \ldots + a x^n", {"x": 2, "a": 1, "n": 3}, 14),
        (r"x_{t-1} + \ldots + x_{t-k}", {"x": [1, 2, 4], "t": 4, "k": 2}, 6),
        (r"\int_0^1 \int_0^1 x y \,dx\,dy", {}, R(1, 4)),
        (r"\int f(x)\,dx", {"x": Interval(0, 2), "f": lambda x: x}, 2),
        (r"\int_{[0, 1]} x \,dx", {}, R(1, 2)),
        (r"\lim_{h \to 0} \frac{(x + h)^2 - x^2}{h}", {"x": 3}, 6),
        (r"\frac{\partial S}{\partial p_2}", {"p": [1, 5], "S": Derived(lambda p: p[0] * p[1] ** 2)}, 10),
        (r"\frac{d}{dx} f(x) \Big|_{x = a}", {"f": lambda x: x**3, "a": 2, "x": 1}, 12),
        (r"\begin{cases} x & \text{if } x > 0 \\ -x & \text{otherwise} \end{cases}", {"x": -4}, 4),
        (r"\det \begin{pmatrix} A & 0 \\ 0 & I \end{pmatrix}", {"A": sp.Matrix([[2, 0], [0, 3]])}, 6),
        (r"\langle u, v \rangle", {"u": sp.Matrix([1, 2]), "v": sp.Matrix([3, 4])}, 11),
        (r"\langle u, v \rangle", {r"\langle\rangle": Operator(lambda u, v: u - v), "u": 5, "v": 3}, 2),
        (r"7 \bmod 4", {}, 3),
        (r"\|v\|_1 + \|v\|_\infty", {"v": sp.Matrix([1, -3])}, 7),
        (r"(A^2)_{12}", {"A": sp.Matrix([[1, 1], [0, 1]])}, 2),
        (r"x_{i+1}", {"x": [1, 2, 4], "i": 2}, 4),
        (r"\lambda_i + \lambda_{i+1}", {"lambda_1": 3, "lambda_2": 4, "i": 1}, None),
    ],
)
def test_values_in_both_arithmetics(tex: str, where: dict[str, Any], expected: Any) -> None:
    if expected is None:
        with pytest.raises(Unreadable, match="has no value"):
            value(tex, where)
        return
    assert sp.simplify(value(tex, where) - expected) == 0
    with mp.workdps(30):
        computed = value(tex, where, Numeric())
        assert abs(computed - Numeric().value(sp.sympify(expected))) < mp.mpf("1e-12")


def test_gradients_have_the_shape_of_their_variable() -> None:
    x = sp.Matrix(sp.symbols("x1 x2"))
    assert value(r"\nabla_x (x^\top x)", {"x": x}) == 2 * x
    assert value(r"\nabla f(x)", {"x": x, "f": lambda v: v[0] ** 2 * v[1]}) == sp.Matrix([2 * x[0] * x[1], x[0] ** 2])
    assert value(r"\nabla (a x^\top x)", {"x": x, "a": 3, "nabla": By("x")}) == 6 * x
    assert value(r"\frac{\partial A}{\partial x}", {"x": x, "A": Derived(lambda x: M[:2, :2] * x)}) == M[:2, :2]
    hessian = value(r"\nabla^2 f(x)", {"nabla^2": Means("hessian"), "x": x, "f": lambda v: v[0] ** 2 * v[1]})
    assert hessian == sp.Matrix([[2 * x[1], 2 * x[0]], [2 * x[0], 0]])
    with mp.workdps(30):
        A = mp.matrix([[2, 1], [0, 3]])
        found = value(r"\nabla_A \log\det A", {"A": A}, Numeric())
        assert mp.mnorm(found - (A**-1).T) < mp.mpf("1e-20")


def test_a_density_is_integrated_once() -> None:
    """Not again for each of its means: a check of a supremum takes hundreds."""
    calls = 0

    def pdf(x: Any) -> Any:
        nonlocal calls
        calls += 1
        return 2 * x

    arithmetic, law = Numeric(), Density(pdf, 0, 1)
    first = value(r"\mathbb{E}_{x \sim p} x", {"p": law}, arithmetic)
    once = calls
    assert value(r"\mathbb{E}_{x \sim p} x", {"p": law}, arithmetic) == first
    assert calls - once < 0.6 * once
    with pytest.raises(ValueError, match="not to 1"):
        value(r"\mathbb{E}_{x \sim p} x", {"p": Density(lambda x: x, 0, 1)}, arithmetic)


@pytest.mark.parametrize(
    ("tex", "where", "error"),
    [
        (r"\max_t (3 t - t^2)", {"t": Optimum(1)}, "is none"),
        (r"\min_t (3 t - t^2)", {"t": Optimum(R(3, 2))}, "is none"),
        (r"\max_{t \ge 2} (3 t - t^2)", {"t": Optimum(R(3, 2))}, "breaks the condition"),
        (r"\max_{t \le 0} (3 t - t^2)", {"t": Optimum(R(3, 2))}, "breaks the condition"),
        (r"\max_T T(2)", {"T": Optimum(lambda x: x)}, "rivals"),
        (r"\max_T (T(2) - T(1)^2)", {"T": Optimum(lambda x: 2 * x, [lambda x: x])}, "is none"),
        (r"\mathbb{E}[x]", {"x": 3}, "random"),
        (r"\mathbb{E}_{x \sim p} x", {}, "law 'p'"),
        (r"\mathbb{E}\, x", {"x": Law([1, 2], [R(1, 2), R(1, 3)])}, "not to 1"),
        (r"\mathbb{E}_{x \sim p} x", {"p": Density(lambda x: x, 0, 1)}, "not to 1"),
        (r"\mathbb{E}[x \mid x > 9]", {"x": DIE}, "probability zero"),
        (r"x + 1", {"x": DIE}, "declared as Law"),
        (r"\sum_i i", {}, "runs over nothing"),
        (r"\sum_{x \in S} x", {}, "set S is not declared"),
        (r"\arg\max_x x^2", {"x": Over([-1, 1])}, "more than once"),
        (r"\max_{x \in S} x", {"S": Over([])}, "over nothing"),
        (r"\int f(x)\,dx", {"f": lambda x: x}, "no limits"),
        (r"\nabla \det A", {"A": M}, None),
        (r"\nabla (x y)", {"x": 1, "y": 2}, "names no variable"),
        (r"x^{(3)}", {"x^(i)": Indexed([1, 2])}, "has 2 entries"),
        (r"x_{i+1}", {"x": [1, 2], "i": 2}, "no entry"),
        (r"x_0", {"x": [1, 2]}, "count from 1"),
        (r"\begin{cases} 1 & x > 0 \end{cases}", {"x": -1}, "no case"),
        (r"a + 1", {"a": Derived(lambda b: b), "b": Derived(lambda a: a)}, "depends on 'a'"),
        (r"|v|", {"v": sp.Matrix([1, 2])}, r"'\|\|': Operator"),
        (r"A + B", {"A": M, "B": M[:2, :2]}, "are added"),
        (r"\langle u, v \rangle", {"u": sp.Matrix([sp.I]), "v": sp.Matrix([1])}, "complex"),
    ],
)
def test_what_has_no_value_says_why(tex: str, where: dict[str, Any], error: str | None) -> None:
    if error is None:
        assert value(tex, where) == M.adjugate().T
        return
    with pytest.raises((Unreadable, ValueError), match=error):
        value(tex, where)


def test_formulas_of_the_book_have_their_left_sides() -> None:
    """Left sides that were computed beside the page until now, from the page's own TeX."""
    with mp.workdps(30):
        numeric = Numeric()
        law = SIGN.independent(3)
        A = mp.matrix([[1, 2, 3], [4, 5, 6], [7, 8, 10]])
        G = {"v": law, "A": A, "tau": mp.mpf(2), "G": lambda x: x * A, "x": lambda t: t}
        both = r"\mathbb{E} \int_0^{\tau} v^{\top} G(x(t))\, v\, dt - \int_0^{\tau} \operatorname{Tr} G(x(t))\, dt"
        assert abs(value(both, G, numeric)) < mp.mpf("1e-20")
        saddle = {"l": lambda A, P: A**2 * P + A * P, "A": 3, "P": 5, "epsilon": 1}
        second = r"\frac{d^2}{d \epsilon^2} l(\epsilon A, \epsilon P) \Big|_{\epsilon = 0} - 2 A P"
        assert abs(value(second, saddle, numeric)) < mp.mpf("1e-20")
        d = mp.matrix([[0, 1], [1, 0]])
        steepest = {
            "T": Optimum([mp.mpf(0), mp.mpf(-1)]),
            "norm_L": lambda T: abs(T[0] - T[1]) / d[0, 1],
            "p": [mp.mpf(3) / 4, mp.mpf(1) / 4],
            "q": [mp.mpf(1) / 4, mp.mpf(3) / 4],
        }
        duality = r"\max_{\|T\|_L \le 1} \sum_{i=1}^{2} T_i\, (p_i - q_i)"
        assert abs(value(duality, steepest, numeric) - mp.mpf(1) / 2) < mp.mpf("1e-20")
        sphere = {"s": Density(lambda s: mp.mpf(1) / (2 * mp.pi), 0, 2 * mp.pi), "u": mp.matrix([1, 0])}
        sphere["x"] = Derived(lambda s: mp.matrix([mp.cos(s), mp.sin(s)]))
        bessel = value(r"\mathbb{E}\, e^{\langle x, u \rangle}", sphere, numeric)
        assert abs(bessel - mp.besseli(0, 1)) < mp.mpf("1e-12")
        flow = {"Phi": lambda t: mp.expm(t * A), "A": A, "t": mp.mpf(1) / 3}
        assert mp.mnorm(value(r"\Phi'(t) - A \Phi(t)", flow, numeric)) < mp.mpf("1e-15")
        root = {"C": mp.matrix([[5, 4], [4, 5]]), "D": mp.matrix([[2, 1], [1, 2]])}
        assert mp.mnorm(value("C^{1/2} - D", root, numeric)) < mp.mpf("1e-20")
        distance = {"W_1": lambda p, q: abs(p.atoms[0] - q.atoms[0]), "p": Law([0], [1]), "q": Law([3], [1])}
        assert value("W_1(p, q)", distance, numeric) == 3


def test_an_optimum_over_functions_is_compared_with_its_rivals() -> None:
    best = Optimum(lambda x: R(x, 2), [lambda x: 0 * x, lambda x: x])
    assert value(r"\max_T \mathbb{E}_{x \sim p} [T(x) - T(x)^2 / x]", {"p": DIE, "T": best}) == R(7, 8)


def test_a_limit_from_two_sides_must_agree_and_settle() -> None:
    with mp.workdps(30):
        with pytest.raises(ValueError, match="both sides differ"):
            value(r"\lim_{h \to 0} \frac{|h|}{h}", {}, Numeric())
        assert value(r"\lim_{h \to 0^-} \frac{|h|}{h}", {}, Numeric()) == -1
        with pytest.raises(ValueError, match="does not settle"):
            value(r"\lim_{n \to \infty} \sin n", {}, Numeric())
        with pytest.raises(ValueError, match="does not settle"):
            value(r"\lim_{n \to \infty} (-1)^n", {}, Numeric())  # constant along the even numbers
        assert abs(value(r"\lim_{n \to -\infty} \frac{(-1)^n}{n}", {}, Numeric())) < 1e-4


def test_comparisons_hold_for_small_numbers_and_forgive_rounding() -> None:
    with mp.workdps(50):
        where = {"x": mp.exp(-100), "y": mp.mpf(1) / 3, "z": mp.mpf(1) - mp.mpf(2) / 3}
        for tex, truth in (("x > 0", 1), ("x < 2 x", 1), ("x = 2 x", 0), ("y = z", 1), ("y < z", 0), ("y \\le z", 1)):
            assert value(rf"\mathbf{{1}}\{{{tex}\}}", where, Numeric()) == truth, tex


def test_samples_leave_their_standard_error() -> None:
    numeric = Numeric()
    mean = value(r"\mathbb{E}\, x^2", {"x": Samples([1, 2, 3])}, numeric)
    assert abs(mean - mp.mpf(14) / 3) < 1e-12
    ((average, error),) = numeric.errors
    assert average == mean
    assert abs(error - mp.sqrt(mp.mpf(49) / 9)) < 1e-12


def test_the_largest_term_is_remembered() -> None:
    numeric = Numeric()
    assert value("a - b", {"a": mp.mpf(10) ** 9, "b": mp.mpf(10) ** 9 - 1}, numeric) == 1
    assert numeric.largest == mp.mpf(10) ** 9
    numeric.reset()
    assert numeric.largest == 0
    value(r"\sum_{k=1}^{3} x_k", {"x": [1, -50, 2]}, numeric)
    assert numeric.largest == 50
    numeric.reset()
    value(r"\lim_{m \to \infty} m (x - \frac{m x}{m + 1})", {"x": mp.mpf(1)}, numeric)
    assert numeric.largest == 0, "what a limit adds at many digits does not bear on the tolerance"


def test_declarations_check_what_they_are_given() -> None:
    with pytest.raises(ValueError, match="as many of both"):
        Law([1, 2], [1])
    with pytest.raises(ValueError, match="negative weight"):
        Law([1, 2], [2, -1])
    with pytest.raises(ValueError, match="binds"):
        Operator(max, "power")
    with pytest.raises(ValueError, match="one of"):
        Means("mean")
    with pytest.raises(ValueError, match="at least two"):
        Samples([1])
