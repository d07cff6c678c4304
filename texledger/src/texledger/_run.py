"""Run the entries of one page in this process, and report them line by line; started by :mod:`texledger._check`."""

from __future__ import annotations

import ast
import json
import linecache
import os
import sys
import time
import types
import warnings
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from texledger._gate import one_line
from texledger._home import running
from texledger._ledger import Ledger
from texledger._needs import Program, analyse, chosen, needed
from texledger._pages import Page, read_page

Report = Callable[[dict[str, Any]], None]


def run(page: Page, labels: Collection[str], everything: bool, report: Report) -> None:
    """Run what the page's ledger cells need and the ledger cells, and report entries, faults and progress.

    Args:
        page: its code cells.
        labels: only these entries; all if empty.
        everything: run every statement of the page.
        report: gets mappings with the key ``"what"``: "start", "entry", "fault" or "done".
    """
    running(page.path)
    program = analyse(page.cells)
    for cell, error in program.unreadable:
        line = cell.line + (error.lineno or 1) - 1
        report({"what": "fault", "file": cell.file, "line": line, "labels": [], "says": f"no Python: {error.msg}"})
    targets = chosen(program, labels)
    todo = list(range(len(program.statements))) if everything else needed(program, targets)
    report({"what": "start", "checks": len(targets), "statements": len(todo), "of": len(program.statements)})
    if targets:
        _execute(program, targets, todo, page, labels, report)
    report({"what": "done"})


def _execute(
    program: Program, targets: list[int], todo: list[int], page: Page, labels: Collection[str], report: Report
) -> None:
    module = types.ModuleType("__main__")
    names = module.__dict__
    names |= {"display": lambda *_, **__: None, "__builtins__": __builtins__}
    sys.modules["__main__"] = module  # functions of a notebook are found there, as in a kernel
    for cell in page.cells:  # so that a function's source can be shown; a Markdown page has it on its own lines
        if page.path.suffix == ".ipynb":
            linecache.cache[cell.file] = (len(cell.source), None, cell.source.splitlines(keepends=True), cell.file)
    wanted, reported = set(targets), set()
    broken: dict[str, str] = {}
    for place in todo:
        s = program.statements[place]
        try:
            code = compile(ast.Module([s.node], []), str(Path(s.cell.file).resolve()), "exec")
            exec(code, names)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            says = one_line(str(error)) or "no message"
            kind = type(error).__name__
            if place not in wanted:
                broken |= dict.fromkeys(s.binds, f"{s.cell.file}:{s.line}: {kind}: {says}")
            cause = ""
            if isinstance(error, NameError) and error.name in broken:
                cause = f" ({broken[error.name]})"
            head = "" if kind in {"LedgerError", "CheckFailed", "Unreadable"} else f"{kind}: "
            found = {"file": s.cell.file, "line": s.line, "labels": list(s.labels), "says": f"{head}{says}{cause}"}
            report({"what": "fault", **found, "target": place in wanted})
        for ledger in [v for v in names.values() if isinstance(v, Ledger)]:
            for label, entry in list(ledger.entries.items()):
                if label not in reported and (not labels or label in labels):
                    reported.add(label)
                    report({"what": "entry", "file": s.cell.file, "line": s.line, "entry": entry.as_json()})


def main(arguments: list[str]) -> None:
    """``python -m texledger._run '{"file": ..., "labels": [...], "all": false}'``: reports are lines of JSON."""
    request = json.loads(arguments[0])
    path = Path(request["file"])
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)  # what the notebook prints is not ours
    began = time.monotonic()

    def report(data: dict[str, Any]) -> None:
        channel.write(json.dumps(data | {"seconds": round(time.monotonic() - began, 2)}) + "\n")
        channel.flush()

    page = read_page(path)
    os.chdir(path.parent)  # where a kernel starts
    sys.path.insert(0, "")
    sys.argv = [""]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run(page, set(request["labels"]), request["all"], report)


if __name__ == "__main__":
    main(sys.argv[1:])
