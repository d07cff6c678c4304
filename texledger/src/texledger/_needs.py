"""Which statements of a notebook the ledger's cells need: a static analysis of names, statement by statement.

A name that a statement reads leads to the statement that bound it last, and to those between that change its object (an
assignment to a part of it, a method called on it, an augmented assignment). Names inside functions are looked up where
the function is used, as Python does. Plots, printing and training whose results no check reads are left out.
"""

from __future__ import annotations

import ast
import builtins
import re
import symtable
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from texledger._pages import Cell

KINDS = {"symbolic", "exact", "numeric", "gradient", "statistical", "implementation", "definition", "refutation"}
PROCESS = {"sys", "os", "warnings"}  # modules whose settings count for all that runs later
SETUP = "ledger-setup"  # a cell with this tag is run as a whole
BUILTIN = set(dir(builtins))


@dataclass
class Statement:
    """A top-level statement of a notebook and what it does to names."""

    node: ast.stmt
    cell: Cell
    binds: frozenset[str]
    reads: frozenset[str]  # at once, or when a function that it defines is called
    deferred: frozenset[str]  # of these, the ones inside functions
    changes: frozenset[str]  # names whose objects it changes
    sure: bool  # it binds its names whatever happens
    imports: frozenset[str] = frozenset()
    labels: tuple[str, ...] = ()
    makes_entries: bool = False

    @property
    def line(self) -> int:
        return self.node.lineno


@dataclass
class Program:
    """The statements of a page in order, and the cells that are no Python."""

    statements: list[Statement] = field(default_factory=list)
    unreadable: list[tuple[Cell, SyntaxError]] = field(default_factory=list)

    def ledger(self) -> list[int]:
        """Places of the statements that make entries."""
        return [i for i, s in enumerate(self.statements) if s.makes_entries]


def analyse(cells: Iterable[Cell]) -> Program:
    """Split code cells into statements; find which make entries."""
    program = Program()
    for cell in cells:
        try:
            tree = ast.parse(plain_python(cell.source))
        except SyntaxError as error:
            program.unreadable.append((cell, error))
            continue
        for node in tree.body:
            ast.increment_lineno(node, cell.line - 1)
            program.statements.append(_statement(node, cell))
    _mark(program.statements)
    return program


def plain_python(source: str) -> str:
    """A cell without IPython's magics and shell lines; other lines keep their numbers.

    >>> plain_python("%matplotlib inline\\nx = 1")
    'pass\\nx = 1'
    """
    if source.lstrip().startswith("%%"):
        return ""
    replaced = lambda m: f"{m[1]}pass"
    return re.sub(r"^([ \t]*)(?:%(?=[A-Za-z])|!|\?).*$", replaced, source, flags=re.MULTILINE)


def chosen(program: Program, labels: Collection[str]) -> list[int]:
    """Places of the statements that make the entries of ``labels``."""
    places = program.ledger()
    if not labels:
        return places
    found: set[int] = set()
    for label in labels:
        named = [i for i in places if label in _strings(program.statements[i].node)]
        found.update(named or [i for i in places if not program.statements[i].labels])  # labels made by a loop
    return sorted(found)


def _strings(node: ast.AST) -> set[str]:
    return {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)}


def needed(program: Program, targets: Sequence[int]) -> list[int]:
    """Places of all statements that must run so that those at ``targets`` can, in order."""
    statements = program.statements
    chosen: set[int] = set()
    seen: set[tuple[int, int]] = set()
    todo = [(i, i) for i in targets]
    todo += [(i, i) for i, s in enumerate(statements) if SETUP in s.cell.tags or (s.changes & PROCESS)]
    while todo:
        item = todo.pop()
        if item in seen:
            continue
        seen.add(item)
        at, used = item
        chosen.add(at)
        s = statements[at]
        for name in s.reads:
            places = _definitions(statements, name, at)
            if name in s.deferred:
                places = {*places, *_definitions(statements, name, used)}
            for place in places:
                if place != at:
                    todo += [(place, max(at, place)), (place, max(used, place))]
    return sorted(chosen)


def _definitions(statements: list[Statement], name: str, before: int) -> set[int]:
    """The last statement before ``before`` that surely binds ``name``; later ones that may bind or change it."""
    found: set[int] = set()
    for i in range(before - 1, -1, -1):
        s = statements[i]
        if name in s.binds:
            found.add(i)
            if s.sure and name not in s.changes:
                break
        elif name in s.changes and not s.makes_entries:
            found.add(i)
    return found


def _statement(node: ast.stmt, cell: Cell) -> Statement:
    binds, reads, deferred = _names(node)
    changes = set(_changed(node))
    imports = frozenset(binds) if isinstance(node, ast.Import | ast.ImportFrom) else frozenset()
    if isinstance(node, ast.AugAssign):
        reads |= binds
        changes |= binds
    sure = isinstance(
        node,
        ast.Import | ast.ImportFrom | ast.Assign | ast.AnnAssign | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        | ast.With,
    )  # fmt: skip
    return Statement(
        node, cell, frozenset(binds), frozenset(reads), frozenset(deferred), frozenset(changes), sure, imports
    )


def _names(node: ast.stmt) -> tuple[set[str], set[str], set[str]]:
    """Names that a statement binds, reads, and reads inside functions, by Python's own rules of scope."""
    top = symtable.symtable(ast.unparse(_Apart().visit(ast.parse(ast.unparse(node)))), "cell", "exec")
    binds = {s.get_name() for s in top.get_symbols() if s.is_assigned() or s.is_imported()}
    reads = {s.get_name() for s in top.get_symbols() if s.is_referenced()}
    deferred: set[str] = set()
    stack = list(top.get_children())
    while stack:
        table = stack.pop()
        for s in table.get_symbols():
            if s.is_global() and s.is_referenced():
                deferred.add(s.get_name())
            if s.is_declared_global() and s.is_assigned():
                deferred.add(s.get_name())
        stack += table.get_children()
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        binds.add(node.name)
    return binds, reads | deferred, deferred


class _Apart(ast.NodeTransformer):
    """Comprehensions as generators: from Python 3.12 on, symtable mixes a comprehension's names with those outside."""

    def visit_ListComp(self, node: ast.ListComp | ast.SetComp) -> ast.AST:
        self.generic_visit(node)
        return ast.GeneratorExp(node.elt, node.generators)

    def visit_SetComp(self, node: ast.SetComp) -> ast.AST:
        return self.visit_ListComp(node)

    def visit_DictComp(self, node: ast.DictComp) -> ast.AST:
        self.generic_visit(node)
        return ast.GeneratorExp(ast.Tuple([node.key, node.value], ast.Load()), node.generators)


def _root(node: ast.expr) -> str | None:
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None


def _changed(node: ast.stmt) -> Iterator[str]:
    """Names whose objects a statement changes in place."""
    for inner in _outside_functions(node):
        targets: list[ast.expr] = []
        if isinstance(inner, ast.Assign | ast.Delete):
            targets = list(inner.targets)
        elif isinstance(inner, ast.AugAssign | ast.AnnAssign):
            targets = [inner.target]
            if isinstance(inner, ast.AugAssign) and isinstance(inner.target, ast.Name):
                yield inner.target.id
        elif isinstance(inner, ast.For):
            targets = [inner.target]
        elif isinstance(inner, ast.Expr) and isinstance(inner.value, ast.Call):
            call = inner.value
            if isinstance(call.func, ast.Attribute) and (name := _root(call.func)):
                yield name
        for target in targets:
            for part in ast.walk(target):
                if isinstance(part, ast.Attribute | ast.Subscript) and (name := _root(part)):
                    yield name


def _outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    """A statement and what is in it, functions left out: they change nothing until they are called."""
    yield node
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        return
    for child in ast.iter_child_nodes(node):
        yield from _outside_functions(child)


def _mark(statements: list[Statement]) -> None:
    """Find the statements that make entries, and take out what only seems to change a module.

    ``plt.show()`` changes nothing that a check reads, ``torch.manual_seed(0)`` and ``mp.mp.dps = 30`` do: a call on a
    module counts if its arguments are constants or names of modules.
    """
    modules = {name for s in statements for name in s.imports}
    ledgers = {
        name
        for s in statements
        if isinstance(s.node, ast.Assign | ast.AnnAssign) and _is_call_of(s.node.value, "Ledger")
        for name in s.binds
    }
    helpers: dict[str, bool] = {}
    for s in statements:
        if isinstance(s.node, ast.FunctionDef) and any(_makes(n, ledgers, helpers) for n in ast.walk(s.node)):
            helpers[s.node.name] = True
    for s in statements:
        node = s.node
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            root = _root(node.value)
            if root in modules:
                simple = {n.id for a in _arguments(node.value) for n in ast.walk(a) if isinstance(n, ast.Name)}
                if not simple <= modules | BUILTIN:
                    s.changes = s.changes - {root}
        elif not isinstance(node, ast.Assign | ast.AugAssign | ast.Delete):
            s.changes = s.changes - modules
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        s.makes_entries = any(_makes(n, ledgers, helpers) for n in _outside_functions(node))
        if s.makes_entries:
            first = [
                _arguments(n)[:1] for n in ast.walk(node) if isinstance(n, ast.Call) and _makes(n, ledgers, helpers)
            ]
            s.labels = tuple(
                a[0].value for a in first if a and isinstance(a[0], ast.Constant) and isinstance(a[0].value, str)
            )


def _arguments(call: ast.Call) -> list[ast.expr]:
    named = sorted(call.keywords, key=lambda k: k.arg != "label")
    return [*call.args, *(k.value for k in named)]


def _is_call_of(node: ast.expr | None, name: str) -> bool:
    if not isinstance(node, ast.Call):
        return False
    return getattr(node.func, "id", getattr(node.func, "attr", None)) == name


def _makes(node: ast.AST, ledgers: set[str], helpers: dict[str, bool]) -> bool:
    """True for the call of a ledger's check, or of a function that makes one."""
    if not isinstance(node, ast.Call):
        return False
    if isinstance(node.func, ast.Attribute):
        return node.func.attr in KINDS and isinstance(node.func.value, ast.Name) and node.func.value.id in ledgers
    return isinstance(node.func, ast.Name) and node.func.id in helpers
