"""The ledger itself: one method for each way of checking an equation."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

import mpmath as mp
import numpy as np

from texledger._arithmetic import Arithmetic, magnitude
from texledger._claim import (
    Claim,
    Comparison,
    Near,
    Part,
    Sampled,
    Side,
    Simplified,
    Test,
    applied,
    failing,
    is_function,
    structural,
    tensor,
    torch_for,
    value_of,
)
from texledger._declared import plain_values
from texledger._draw import Draw, drawn
from texledger._entry import CheckFailed, Entry, LedgerError, counted, normal
from texledger._exact import Exact
from texledger._hold import Outcome, Trial
from texledger._home import Home
from texledger._numeric import Numeric
from texledger._reading import Reader
from texledger._refuted import misquoted, refuse_other_sides
from texledger._tex import key_of, read
from texledger._tree import Node, Relation, Unreadable, show
from texledger._watch import Watch
from texledger._weak import names, same_value, weaknesses

Values = Mapping[str, Any]
Where = Values | Callable[[Draw], Values]
MEASURED = {"gradient", "statistical", "implementation", "definition"}  # their left side runs another kind of code
REDRAWS = 50  # for each draw, until the page's own conditions hold


class Options(TypedDict, total=False):
    """What every check accepts; see :class:`Ledger`."""

    mutants: Mapping[str, Side]
    also_true: Mapping[str, str]
    code: Any
    unread: Mapping[str, str] | str
    computed: Mapping[str, Side]
    loose: str | None
    weak: str | None
    scale: float
    approx: float


class Ledger:
    r"""The checked equations of one chapter.

    Every method takes the equation's ``label`` (``chapter:name``; any, if no chapter is given) and returns an
    :class:`Entry`, which should be the last value of its cell. The TeX is what the page displays under that label; as
    ``tex`` it is typed only where no page displays it, or where no check reads it. The README's section "Writing
    checks" shows all of this by examples.

    The page is the notebook that is open, on Colab too; the file that ``texledger check`` runs; the file of the
    chapter's name, or else any page that has the label, in the folder where the code runs.

    With neither ``lhs`` nor ``rhs`` the check computes both sides of every relation from the TeX. ``lhs=`` computes the
    first side once more, independently; ``rhs=`` the last one of the first statement. A side beside which a computation
    stands is read all the same: either it has a value of its own (then all must agree), or it is excused by
    ``unread``. A side is a value or a function whose parameters are names from ``where``.

    ``where`` gives the names of the TeX their values: a function of a :class:`Draw` that returns a mapping, or a
    mapping, if there is nothing to draw. It also declares laws, sets, optima and operators.

    These options go with every check:

    * ``mutants``: damaged right sides of the last relation by name (TeX or a function); each must be rejected.
    * ``also_true``: generated mutants that are true as well, each with the reason.
    * ``code``: functions to link. Those that are seen to run during the check compute it, the others are "see also".
    * ``unread``: sides, statements and conditions that no check reads, by their TeX, each with the reason; with both
      ``lhs`` and ``rhs`` one reason for the whole TeX.
    * ``computed``: values of names, each computed from those of ``where``: ``computed={"V": lambda x: ...}``.
    * ``loose``: why no draw comes within one per cent of an inequality's bound.
    * ``weak``: why special draws or a trivial identity are enough.
    * ``scale``: the size of terms that cancel inside code, where a side is zero in truth.
    * ``approx``: how closely, relative to their size, the sides of ``\approx`` agree.

    Args:
        chapter: prefix of all labels, for example ``"det-exp"``; without it labels may be any.
        macros: TeX commands of the page and what they stand for, for example ``{r"\T": r"^{\top}"}``.
        where: names and notations that mean the same in every check, for example ``{"^*": Superscript("adjoint")}``.
        page: the file that displays the equations, where it is not found by itself.

    Raises:
        LedgerError: a label is malformed or taken, a part of the TeX is neither read nor excused, the draws are too
            special; the message says which keyword mends it.
        CheckFailed: the sides differ, a mutant passes, or a bound is nowhere nearly attained.
    """

    def __init__(
        self,
        chapter: str | None = None,
        macros: Mapping[str, str] | None = None,
        where: Mapping[str, Any] | None = None,
        page: str | Path | None = None,
    ) -> None:
        named = isinstance(chapter, str) and re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", chapter)
        if chapter is not None and not named:
            raise LedgerError(
                f"chapter={chapter!r}: use lower-case letters, digits and hyphens, as in 'det-exp', or give none."
            )
        self.chapter = chapter
        self.macros = dict(macros or {})
        self.where = {key_of(key): value for key, value in (where or {}).items()}
        self.entries: dict[str, Entry] = {}
        self._home = Home(chapter, page)
        self._sites: dict[str, tuple[str, int]] = {}  # where each entry was made

    def __repr__(self) -> str:
        checked = [e for e in self.entries.values() if e.kind != "definition"]
        both, one = (sum(e.strength == s for e in checked) for s in ("both sides", "one side"))
        killed, total = sum(e.killed for e in self.entries.values()), sum(len(e.mutants) for e in self.entries.values())
        name, introduced = self.chapter or "ledger", counted(len(self.entries) - len(checked), "definition")
        return (
            f"{name}: {counted(len(checked), 'equation')} checked ({both} computed on both sides from their own TeX, "
            f"{one} on one side, {len(checked) - both - one} quoted), {introduced}; "
            f"{killed} of {total} mutants rejected"
        )

    def symbolic(
        self,
        label: str,
        tex: str | None = None,
        where: Where | None = None,
        *,
        lhs: Side = None,
        rhs: Side = None,
        **options: Unpack[Options],
    ) -> Entry:
        """Both sides as SymPy expressions; their difference simplifies to zero.

        A mutant counts as rejected only if numbers put in for the symbols show that it differs.
        """
        test = Simplified(witness=True)
        how = "the difference of both sides simplifies to zero"
        return self._check("symbolic", label, tex, Exact(), where, 1, lhs, rhs, test, how, **options)

    def exact(
        self,
        label: str,
        tex: str | None = None,
        where: Where | None = None,
        *,
        lhs: Side = None,
        rhs: Side = None,
        draws: int = 3,
        **options: Unpack[Options],
    ) -> Entry:
        """Both sides in integers and rationals; equal to the last digit."""
        test = Simplified(witness=False)
        how = "both sides in exact arithmetic, to the last digit"
        return self._check("exact", label, tex, Exact(), where, draws, lhs, rhs, test, how, **options)

    def numeric(
        self,
        label: str,
        tex: str | None = None,
        where: Where | None = None,
        *,
        lhs: Side = None,
        rhs: Side = None,
        draws: int = 3,
        digits: int = 50,
        tol: float = 1e-20,
        **options: Unpack[Options],
    ) -> Entry:
        """Both sides on random draws with ``digits`` decimal digits.

        They may differ by ``tol`` times the largest term that is added on either side; there is no absolute tolerance.
        """
        how = f"both sides to {digits} digits; a difference counts from {_times(tol, options)}"
        with mp.workdps(digits):
            test = Near(tol, options.get("scale", 0))
            return self._check("numeric", label, tex, Numeric(), where, draws, lhs, rhs, test, how, **options)

    def gradient(
        self,
        label: str,
        tex: str | None = None,
        where: Where | None = None,
        *,
        of: Callable[..., Any],
        wrt: str,
        name: str | None = None,
        rhs: Side = None,
        draws: int = 3,
        digits: int = 30,
        tol: float = 1e-9,
        **options: Unpack[Options],
    ) -> Entry:
        r"""Automatic differentiation of the scalar function ``of`` by ``wrt`` against the formula.

        ``of`` and a callable ``rhs`` get float64 tensors. If the left side is a derivative or gradient that can be
        computed from the TeX, all three must agree. If it is the derivative by ``wrt`` of a bare name, as in
        ``\nabla_v L``, ``name="L"`` says that ``of`` is what the name stands for.
        """
        torch = torch_for(f"{label}: a gradient")

        def lhs(**env: Any) -> Any:
            if wrt not in env:
                raise LedgerError(f"{label}: wrt={wrt!r} has no value in `where` (there are {', '.join(env)}).")
            variable = env[wrt].clone().requires_grad_(True)
            (gradient,) = torch.autograd.grad(applied(of, {**env, wrt: variable}), variable)
            return gradient

        def named(side: Node) -> bool:
            if side.op not in {"diff", "grad"} or name is None:
                return False
            body = side.args[0]
            bare = isinstance(body, Node) and body.op in {"sym", "call"} and body.args[0] == name
            return bare and side.args[1] in {wrt, "", None}

        how = f"automatic differentiation in float64; a difference counts from {_times(tol, options)}"
        return self._against(
            "gradient", label, tex, where, draws, lhs, rhs, None, tol, digits, how, named, name, **options
        )

    def statistical(
        self,
        label: str,
        tex: str | None = None,
        where: Where | None = None,
        *,
        samples: Callable[..., Any] | None = None,
        n: int | None = None,
        rhs: Side = None,
        errors: float = 4.0,
        draws: int = 1,
        digits: int = 30,
        tol: float = 1e-9,
        **options: Unpack[Options],
    ) -> Entry:
        """The mean of ``n`` random samples within ``errors`` standard errors of the formula's right side.

        ``samples`` returns the ``n`` numbers; besides names from ``where`` (float64 tensors) it may ask for ``n`` and
        for ``rng``, a seeded NumPy generator. If ``where`` declares the law, so that the left side's mean can be
        computed from the TeX, that must agree with the right side up to ``tol``. Without ``samples`` the mean of the
        TeX is taken over ``Samples`` in ``where``. The check's power is its mutants: each must lie outside the
        interval.
        """
        standard: dict[Any, float] = {}
        rng = np.random.default_rng(zlib.crc32(label.encode()))
        if (samples is None) != (n is None):
            raise LedgerError(f"{label}: `samples` and `n` go together.")

        def lhs(**env: Any) -> Any:
            assert samples is not None and n is not None
            values = np.asarray(applied(samples, {**env, "n": n, "rng": rng}), float)
            if values.shape != (n,):
                raise LedgerError(f"{label}: `samples` returned shape {values.shape}; it must return n = {n} numbers.")
            mean = mp.mpf(float(values.mean()))
            standard[mean] = float(values.std(ddof=1)) / n**0.5
            return mean

        test = Sampled(errors, standard)
        counted = f"the mean of {n:,} samples" if n else "the mean over the samples"
        how = f"{counted}, within {errors:g} standard errors"
        side = lhs if samples else None
        return self._against(
            "statistical", label, tex, where, draws, side, rhs, test, tol, digits, how, None, errors=errors, **options
        )

    def implementation(
        self,
        label: str,
        tex: str | None = None,
        where: Where | None = None,
        *,
        function: Callable[..., Any],
        call: Callable[..., Any] | None = None,
        name: str | None = None,
        rhs: Side = None,
        draws: int = 3,
        digits: int = 30,
        tol: float = 1e-12,
        **options: Unpack[Options],
    ) -> Entry:
        r"""``function`` computes the formula's right side.

        ``call`` (default: ``function`` itself, given the values of ``where`` in order) gets float64 tensors. If the
        left side has a value of its own, all three must agree. If it is a bare name or a name applied to arguments, as
        in ``T_{18}(X) = ...``, ``name="T_18"`` says that this is ``function``; it is then called with the arguments
        that the page prints.
        """
        how = f"the function in float64; a difference counts from {_times(tol, options)}"
        options["code"] = (*_shown(function), *_listed(options.get("code", ())))
        used, reads = self._function_side(label, function, call, name, {*self.where, *options.get("computed", {})})
        return self._against(
            "implementation", label, tex, where, draws, used, rhs, None, tol, digits, how, reads, name, **options
        )

    def definition(
        self,
        label: str,
        tex: str | None = None,
        where: Where | None = None,
        *,
        call: Callable[..., Any] | None = None,
        name: str | None = None,
        draws: int = 3,
        digits: int = 30,
        tol: float = 1e-12,
        **options: Unpack[Options],
    ) -> Entry:
        """An equation that introduces a name.

        With ``where`` the first function of ``code`` (or ``call``) is compared with the right side; without it nothing
        is checked, and the functions are only pointed to. What the page calls the new name is told by ``name``, as it
        is read, or by typing the TeX: no value could tell it from another.
        """
        code = options.get("code", ())
        functions = _listed(code)
        if tex is None and (where is None or name is None):
            raise LedgerError(
                f"{label}: no value tells the new name from another, so an edit of it would pass unseen. "
                + ("" if where is None else "Say what it is, name='the name as it is read', or ")
                + f"{'T' if where is None else 't'}ype the TeX as the page has it: ({label!r}, r'...', ...)."
            )
        if where is None:
            if call is not None or name is not None or set(options) - {"code"}:
                raise LedgerError(f"{label}: a definition that is compared needs `where=`.")
            tex, _ = self._register(label, tex)
            says = "introduces a name, nothing is checked"
            return self._store(Entry(label, "definition", tex, None, True, says, see_also=_names(code)))
        if call is None and not functions:
            raise LedgerError(f"{label}: with `where=` a definition is compared with a function: give it as `code=`.")
        first: Any = functions[0] if functions else call
        if isinstance(first, str):
            (first,) = _found(first)
        others = {*self.where, *options.get("computed", {})}
        side = call or (lambda **env: first(*(v for k, v in env.items() if k not in others)))
        shown = getattr(first, "__name__", type(first).__name__)
        how = f"computed by {shown}, compared; a difference counts from {_times(tol, options)}"

        def reads(side: Node) -> bool:  # the name that is introduced here
            if side.op not in {"sym", "call", "mul", "infix"}:
                return False
            if name is not None and name not in {str(side.args[0]), show(side)}:
                raise LedgerError(f"{label}: the page introduces `{show(side)}`, the check says name={name!r}.")
            return True

        return self._against(
            "definition", label, tex, where, draws, side, None, None, tol, digits, how, reads, **options
        )

    def refutation(
        self,
        label: str,
        tex: str | None = None,
        where: Where | None = None,
        *,
        source: str,
        counterexample: str,
        holds: str,
        statement: str | None = None,
        published: tuple[Side, Side] | None = None,
        corrected: tuple[Side, Side] | None = None,
        sides: Sequence[Any] | None = None,
        digits: int = 50,
        tol: float = 1e-20,
        **options: Unpack[Options],
    ) -> Entry:
        """A published statement that fails at ``where``, and what holds there instead.

        Args:
            label: of the equation that quotes the statement, or a free one if the statement is in words.
            tex: the statement as published; without it, and without ``statement``, the page's (with ``sides``).
            where: the counterexample's values, the smallest that show the failure.
            source: who states it, and where (author, title, place).
            counterexample: the same in words.
            holds: TeX of the corrected statement, checked at the same place; in words if ``corrected`` is given.
            statement: the published statement in words, if no TeX states it.
            published: two sides that should be equal by the statement, where its TeX cannot be read.
            corrected: two sides that are equal in truth.
            sides: the value of each side of the statement at the counterexample, as it follows by hand from what was
                published: numbers, or strings such as ``"1.71"`` that are rounded to the digits shown. Without them the
                check sees that the statement is false, not that it is this one: a misprint would be false as well. The
                entry then only quotes it.
            digits: decimal digits of the computation.
            tol: relative difference up to which the corrected sides count as equal.
            options: as for every check; mutants are those of the corrected statement.
        """
        in_words = tex is None and statement is not None
        if in_words and (published is None or corrected is None):
            raise LedgerError(f"{label}: a statement in words needs `published=` and `corrected=`.")
        if tex is None and not in_words and (sides is None or published is not None):
            raise LedgerError(
                f"{label}: no check tells this statement from another false one, so an edit of it would pass unseen. "
                "Give `sides=`, without `published=`, or type the TeX as the page has it."
            )
        tex, site = self._register(label, tex, in_words)
        _known(label, options)
        with mp.workdps(digits):
            watch = Watch(_found(options.get("code", ())))
            envs, draws = self._draws(label, where, 1, False, watch, None)
            env, arithmetic = envs[0], Numeric()
            test = Near(tol, options.get("scale", 0))
            shown, unread, strength = "", {}, "quoted"
            parts: Sequence[Part] = ()
            if published:
                compared = [("=", *(self._value(label, side, arithmetic, env) for side in published))]
                given = list(compared[0][1:])
            else:
                stated = Reader(label, tex or "", self.macros, env, options.get("unread", {}), test, test).claim()
                if not all(self._condition(label, c, env) for c in stated.guards):
                    raise LedgerError(f"{label}: the counterexample breaks the condition that the statement prints.")
                shown, unread, strength = stated.read, stated.unread, stated.strength
                parts = stated.parts()
                values = {part: self._value(label, part.what, arithmetic, env) for part in parts}
                compared = [(c.sign, values[c.left], values[c.right]) for c in stated.comparisons]
                given = list(values.values())
                if sides is None:
                    strength = "quoted"
                    unread = {**unread, str(tex): "that it fails is computed, but another false one would fail as well"}
            gap = max(failing(sign, a, b) for sign, a, b in compared)
            if not gap > 1e-3:
                raise CheckFailed(f"{label}: the statement does not fail here (relative difference {mp.nstr(gap, 3)}).")
            if sides is not None:
                refuse_other_sides(label, sides, given)
            if corrected:
                pair = (
                    Part(corrected[0], "the first of `corrected`", "left"),
                    Part(corrected[1], "the second", "right"),
                )
                right = Claim([Comparison(pair[0], "=", pair[1], test)], "quoted")
            else:
                right = Reader(label, holds, self.macros, env, {}, test, test).claim()
            trial = Trial(label, right, arithmetic, envs, watch, options.get("loose"))
            outcome, also_true = self._try(label, trial, env, options)
            if sides is not None:
                misquoted(outcome, parts, sides, arithmetic, env)
        refutes = {
            "stated": tex or str(statement),
            "source": source,
            "counterexample": counterexample,
            "fails by": f"a difference of {mp.nstr(max(magnitude(a - b) for _, a, b in compared), 3)}",
            "holds instead, in words" if corrected else "holds instead": holds,
        }
        how = f"the published sides differ there, the corrected ones agree to {tol:.0e} of their size"
        if sides is not None:
            listed = " and ".join(str(value) for value in sides)
            how = f"the published sides are {listed} there, as stated; the corrected ones agree to {tol:.0e} of them"
        functions, see_also = self._functions(watch, options.get("code", ()))
        return self._store(
            Entry(
                label, "refutation", tex, strength, True, how, read=shown, unread=unread,
                drawn=drawn(envs, draws, names(right.trees(), env)), functions=functions, see_also=see_also,
                loose=options.get("loose"), weak=options.get("weak"), refutes=refutes, **_fates(outcome, also_true),
            ),
            site,
        )  # fmt: skip

    def _against(
        self,
        kind: str,
        label: str,
        tex: str | None,
        where: Where | None,
        draws: int,
        lhs: Side,
        rhs: Side,
        test: Test | None,
        tol: float,
        digits: int,
        how: str,
        reads_left: Callable[[Node], bool] | None,
        name: str | None = None,
        errors: float = 4.0,
        **options: Unpack[Options],
    ) -> Entry:
        """A computation in float64 against the formula; a formula given as a function must come with its mutants."""
        _known(label, options)
        named = options.get("mutants", {})
        if rhs is not None and not named:
            raise LedgerError(f"{label}: with `rhs=` the formula cannot be damaged by itself; name some in `mutants=`.")

        def machine(side: Side) -> Side:
            if not is_function(side):
                return side
            return lambda **env: applied(side, {k: tensor(v) for k, v in plain_values(env).items()})

        options["mutants"] = {name: machine(f) for name, f in named.items()}
        near = Near(tol, options.get("scale", 0), errors)
        with mp.workdps(digits):
            return self._check(
                kind, label, tex, Numeric(), where, draws, machine(lhs), machine(rhs), test or near, how,
                between=near, reads_left=reads_left, name=name, **options,
            )  # fmt: skip

    @staticmethod
    def _function_side(
        label: str,
        function: Callable[..., Any],
        call: Callable[..., Any] | None,
        name: str | None,
        others: set[str],
    ) -> tuple[Callable[..., Any], Callable[[Node], bool] | None]:
        """What computes the left side of an implementation, and whether the page's left side is its name.

        ``others`` are the keys that are no arguments.
        """
        args: list[Node] = []

        def reads(side: Node) -> bool:
            if name is None or side.op not in {"sym", "call"} or side.args[0] != name:
                return False
            if side.op == "call":
                if call is not None:
                    raise LedgerError(
                        f"{label}: the page applies {name} to arguments, and `call` hides what becomes of them: give a "
                        "`function` that takes them as they are printed, and no `call`."
                    )
                args[:] = side.args[1:]
            return True

        def used(**env: Any) -> Any:
            if args:
                arithmetic = Numeric()
                values = [tensor(arithmetic.evaluate(a, env)) for a in args]
                return function(*values)
            return applied(call, env) if call else function(*(v for k, v in env.items() if k not in others))

        return used, reads

    def _check(
        self,
        kind: str,
        label: str,
        given: str | None,
        arithmetic: Arithmetic,
        where: Where | None,
        draws: int,
        lhs: Side,
        rhs: Side,
        test: Test,
        how: str,
        between: Test | None = None,
        reads_left: Callable[[Node], bool] | None = None,
        name: str | None = None,
        **options: Unpack[Options],
    ) -> Entry:
        if given is None and isinstance(options.get("unread"), str):
            raise LedgerError(
                f"{label}: with one reason for all no check reads the TeX, so an edit of it would pass unseen: type it "
                f"as the page has it, ({label!r}, r'...', ...)."
            )
        tex, site = self._register(label, given)
        _known(label, options)
        between = between or test
        code_beside = is_function(lhs) or is_function(rhs)
        watch = Watch(_found(options.get("code", ())), compare=code_beside and kind not in MEASURED)
        exact = isinstance(arithmetic, Exact)
        computed = options.get("computed", {})
        read = lambda env: self._reader(label, tex, env, options, test, between, name).claim(
            lhs, rhs, _new_name(reads_left, env) if kind == "definition" else reads_left
        )
        envs, made = self._draws(
            label, where, draws, exact, watch, lambda env: self._guard(label, tex, env, options, name), computed
        )
        claim = read(envs[0])
        used = names(claim.trees(), envs[0])
        if unused := [name for name in map(key_of, computed) if name not in used and claim.strength != "quoted"]:
            raise LedgerError(f"{label}: computed={unused} is not in the TeX as it was read: {claim.read}.")
        trial = Trial(label, claim, arithmetic, envs, watch, options.get("loose"))
        outcome, also_true = self._try(label, trial, envs[0], options)
        sides = {p.phase: trial.values[0].of(p) for p in claim.parts() if p.phase}
        self._weak(label, weaknesses(claim, envs, made, used, watch, sides), options.get("weak"))
        functions, see_also = self._functions(watch, options.get("code", ()))
        strength = None if kind == "definition" else claim.strength
        if any(c.sign in {"<", "<=", ">", ">="} for c in claim.comparisons):
            bound = (
                "no draw comes within one per cent of the bound"
                if options.get("loose")
                else "one per cent tighter it fails"
            )
            how = f"{how}; the inequality holds on every draw, and {bound}"
        if any(c.sign == "!=" for c in claim.comparisons):
            how = f"{how}; the sides of ≠ differ on every draw"
        entry = Entry(
            label, kind, tex, strength, True, how, read=claim.read, unread=claim.unread,
            drawn=drawn(envs, made, used or list(plain_values(envs[0]))), functions=functions, see_also=see_also,
            loose=options.get("loose"), weak=options.get("weak"), **_fates(outcome, also_true),
        )  # fmt: skip
        return self._store(entry, site)

    def _reader(
        self, label: str, tex: str, env: Values, options: Options, test: Test, between: Test, name: str | None
    ) -> Reader:
        approx = options.get("approx")
        about = Near(approx, options.get("scale", 0)) if approx is not None else None
        return Reader(label, tex, self.macros, env, options.get("unread", {}), test, between, about, name)

    def _try(self, label: str, trial: Trial, env: Values, options: Options) -> tuple[Outcome, dict[str, str]]:
        """Check the claim, then its damaged copies; return their fates and the excuses.

        Raises:
            CheckFailed: the claim does not hold.
            LedgerError: ``also_true`` excuses what did not survive, or ``loose`` a bound that is attained.
        """
        loose = options.get("loose")
        if loose is not None and not str(loose).strip():
            raise LedgerError(f"{label}: `loose=` needs a reason, which is printed.")
        trial.check()
        if loose and not trial.tightness_needed():
            raise LedgerError(f"{label}: loose= is not needed: every bound is nearly attained by a draw. Remove it.")
        outcome = trial.damage(options.get("mutants", {}), lambda tex: self._expression(label, tex, env))
        excused = dict(options.get("also_true", {}))
        survivors = {name for name, dead in outcome.mutants.items() if not dead}
        if unknown := set(excused) - survivors:
            raise LedgerError(f"{label}: also_true names {sorted(unknown)}, but the survivors are {sorted(survivors)}.")
        return outcome, excused

    def _expression(self, label: str, tex: str, env: Values) -> Node:
        """A damaged right side that is given as TeX."""
        try:
            return read(tex, env, self.macros)
        except Unreadable as error:
            raise LedgerError(f"{label}: the mutant {tex!r} must be one formula without a relation: {error}") from error

    @staticmethod
    def _weak(label: str, found: Sequence[str], weak: str | None) -> None:
        if weak is not None and not str(weak).strip():
            raise LedgerError(f"{label}: `weak=` needs a reason, which is printed.")
        if found and weak is None:
            raise LedgerError(
                f"{label}: the check is weaker than it looks: {'; '.join(found)}. Mend it, or say why it is enough: "
                "weak='the reason, which is printed'."
            )
        if weak and not found:
            raise LedgerError(f"{label}: weak= is not needed: nothing about the draws is special. Remove it.")

    @staticmethod
    def _value(label: str, side: Side, arithmetic: Arithmetic, env: Values) -> Any:
        try:
            return value_of(side, arithmetic, env)
        except LedgerError:
            raise
        except Exception as error:
            why = structural(error) or f"raised {type(error).__name__}"
            raise LedgerError(f"{label}: a side of the statement {why} ({error}).") from error

    def _guard(self, label: str, tex: str, env: Values, options: Options, name: str | None) -> bool:
        """True if the conditions that the page prints hold for the values of a draw."""
        unread = options.get("unread", {})
        if isinstance(unread, str):
            return True
        reading, _ = self._reader(label, tex, env, options, Near(0), Near(0), name).reading()
        return all(self._condition(label, c, env) for c in reading.conditions if isinstance(c, Relation))

    @staticmethod
    def _condition(label: str, condition: Relation, env: Values) -> bool:
        exact = any(type(v).__module__.startswith("sympy") for v in env.values())
        try:
            arithmetic = Exact() if exact else Numeric()
            return bool(arithmetic.evaluate(Node("holds", (condition.left, condition.sign, condition.right)), env))
        except Unreadable as error:
            raise LedgerError(
                f"{label}: the condition {condition} is not used by the check: {error} Give its names values in "
                "`where`, or excuse it: unread={r'its TeX': 'the reason, which is printed'}."
            ) from error
        except ValueError as error:
            raise LedgerError(
                f"{label}: the condition {condition} has no value ({error}): look at the values in `where`."
            ) from error

    def _functions(self, watch: Watch, code: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names of the functions that ran, and of those that did not."""
        ran, others = [], []
        for item, name in zip(_listed(code), _names(code), strict=True):
            if isinstance(item, str):
                module, _, attribute = name.rpartition(".")
                item = getattr(importlib.import_module(module), attribute)
            (ran if watch.ran(item) else others).append(name)
        return tuple(dict.fromkeys(ran)), tuple(dict.fromkeys(others))

    def _register(self, label: str, tex: str | None, in_words: bool = False) -> tuple[Any, tuple[str, int]]:
        """The label must be this chapter's and free; a cell may run twice.

        Returns:
            the TeX, the page's own if none is given (nothing for a statement in words), and where the check is called.
        """
        if self.chapter is None:
            if not isinstance(label, str) or not re.fullmatch(r"[^\s(){}$]+", label):
                raise LedgerError(f"label={label!r}: a label is the page's, without blanks, brackets and dollars.")
        elif not isinstance(label, str) or not re.fullmatch(rf"{self.chapter}:[a-z0-9]+(-[a-z0-9]+)*", label):
            raise LedgerError(f"label={label!r}: labels of this chapter look like '{self.chapter}:some-name'.")
        if callable(tex) or isinstance(tex, Mapping):
            raise LedgerError(f"{label}: the second argument is the equation's TeX: give the values as where=...")
        if tex is not None and (not isinstance(tex, str) or not tex.strip() or "$" in tex or r"\label" in tex):
            raise LedgerError(f"{label}: tex={tex!r} must be the page's TeX, without dollars and without its label.")
        site = _site()
        from_page = tex is None and not in_words
        if from_page:
            tex = self._home.tex(label, site[0])
        old = self.entries.get(label)
        if old is not None:
            same_tex = (old.tex is None) == (tex is None) and normal(old.tex or "") == normal(tex or "")
            same_tex = same_tex or from_page  # the page has been edited since
            if not same_tex or not (site == self._sites.get(label) or _interactive()):
                raise LedgerError(
                    f"label={label!r} has an entry already{'' if same_tex else f', for {old.tex!r}'}: one equation, "
                    "one entry. (A cell may run twice; after an edit of its equation say "
                    f"`del ledger.entries[{label!r}]` first.)"
                )
        return tex, site

    def _store(self, entry: Entry, site: tuple[str, int] | None = None) -> Entry:
        if problems := entry.problems():
            raise CheckFailed(
                f"{entry.label} {'; '.join(problems)}. Sharpen the check (more draws, odd and even sizes, other "
                "values), or, if a damaged formula is true as well, say so in `also_true=`."
            )
        self.entries[entry.label] = entry
        self._sites[entry.label] = site or _site()
        return entry

    def _draws(
        self,
        label: str,
        where: Where | None,
        draws: int,
        exact: bool,
        watch: Watch,
        guard: Callable[[Values], bool] | None,
        computed: Mapping[str, Side] | None = None,
    ) -> tuple[list[dict[str, Any]], list[Draw]]:
        """The values of every draw for which the page's conditions hold."""
        named = {key_of(key): f for key, f in (computed or {}).items()}
        add = lambda env: {**env, **{k: self._compute(label, k, f, env) for k, f in named.items()}}
        if where is None or isinstance(where, Mapping):
            with watch.on("where"):
                env = add(self.where | {key_of(key): value for key, value in (where or {}).items()})
            if guard is not None and not guard(env):
                raise LedgerError(f"{label}: the given values break the condition that the page prints.")
            return [env], []
        if draws < 1:
            raise LedgerError(f"{label}: draws={draws}: a check needs at least one.")
        envs, made = [], []
        for k in range(draws):
            for again in range(REDRAWS):
                draw = Draw(label, k + again * draws, exact)
                with watch.on("where" if k == 0 else "other draws"):
                    env = add(self._once(label, where, draw))
                if guard is None or guard(env):
                    break
            else:
                raise LedgerError(
                    f"{label}: {REDRAWS} draws in turn break the condition that the page prints: draw what meets it."
                )
            if k == 0:
                self._repeats(label, where, draw.number, exact, env)
            envs.append(env)
            made.append(draw)
        return envs, made

    def _once(self, label: str, where: Callable[[Draw], Values], draw: Draw) -> dict[str, Any]:
        try:
            return self.where | {key_of(key): value for key, value in where(draw).items()}
        except LedgerError:
            raise
        except Exception as error:
            raise LedgerError(
                f"{label}: `where` raised {type(error).__name__} on draw {draw.number + 1}: {error}."
            ) from error

    def _repeats(self, label: str, where: Callable[[Draw], Values], number: int, exact: bool, env: Values) -> None:
        """A draw must not depend on what ran before.

        Raises:
            LedgerError: the same draw gives other values the second time.
        """
        again = self._once(label, where, Draw(label, number, exact))
        if changed := [k for k, v in again.items() if not same_value(v, env.get(k))]:
            raise LedgerError(
                f"{label}: the same draw gives other values of {', '.join(changed)} the second time, so they depend on "
                "which cells ran before. Take sizes from draw.turn(2, 3, 4), and randomness from draw.rng, not globals."
            )

    @staticmethod
    def _compute(label: str, name: str, f: Side, env: Values) -> Any:
        if name in env:
            raise LedgerError(f"{label}: {name!r} has a value in `where` and in `computed=`: give it once.")
        try:
            return applied(f, env) if is_function(f) else f
        except LedgerError as error:
            raise LedgerError(f"{label}: computed[{name!r}]: {error}") from error
        except Exception as error:
            raise LedgerError(f"{label}: computed[{name!r}] raised {type(error).__name__}: {error}.") from error


def _fates(outcome: Outcome, excused: Mapping[str, str]) -> dict[str, Any]:
    return {
        "mutants": tuple((n, d) for n, d in outcome.mutants.items() if n not in excused),
        "ill_formed": {n: why for n, why in outcome.ill_formed.items() if n not in excused},
        "also_true": dict(excused),
        "weaker": tuple(dict.fromkeys(outcome.weaker)),
        "undecided": tuple(dict.fromkeys(outcome.undecided)),
    }


def _new_name(reads: Callable[[Node], bool] | None, env: Values) -> Callable[[Node], bool] | None:
    """What ``reads`` accepts, unless ``where`` gives it a meaning: a definition's name is new."""
    return None if reads is None else lambda side: reads(side) and str(side.args[0]) not in env


def _times(tol: float, options: Mapping[str, Any]) -> str:
    scale = options.get("scale")
    return f"{tol:.0e} times the largest term that is added" + (f" (in code: {scale:g})" if scale else "")


def _known(label: str, options: Mapping[str, Any]) -> None:
    if unknown := set(options) - set(Options.__annotations__):
        raise TypeError(f"{label}: unknown option {sorted(unknown)}; there are {sorted(Options.__annotations__)}.")


def _site() -> tuple[str, int]:
    """The file and line, outside this package, from which the ledger is called."""
    frame = sys._getframe(1)
    here = inspect.getfile(Ledger).rpartition("/")[0]
    while frame.f_back is not None and frame.f_code.co_filename.startswith(here):
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


def _interactive() -> bool:
    """True in IPython and Jupyter, where an edited cell is another file."""
    module = sys.modules.get("IPython")
    return module is not None and module.get_ipython() is not None


def _listed(code: Any) -> tuple[Any, ...]:
    return tuple(code) if isinstance(code, list | tuple) else (code,)


def _shown(function: Callable[..., Any]) -> tuple[Any, ...]:
    """``function`` if it can be found by its name (a lambda cannot)."""
    try:
        _names(function)
    except LedgerError:
        return ()
    return (function,)


def _found(code: Any) -> list[Any]:
    """The functions themselves, of those that are given by name."""
    items = []
    for item, name in zip(_listed(code), _names(code), strict=True):
        module, _, attribute = name.rpartition(".")
        items.append(getattr(importlib.import_module(module), attribute) if isinstance(item, str) else item)
    return items


def _names(code: Any) -> tuple[str, ...]:
    """Dotted names of functions given as such or by name; each must exist."""
    found = []
    for item in _listed(code):
        name = (
            item if isinstance(item, str) else f"{item.__module__}.{getattr(item, '__qualname__', type(item).__name__)}"
        )
        module, _, attribute = name.rpartition(".")
        try:
            getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError, ValueError) as error:
            raise LedgerError(f"code={name!r} does not exist: give a function or its full dotted name.") from error
        found.append(name)
    return tuple(found)
