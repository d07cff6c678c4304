"""See which functions run while a check computes: a function counts as computing an equation only if it did."""

from __future__ import annotations

import functools
import inspect
import os
import sys
import sysconfig
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import mpmath as mp
import sympy as sp

_LIBRARIES = tuple({sysconfig.get_paths()[k] + os.sep for k in ("stdlib", "platstdlib", "purelib", "platlib")})
_HERE = str(Path(__file__).parent) + os.sep
_MOST_CALLS = 5000  # of the author's functions, whose arguments are kept to compare two sides


class Watch:
    """Notes every Python function and built-in that runs under :meth:`on`.

    Of functions outside the libraries (the author's) it also keeps the arguments, by phase: if two sides of an
    equation make the same call, they are one computation and not two.

    Args:
        items: the functions to look out for; once all were seen, watching costs nothing more.
        compare: also keep the calls of the author's functions.
    """

    def __init__(self, items: Iterable[Any] = (), compare: bool = False) -> None:
        self.compare = compare
        self._missing = list(items)
        self.codes: set[CodeType] = set()
        self.builtins: list[Any] = []
        self.calls: dict[str, dict[tuple[CodeType, Any], Any]] = {}  # by phase: what each call returned
        self._open: list[tuple[CodeType, Any] | None] = []  # calls of the author's functions that have not returned
        self._own: dict[CodeType, bool] = {}
        self._phase = ""
        self._budget = _MOST_CALLS

    @contextmanager
    def on(self, phase: str):
        """Watch what runs inside; another profiler that is at work keeps its place afterwards."""
        if not self.compare:
            self._missing = [item for item in self._missing if not self.ran(item)]
            if not self._missing:
                yield
                return
        before, last, waiting = sys.getprofile(), self._phase, self._open
        self._phase, self._open = phase, []
        sys.setprofile(self._see)
        try:
            yield
        finally:
            _restore(before)
            self._phase, self._open = last, waiting

    def _see(self, frame: FrameType, event: str, arg: Any) -> None:
        if event == "call":
            code = frame.f_code
            self.codes.add(code)
            if not self.compare:
                return
            own = self._own.get(code)
            if own is None:
                own = self._own[code] = _is_own(code)
            if own:
                self._open.append(self._call(code, frame))
        elif event == "return":
            if self._open and self._own.get(frame.f_code) and (key := self._open.pop()) is not None:
                self.calls.setdefault(self._phase, {})[key] = arg
        elif event == "c_call" and not any(arg is b for b in self.builtins[-64:]):
            self.builtins.append(arg)

    def _call(self, code: CodeType, frame: FrameType) -> tuple[CodeType, Any] | None:
        count = code.co_argcount + code.co_kwonlyargcount
        if not count or not self._budget:
            return None
        self._budget -= 1
        values = frame.f_locals
        return code, tuple(_key(values.get(name)) for name in code.co_varnames[:count])

    def ran(self, item: Any) -> bool:
        """True if ``item`` (a function, a method, a class or a built-in) was seen to run."""
        if isinstance(item, functools.partial):
            return self.ran(item.func)
        if isinstance(item, type):
            return self._class_ran(item)
        if not inspect.isroutine(item) and callable(item):  # an object that is called, such as a module of PyTorch
            return self._class_ran(type(item))
        codes = {f.__code__ for f in _layers(item) if hasattr(f, "__code__")}
        return bool(codes & self.codes) or any(item is b or item == b for b in self.builtins)

    def _class_ran(self, cls: type) -> bool:
        calls = [vars(cls).get(name) for name in ("forward", "__call__")]
        methods = [f for f in calls if f is not None] or [f for f in vars(cls).values() if inspect.isroutine(f)]
        return any(self.ran(getattr(f, "__func__", f)) for f in methods)

    def common(self, one: str, other: str) -> dict[str, Any]:
        """The author's functions that both phases called with the same arguments, and what they returned."""
        mine, theirs = self.calls.get(one, {}), self.calls.get(other, {})
        return {code.co_name: mine[code, key] for code, key in mine.keys() & theirs.keys()}


def _restore(profiler: Any) -> None:
    """Put a profiler back; those written in C, such as cProfile's, are switched on again by themselves."""
    if profiler is None or callable(profiler):
        sys.setprofile(profiler)
    else:
        sys.setprofile(None)
        profiler.enable()


def _layers(item: Any) -> list[Callable[..., Any]]:
    """A function and what its decorators wrap."""
    found = [getattr(item, "__func__", item)]
    while hasattr(found[-1], "__wrapped__"):
        found.append(found[-1].__wrapped__)
    return found


def _is_own(code: CodeType) -> bool:
    name = code.co_filename
    if name.startswith("<") and not name.startswith("<ipython"):
        return False
    return not name.startswith(_HERE) and not name.startswith(_LIBRARIES) and "site-packages" not in name


def _key(value: Any) -> Any:
    """Something hashable that is equal for equal arguments; objects of unknown kinds are equal to themselves only."""
    if isinstance(value, int | float | complex | str | mp.mpf | mp.mpc | sp.Basic):
        return value
    if isinstance(value, mp.matrix):
        return value.rows, value.cols, tuple(value)
    if isinstance(value, sp.MatrixBase):
        return sp.ImmutableMatrix(value)
    if isinstance(value, list | tuple):
        return tuple(_key(v) for v in value)
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    if hasattr(value, "tobytes"):
        return value.shape, value.tobytes()
    return id(value)
