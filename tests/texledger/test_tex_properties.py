"""Random formulas printed as TeX are read back as they were; random tokens are read or refused, never more."""

from __future__ import annotations

import contextlib

import mpmath as mp
from hypothesis import given, settings
from hypothesis import strategies as st
from texledger._declared import Law, Over
from texledger._tex import read, statements
from texledger._tree import Node, plain, plain_reading

from texledger import Unreadable

WHERE = {"a": mp.mpf(2), "b": mp.mpf(3), "x": mp.mpf(5), "A": mp.eye(2), "lambda": mp.mpf(1), "f": mp.exp, "g": mp.sin}
NAMES = {"a": "a", "b": "b", "x": "x", "A": "A", "lambda": r"\lambda ", "hat x": r"\hat{x}", "w_h": r"w_\mathrm{h}"}


def number(n: int) -> Node:
    return Node("num", (str(n),))


def leaves() -> st.SearchStrategy[Node]:
    return st.one_of(st.integers(2, 9).map(number), st.sampled_from(sorted(NAMES)).map(lambda n: Node("sym", (n,))))


K = Node("sym", ("k",))  # a sum holds its index


def trees() -> st.SearchStrategy[Node]:
    def grown(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
        several = lambda op: st.lists(inner, min_size=2, max_size=3).map(lambda xs: Node(op, tuple(xs)))
        two = lambda op: st.tuples(inner, inner).map(lambda xs: Node(op, xs))
        return st.one_of(
            several("add"),
            several("mul"),
            two("div"),
            inner.map(lambda x: Node("neg", (x,))),
            st.tuples(inner, st.integers(2, 5)).map(lambda p: Node("pow", (p[0], number(p[1])))),
            st.tuples(st.sampled_from(["f", "g", "log", "cos"]), inner).map(lambda p: Node("call", p)),
            inner.map(lambda x: Node("transpose", (x,))),
            inner.map(lambda x: Node("norm", (x, "2"))),
            inner.map(lambda x: Node("call", ("abs", x))),
            inner.map(lambda x: Node("sum", (Node("mul", (x, K)), "k", number(1), Node("sym", ("a",))))),
            inner.map(lambda x: Node("each", ("max", x, ("j",)))),
            inner.map(lambda x: Node("int", (x, "t", number(0), number(1)))),
            inner.map(lambda x: Node("diff", (x, "x"))),
            inner.map(lambda x: Node("lim", (x, "h", number(0)))),
            inner.map(lambda x: Node("expect", ("E", (("z", "p"),), x))),
            st.tuples(inner, inner).map(
                lambda xs: Node("cases", (xs[0], Node("holds", (xs[1], "<", number(1))), xs[1], None))
            ),
            st.tuples(inner, inner).map(lambda xs: Node("matrix", (xs,))),
        )

    return st.recursive(leaves(), grown, max_leaves=8)


def tex(node: Node) -> str:
    """The node in TeX with every compound operand in parentheses."""
    op, args = node.op, node.args
    inside = lambda x: tex(x) if x.op in {"num", "sym"} else rf"\left( {tex(x)} \right)"
    match op:
        case "num":
            return args[0]
        case "sym":
            return NAMES.get(args[0]) or args[0]
        case "neg":
            return "-" + inside(args[0])
        case "add":
            return " + ".join(inside(x) for x in args)
        case "mul":
            return r" \cdot ".join(inside(x) for x in args)
        case "div":
            return rf"\frac{{{tex(args[0])}}}{{{tex(args[1])}}}"
        case "pow":
            return rf"{inside(args[0])}^{{{tex(args[1])}}}"
        case "call" if args[0] == "abs":
            return rf"\lvert {tex(args[1])} \rvert"
        case "call":
            return ("\\" if args[0] in {"log", "cos"} else "") + rf"{args[0]}\left( {tex(args[1])} \right)"
        case "transpose":
            return inside(args[0]) + r"^{\top}"
        case "norm":
            return rf"\left\| {tex(args[0])} \right\|"
        case "sum":
            return rf"\sum_{{k=1}}^{{a}} {inside(args[0])}"
        case "each":
            return rf"\max_{{j}} {inside(args[1])}"
        case "int":
            return rf"\int_0^1 {inside(args[0])} \,dt"
        case "diff":
            return rf"\frac{{d}}{{dx}} {inside(args[0])}"
        case "lim":
            return rf"\lim_{{h \to 0}} {inside(args[0])}"
        case "expect":
            return rf"\mathbb{{E}}_{{z \sim p}} \left[ {tex(args[2])} \right]"
        case "cases":
            rows = rf"{tex(args[0])} & {tex(args[1].args[0])} < 1 \\ {tex(args[2])} & \text{{otherwise}}"
            return rf"\begin{{cases}} {rows} \end{{cases}}"
        case "matrix":
            return rf"\begin{{pmatrix}} {tex(args[0][0])} & {tex(args[0][1])} \end{{pmatrix}}"
    raise AssertionError(op)


@settings(max_examples=80, deadline=None)
@given(trees())
def test_a_formula_printed_as_tex_is_read_back(node: Node) -> None:
    where = {**WHERE, "hat x": mp.mpf(1), "w_h": mp.mpf(1), "p": Law([1], [1]), "j": Over([1])}
    where["A"] = mp.mpf(1)  # bars around a matrix are refused
    printed = tex(node)
    found = read(printed, declared=where)
    assert found == node, f"{printed}\n{plain(found)}\n{plain(node)}"


PIECES = [
    "a", "b", "x", "d", "f", "1", "23", "+", "-", "=", "<", r"\le", r"\cdot", "/", "(", ")", "[", "]", "{", "}", "^",
    "_", "|", r"\|", "!", "'", ",", ".", "&", r"\\", r"\frac", r"\sum", r"\max", r"\int", r"\lim", r"\to", r"\in",
    r"\sim", r"\mid", r"\mathbb{E}", r"\Pr", r"\mathbf", r"\hat", r"\alpha", r"\sin", r"\log", r"\nabla", r"\partial",
    r"\text{for }", r"\text{x}", r"\begin{cases}", r"\end{cases}", r"\begin{pmatrix}", r"\end{pmatrix}",
    r"\begin{aligned}", r"\end{aligned}", r"\left", r"\right", r"\{", r"\}", r"\langle", r"\rangle", r"\ldots",
    r"\quad", r"\qquad", r"\iff", r"\implies", r"\forall", r"\infty", r"\sqrt", r"\binom", r"\odot",
    r"\operatorname{tr}", r"\arg", r"\stackrel", r"\underset", r"\lfloor", r"\rfloor", r"\mathrm", r"\top", "*",
    r"\pi", "$", "%", "~", ":", r"\substack", r"\lvert", r"\rvert", r"\Big", r"\big|", r"\over", r"\choose",
]  # fmt: skip


@settings(max_examples=250, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=14), st.booleans())
def test_any_tokens_are_read_or_refused(pieces: list[str], known: bool) -> None:
    with contextlib.suppress(Unreadable):
        plain_reading(statements(" ".join(pieces), WHERE if known else None))


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet=st.sampled_from("abdx12+-=^_{}()[]|\\,.;:!&'* \"~$%éπ\t\n"), max_size=25))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(Unreadable):
        plain_reading(statements(text, WHERE))
