"""The ledger itself: one method for each way of checking an equation."""

from __future__ import annotations

import importlib
import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any, TypedDict, Unpack

import mpmath as mp
import numpy as np

from texledger._arithmetic import Arithmetic, magnitude
from texledger._claim import (
    ILL_FORMED,
    Claim,
    Side,
    Test,
    applied,
    differs,
    gap_between,
    holds_between,
    is_function,
    negation,
    rejects,
    simplifies,
    tensor,
    within,
    witness,
)
from texledger._draw import Draw
from texledger._entry import CheckFailed, Entry, LedgerError
from texledger._exact import Exact
from texledger._numeric import Numeric
from texledger._tex import read, relations, sides
from texledger._tree import Unreadable

Values = Mapping[str, Any]
Where = Values | Callable[[Draw], Values]


class Options(TypedDict, total=False):
    """What every check accepts; see :class:`Ledger`."""

    mutants: Mapping[str, Side]
    also_true: Mapping[str, str]
    code: Any


class Ledger:
    r"""The checked equations of one chapter.

    Every method takes the equation's ``label`` (``chapter:name``) and its ``tex``, quoted from the page, and returns
    an :class:`Entry`, which should be the last value of its cell.

    With neither ``lhs`` nor ``rhs`` the check computes with the quoted TeX itself. ``lhs=`` replaces the left side by
    an independent computation and reads the right one from the TeX; ``rhs=`` the other way round; both together leave
    the TeX only quoted. A side is a value or a function whose parameters are names from ``where``.

    ``where`` gives the symbols their values: a mapping, or a function of a :class:`Draw` that returns one.

    Three options go with every check. ``mutants`` adds damaged right sides by name (TeX or a function). ``also_true``
    names generated mutants that are true as well, each with the reason. ``code`` links functions to the equation.

    Args:
        chapter: prefix of all labels, for example ``"det-exp"``.
        macros: TeX commands of the page and what they stand for, for example ``{r"\T": r"^{\top}"}``.

    Raises:
        LedgerError: a label is malformed or taken, a side is missing, the TeX cannot be read.
        CheckFailed: the sides differ, or a mutant passes.
    """

    def __init__(self, chapter: str, macros: Mapping[str, str] | None = None) -> None:
        if not isinstance(chapter, str) or not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", chapter):
            raise LedgerError(f"chapter={chapter!r}: use lower-case letters, digits and hyphens, as in 'det-exp'.")
        self.chapter = chapter
        self.macros = dict(macros or {})
        self.entries: dict[str, Entry] = {}

    def __repr__(self) -> str:
        checked = [e for e in self.entries.values() if e.kind != "definition"]
        bound = sum(e.bound for e in checked)
        killed, total = sum(e.killed for e in checked), sum(len(e.mutants) for e in checked)
        return (
            f"{self.chapter}: {len(checked)} equations checked ({bound} computed from their own TeX), "
            f"{len(self.entries) - len(checked)} definitions; {killed} of {total} mutants rejected"
        )

    def symbolic(
        self,
        label: str,
        tex: str,
        where: Where | None = None,
        *,
        lhs: Side = None,
        rhs: Side = None,
        **options: Unpack[Options],
    ) -> Entry:
        """Both sides as SymPy expressions; their difference simplifies to zero.

        A mutant counts as rejected only if numbers put in for the symbols show that it differs.
        """
        how = "the difference of both sides simplifies to zero"
        return self._check("symbolic", label, tex, Exact(), where, 1, lhs, rhs, simplifies, how, witness, **options)

    def exact(
        self,
        label: str,
        tex: str,
        where: Where | None = None,
        *,
        lhs: Side = None,
        rhs: Side = None,
        draws: int = 3,
        **options: Unpack[Options],
    ) -> Entry:
        """Both sides in integers and rationals; equal to the last digit."""
        how = f"both sides in exact arithmetic on {_count(where, draws)}"
        return self._check("exact", label, tex, Exact(), where, draws, lhs, rhs, simplifies, how, differs, **options)

    def numeric(
        self,
        label: str,
        tex: str,
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

        They may differ by ``tol`` times the largest of 1 and their entries.
        """
        how = f"both sides on {_count(where, draws)}, {digits} digits, relative difference below {tol:.0e}"
        with mp.workdps(digits):
            same = within(tol)
            return self._check("numeric", label, tex, Numeric(), where, draws, lhs, rhs, same, how, **options)

    def gradient(
        self,
        label: str,
        tex: str,
        where: Where,
        *,
        of: Callable[..., Any],
        wrt: str,
        rhs: Side = None,
        draws: int = 3,
        tol: float = 1e-9,
        **options: Unpack[Options],
    ) -> Entry:
        """Automatic differentiation of the scalar function ``of`` by ``wrt`` against the formula's right side.

        ``of`` and a callable ``rhs`` get float64 tensors.
        """
        import torch

        def lhs(**env: Any) -> Any:
            variable = env[wrt].clone().requires_grad_(True)
            (gradient,) = torch.autograd.grad(applied(of, {**env, wrt: variable}), variable)
            return gradient

        how = f"automatic differentiation in float64 on {_count(where, draws)}, relative difference below {tol:.0e}"
        return self._against("gradient", label, tex, where, draws, lhs, rhs, within(tol), how, **options)

    def statistical(
        self,
        label: str,
        tex: str,
        where: Where,
        *,
        samples: Callable[..., Any],
        n: int,
        rhs: Side = None,
        errors: float = 4.0,
        **options: Unpack[Options],
    ) -> Entry:
        """The mean of ``n`` random samples within ``errors`` standard errors of the formula's right side.

        ``samples`` returns the ``n`` numbers; besides names from ``where`` (float64 tensors) it may ask for ``n`` and
        for ``rng``, a seeded NumPy generator. The check's power is its mutants: each must lie outside the interval.
        """
        error: list[float] = []

        def lhs(**env: Any) -> Any:
            rng = np.random.default_rng(zlib.crc32(label.encode()))
            values = np.asarray(applied(samples, {**env, "n": n, "rng": rng}), float)
            if values.shape != (n,):
                raise LedgerError(f"{label}: `samples` returned shape {values.shape}; it must return n = {n} numbers.")
            error[:] = [float(values.std(ddof=1)) / n**0.5]
            return float(values.mean())

        def same(a: Any, b: Any) -> bool:
            return bool(error[0] > 0 and abs(a - b) <= errors * error[0])

        how = f"the mean of {n:,} samples, within {errors:g} standard errors"
        return self._against("statistical", label, tex, where, 1, lhs, rhs, same, how, **options)

    def implementation(
        self,
        label: str,
        tex: str,
        where: Where,
        *,
        function: Callable[..., Any],
        call: Callable[..., Any] | None = None,
        rhs: Side = None,
        draws: int = 3,
        tol: float = 1e-12,
        **options: Unpack[Options],
    ) -> Entry:
        """``function`` computes the formula's right side.

        ``call`` (default: ``function`` itself, given the values of ``where`` in order) gets float64 tensors.
        """
        used = call or (lambda **env: function(*env.values()))
        more = options.pop("code", ())
        options["code"] = (function, *(more if isinstance(more, list | tuple) else [more]))
        how = f"the function in float64 on {_count(where, draws)}, relative difference below {tol:.0e}"
        return self._against("implementation", label, tex, where, draws, used, rhs, within(tol), how, **options)

    def definition(self, label: str, tex: str, *, code: Any = ()) -> Entry:
        """An equation that introduces a name: there is nothing to check, only functions to point to."""
        self._register(label, tex)
        return self._store(Entry(label, "definition", tex, False, True, "introduces a name", functions=_names(code)))

    def refutation(
        self,
        label: str,
        tex: str | None,
        where: Where | None = None,
        *,
        source: str,
        counterexample: str,
        holds: str,
        statement: str | None = None,
        published: tuple[Side, Side] | None = None,
        corrected: tuple[Side, Side] | None = None,
        digits: int = 50,
        tol: float = 1e-20,
        **options: Unpack[Options],
    ) -> Entry:
        """A published statement that fails at ``where``, and what holds there instead.

        Args:
            label: of the equation that quotes the statement, or a free one if ``tex`` is None.
            tex: the statement as published; None if it is in words (then give ``statement``).
            where: the counterexample's values, the smallest that show the failure.
            source: who states it, and where (author, title, place).
            counterexample: the same in words.
            holds: TeX of the corrected statement, checked at the same place; in words if ``corrected`` is given.
            statement: the published statement in words.
            published: two sides that should be equal by the statement, where its TeX cannot be read.
            corrected: two sides that are equal in truth.
            digits: decimal digits of the computation.
            tol: relative difference up to which the corrected sides count as equal.
            options: as for every check; mutants are those of the corrected statement.
        """
        self._register(label, tex)
        if tex is None and (statement is None or published is None or corrected is None):
            raise LedgerError(f"{label}: a statement in words needs `statement=`, `published=` and `corrected=`.")
        with mp.workdps(digits):
            env = self._draws(label, where, 1, exact=False)[0]
            stated = Claim.given(published) if published else self._read(label, tex or "", env)
            right = Claim.given(corrected) if corrected else self._read(label, holds, env)
            pairs = list(stated.values(Numeric(), env))
            gap = max(gap_between(a, b) for a, b in pairs)
            if not gap > 1e-3:
                raise CheckFailed(f"{label}: the statement does not fail here (relative difference {mp.nstr(gap, 3)}).")
            mutants, also_true = self._hold(label, right, Numeric(), [env], within(tol), None, **options)
        refutes = {
            "stated": tex or str(statement),
            "source": source,
            "counterexample": counterexample,
            "fails by": f"a difference of {mp.nstr(max(magnitude(a - b) for a, b in pairs), 3)}",
            "holds instead, in words" if corrected else "holds instead": holds,
        }
        how = f"the published sides differ there, the corrected ones agree to {tol:.0e}"
        functions = _names(options.get("code", ()))
        return self._store(
            Entry(label, "refutation", tex, published is None, True, how, mutants, also_true, functions, refutes)
        )

    def _against(
        self,
        kind: str,
        label: str,
        tex: str,
        where: Where,
        draws: int,
        lhs: Callable[..., Any],
        rhs: Side,
        same: Test,
        how: str,
        **options: Unpack[Options],
    ) -> Entry:
        """A computation in float64 against the formula; a formula given as a function must come with its mutants."""
        named = options.get("mutants", {})
        if rhs is not None and not named:
            raise LedgerError(f"{label}: with `rhs=` the formula cannot be damaged by itself; name some in `mutants=`.")

        def machine(side: Side) -> Side:
            if not is_function(side):
                return side
            return lambda **env: applied(side, {k: tensor(v) for k, v in env.items()})

        options["mutants"] = {name: machine(f) for name, f in named.items()}
        return self._check(
            kind, label, tex, Numeric(), where, draws, machine(lhs), machine(rhs), same, how, None, **options
        )

    def _check(
        self,
        kind: str,
        label: str,
        tex: str,
        arithmetic: Arithmetic,
        where: Where | None,
        draws: int,
        lhs: Side,
        rhs: Side,
        same: Test,
        how: str,
        differ: Test | None = None,
        **options: Unpack[Options],
    ) -> Entry:
        self._register(label, tex)
        envs = self._draws(label, where, draws, isinstance(arithmetic, Exact))
        claim = self._claim(label, tex, envs[0], lhs, rhs)
        mutants, also_true = self._hold(label, claim, arithmetic, envs, same, differ, **options)
        functions = _names(options.get("code", ()))
        return self._store(Entry(label, kind, tex, claim.bound, True, how, mutants, also_true, functions))

    def _register(self, label: str, tex: str | None) -> None:
        if not isinstance(label, str) or not re.fullmatch(rf"{self.chapter}:[a-z0-9]+(-[a-z0-9]+)*", label):
            raise LedgerError(f"label={label!r}: labels of this chapter look like '{self.chapter}:some-name'.")
        if label in self.entries:
            raise LedgerError(f"label={label!r} has an entry already: one equation, one entry.")
        if tex is not None and (not isinstance(tex, str) or not tex.strip() or "$" in tex or r"\label" in tex):
            raise LedgerError(f"{label}: tex={tex!r} must be the page's TeX, without dollars and without its label.")

    def _store(self, entry: Entry) -> Entry:
        if problems := entry.problems():
            raise CheckFailed(
                f"{entry.label} {'; '.join(problems)}. Sharpen the check (more draws, odd and even sizes, other "
                "values), or, if a damaged formula is true as well, say so in `also_true=`."
            )
        self.entries[entry.label] = entry
        return entry

    def _draws(self, label: str, where: Where | None, draws: int, exact: bool) -> list[dict[str, Any]]:
        if where is None or isinstance(where, Mapping):
            return [dict(where or {})]
        if draws < 1:
            raise LedgerError(f"{label}: draws={draws}: a check needs at least one.")
        return [dict(where(Draw(label, k, exact))) for k in range(draws)]

    def _claim(self, label: str, tex: str, env: Values, lhs: Side, rhs: Side) -> Claim:
        if lhs is not None and rhs is not None:
            return Claim.given((lhs, rhs))
        if lhs is None and rhs is None:
            return self._read(label, tex, env)
        functions = [k for k, v in env.items() if is_function(v)]
        try:
            left, right = sides(tex, self.macros)
            if lhs is not None:
                return Claim([(lhs, "=", read(right, functions, self.macros))], bound=True)
            return Claim([(read(left, functions, self.macros), "=", rhs)], bound=True)
        except Unreadable as error:
            raise LedgerError(f"{label}: {error}") from error

    def _read(self, label: str, tex: str, env: Values) -> Claim:
        try:
            found = relations(tex, [k for k, v in env.items() if is_function(v)], self.macros)
        except Unreadable as error:
            raise LedgerError(f"{label}: {error}") from error
        if not found:
            raise LedgerError(f"{label}: {tex!r} states no relation that can be checked.")
        return Claim([(r.left, r.sign, r.right) for r in found], bound=True)

    def _hold(
        self,
        label: str,
        claim: Claim,
        arithmetic: Arithmetic,
        envs: list[dict[str, Any]],
        same: Test,
        differ: Test | None,
        **options: Unpack[Options],
    ) -> tuple[tuple[tuple[str, bool], ...], dict[str, str]]:
        """Check ``claim`` in every environment, then all damaged copies of it; return mutants and excuses.

        Raises:
            CheckFailed: the claim does not hold.
            LedgerError: a symbol has no value; ``also_true`` excuses what did not survive.
        """
        if unknown := set(options) - set(Options.__annotations__):
            raise TypeError(f"{label}: unknown option {sorted(unknown)}; there are {sorted(Options.__annotations__)}.")
        for number, env in enumerate(envs, start=1):
            try:
                values = list(claim.values(arithmetic, env))
            except Unreadable as error:
                raise LedgerError(f"{label}: {error}") from error
            for (_, sign, _), (a, b) in zip(claim.relations, values, strict=True):
                if not holds_between(a, sign, b, same):
                    raise CheckFailed(
                        f"{label}: draw {number}: the left side is\n{_short(a)}\nthe right side is\n{_short(b)}\n"
                        f"and '{sign}' does not hold between them."
                    )
        functions = [k for k, v in envs[0].items() if is_function(v)]
        named = {
            name: read(m, functions, self.macros) if isinstance(m, str) else m
            for name, m in options.get("mutants", {}).items()
        }
        tried: dict[str, bool] = {}
        for name, mutant in claim.damaged(arithmetic, envs[0], named):
            dead = any(_fails(mutant, arithmetic, env, same, differ or negation(same)) for env in envs)
            tried[name] = dead and tried.get(name, True)
        excused = dict(options.get("also_true", {}))
        survivors = {name for name, dead in tried.items() if not dead}
        if unknown := set(excused) - survivors:
            raise LedgerError(f"{label}: also_true names {sorted(unknown)}, but the survivors are {sorted(survivors)}.")
        return tuple((n, d) for n, d in tried.items() if n not in excused), excused


def _fails(mutant: Claim, arithmetic: Arithmetic, env: Values, same: Test, differ: Test) -> bool:
    try:
        values = list(mutant.values(arithmetic, env))
    except ILL_FORMED:  # the slip leaves something that has no value, such as a number plus a matrix
        return True
    signs = [sign for _, sign, _ in mutant.relations]
    return any(
        rejects(a, b, differ) if sign == "=" else not holds_between(a, sign, b, same)
        for sign, (a, b) in zip(signs, values, strict=True)
    )


def _short(x: Any) -> str:
    return str(mp.nstr(x, 12)) if isinstance(x, mp.mpf | mp.mpc | mp.matrix) else str(x)


def _count(where: Where | None, draws: int) -> str:
    if where is None or isinstance(where, Mapping):
        return "the given values"
    return f"{draws} draw{'s' if draws > 1 else ''}"


def _names(code: Any) -> tuple[str, ...]:
    """Dotted names of functions given as such or by name; each must exist."""
    names = []
    for item in code if isinstance(code, list | tuple) else [code]:
        name = item if isinstance(item, str) else f"{item.__module__}.{item.__qualname__}"
        module, _, attribute = name.rpartition(".")
        try:
            getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError, ValueError) as error:
            raise LedgerError(f"code={name!r} does not exist: give a function or its full dotted name.") from error
        names.append(name)
    return tuple(names)
