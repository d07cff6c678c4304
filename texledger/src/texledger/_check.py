"""``texledger check FILE...``: the gate for notebooks in text or JSON, without Sphinx, jupytext or a kernel."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from texledger._entry import Entry, LedgerError, counted
from texledger._gate import Fault, Made, Statement, faults, one_line
from texledger._needs import analyse, chosen
from texledger._pages import read_page

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass
class Result:
    """What running one page gave."""

    entries: list[Made] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    excused: set[str] = field(default_factory=set)  # labels whose statement failed, which is said already
    seconds: float = 0.0


@dataclass
class Verdict:
    """What a check of pages gave."""

    faults: list[Fault]
    entries: list[Made]
    statements: list[Statement]  # the marks in running text
    displayed: set[str]  # labels of displayed equations

    def __str__(self) -> str:
        """What was checked, in a line; entries that no page displays are those of statements in text."""
        shown = [m.entry for m in self.entries if m.entry.label in self.displayed or m.entry.tex is None]
        checked = [entry for entry in shown if entry.kind != "definition"]
        strengths = [sum(e.strength == s for e in checked) for s in ("both sides", "one side", "quoted")]
        killed, total = sum(m.entry.killed for m in self.entries), sum(len(m.entry.mutants) for m in self.entries)
        text = (
            f"{counted(len(checked), 'equation')} checked ({strengths[0]} both sides, {strengths[1]} one side, "
            f"{strengths[2]} quoted), {counted(len(shown) - len(checked), 'definition')}"
        )
        if self.statements:
            own = len(self.entries) - len(shown)
            text += f"; {counted(len(self.statements), 'statement')} in text, {own} with an entry of their own"
        return f"{text}; {killed} of {total} damaged formulas rejected"


class Progress:
    """One line that is written over, on a terminal; a line for each page elsewhere."""

    def __init__(self, stream: TextIO, pages: int) -> None:
        self.stream, self.pages, self.done, self.checks = stream, pages, 0, 0
        self.terminal = stream.isatty()

    def entry(self, label: str) -> None:
        """Another entry was made."""
        self.checks += 1
        if self.terminal:
            self.stream.write(f"\r\033[K{self.done} of {self.pages} pages, {self.checks} checks: {label}"[:110])
            self.stream.flush()

    def page(self, path: Path, result: Result) -> None:
        """A page is done."""
        self.done += 1
        if self.terminal:
            self.stream.write("\r\033[K")
        count, bad = len(result.entries), len(result.faults)
        self.stream.write(f"[{self.done}/{self.pages}] {path}: {count} checks, {bad} faults, {result.seconds:.1f} s\n")
        self.stream.flush()


def check(
    files: Sequence[Path],
    labels: Sequence[str] = (),
    matching: str | None = None,
    jobs: int = 0,
    everything: bool = False,
    unlabelled: bool = True,
    stream: TextIO | None = None,
) -> Verdict:
    """Run the entries of ``files`` and hold all their equations against them.

    Args:
        files: pages: ``.md`` (MyST), ``.qmd`` or ``.ipynb``.
        labels: check only these.
        matching: check only labels that contain this.
        jobs: how many pages to run at once; 0 for as many as there are cores.
        everything: run every statement, not only what the entries need.
        unlabelled: a display equation without a label is a fault.
        stream: where progress is written, if anywhere.

    Returns:
        The faults, in the order of the pages, the entries, and the marks in running text.

    Raises:
        LedgerError: a file cannot be read, or a label stands on no page.
    """
    pages = [read_page(path) for path in files]
    equations = [e for page in pages for e in page.equations]
    statements = [s for page in pages for s in page.statements]
    programs = {page.path: analyse(page.cells) for page in pages}
    known = {e.label for e in equations if e.label}
    known |= {label for program in programs.values() for s in program.statements for label in s.labels}
    if missing := [label for label in labels if label not in known]:
        near = sorted({n for label in missing for n in difflib.get_close_matches(label, sorted(known), 3, 0.5)})
        hint = f" Is it {', '.join(near)}?" if near else ""
        raise LedgerError(f"no page has {', '.join(missing)}.{hint}")
    wanted = set(labels) | {label for label in known if matching is not None and matching in label}
    if matching is not None and not wanted:
        raise LedgerError(f"no label contains {matching!r}; the pages have {len(known)} labels.")
    run = [page for page in pages if page.cells and (not wanted or chosen(programs[page.path], wanted))]
    progress = Progress(stream, len(run)) if stream else None
    jobs = min(jobs or os.cpu_count() or 1, max(1, len(run)))
    longest_first = sorted(run, key=lambda page: -sum(len(cell.source) for cell in page.cells))
    one = lambda page: _run_apart(page.path, sorted(wanted), everything, jobs, progress)
    with ThreadPoolExecutor(jobs) as pool:
        results = dict(zip([page.path for page in longest_first], pool.map(one, longest_first), strict=True))
    found, made, excused = [], [], set()
    for page in run:
        result = results[page.path]
        found += result.faults
        made += result.entries
        excused |= result.excused
    if wanted:
        equations = [e for e in equations if e.label in wanted]
        made = [m for m in made if m.entry.label in wanted]
        statements = [s for s in statements if s.label in wanted]
    order = {str(page.path): i for i, page in enumerate(pages)}
    found += faults(equations, made, unlabelled, excused, statements)
    displayed = {e.label for e in equations if e.label}
    return Verdict(sorted(found, key=lambda f: _position(f, order)), made, statements, displayed)


def _position(fault: Fault, order: dict[str, int]) -> tuple[int, int, int]:
    name, _, line = fault.place.rpartition(":")
    page, _, cell = name.partition("[")
    number = lambda text: int(text) if text.isdigit() else 0
    return order.get(page, len(order)), number(cell.rstrip("]")), number(line)


def _run_apart(path: Path, labels: list[str], everything: bool, jobs: int, progress: Progress | None) -> Result:
    """Run a page in a process of its own, so that pages do not see each other's names and settings."""
    request = json.dumps({"file": str(path.resolve()), "labels": labels, "all": everything})
    environment = {"MPLBACKEND": "Agg", **os.environ}
    if jobs > 1:
        environment = dict.fromkeys(THREADS, "1") | environment
    # The page runs in its own folder, from which a relative path would lead elsewhere.
    environment["PYTHONPATH"] = os.pathsep.join(str(Path(entry or ".").resolve()) for entry in sys.path)
    result, said = Result(), ""
    process = subprocess.Popen(
        [sys.executable, "-m", "texledger._run", request], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL, env=environment, text=True, encoding="utf-8", errors="replace",
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    with ThreadPoolExecutor(1) as reader, process:
        errors = reader.submit(process.stderr.read)  # read at once: a full pipe would stop the page
        finished = False
        for line in process.stdout:
            data = json.loads(line)
            result.seconds = data["seconds"]
            finished = data["what"] == "done"
            _take(data, path, result, progress)
        said = errors.result()
    if not finished:
        last = next((text for text in reversed(said.splitlines()) if text.strip()), f"status {process.returncode}")
        result.faults.append(Fault(f"{path}:1", None, f"the page's process ended before its checks did: {last}"))
    if progress:
        progress.page(path, result)
    return result


def _take(data: dict[str, Any], path: Path, result: Result, progress: Progress | None) -> None:
    """Add a report of a page's process to its result; places are named as the user named the page."""
    name = str(data.get("file", "")).replace(str(path.resolve()), str(path))
    if data["what"] == "entry":
        entry = Entry.from_json(data["entry"])
        result.entries.append(Made(entry, name, data["line"]))
        if progress:
            progress.entry(entry.label)
    elif data["what"] == "fault":
        labels = data["labels"]
        says = data["says"]
        if labels and not any(label in says for label in labels):
            says = f"{', '.join(labels)}: {says}"
        result.faults.append(Fault(f"{name}:{data['line']}", labels[0] if labels else None, says))
        result.excused |= set(labels)


def _damage(files: Sequence[Path], each: int, seed: int) -> int:
    from texledger._damage import damage_pages, summary

    found = []
    try:
        for path, damage in damage_pages(files, each, seed):
            found.append(damage)
            if damage.fate == "accepted":
                print(f"{path}: {damage.label} ({damage.strength}): {damage.kind}: {one_line(damage.damaged)}")
    except LedgerError as error:
        print(f"texledger: {error}", file=sys.stderr)
        return 2
    print(summary(found))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns 0 if every equation has a good entry, 1 for faults, 2 for a misuse."""
    parser = argparse.ArgumentParser(prog="texledger", description="Check the equations of books that run.")
    commands = parser.add_subparsers(dest="command", required=True)
    sub = commands.add_parser(
        "check",
        help="run the entries of pages, without their experiments, and hold the equations against them",
        description="Run the entries of pages, without their experiments, and hold the display equations against them. "
        "All files together are one book. One line for each fault; status 1 if there is any.",
    )
    sub.add_argument("files", nargs="+", type=Path, metavar="FILE", help="MyST Markdown, Quarto (.qmd) or .ipynb")
    sub.add_argument("--label", nargs="+", default=[], metavar="LABEL", help="check these labels only")
    sub.add_argument("-k", metavar="TEXT", dest="matching", help="check only labels that contain TEXT")
    sub.add_argument(
        "--jobs", "-j", type=int, default=0, metavar="N", help="pages at once (default: one for each core)"
    )
    sub.add_argument("--all", action="store_true", help="run every statement, not only what the entries need")
    sub.add_argument("--allow-unlabelled", action="store_true", help="display equations without a label are no fault")
    sub.add_argument("--quiet", "-q", action="store_true", help="no progress")
    other = commands.add_parser(
        "damage",
        help="misprint the equations in ways that no check tries by itself, and list what is accepted",
        description="Run the checks with misprinted equations, page and quote alike, and list those that are accepted. "
        "A person judges them: some are the same statement in other words.",
    )
    other.add_argument("files", nargs="+", type=Path, metavar="FILE")
    other.add_argument("--each", type=int, default=1, metavar="N", help="misprints of each equation (default: 1)")
    other.add_argument("--seed", type=int, default=0, metavar="N", help="which ones (default: 0)")
    given = parser.parse_args(arguments)
    if given.command == "damage":
        return _damage(given.files, given.each, given.seed)
    if given.jobs < 0:
        parser.error(f"--jobs {given.jobs}: a number of pages, or 0 for one for each core")
    began = time.monotonic()
    try:
        verdict = check(
            given.files, given.label, given.matching, given.jobs, given.all, not given.allow_unlabelled,
            None if given.quiet else sys.stderr,
        )  # fmt: skip
    except LedgerError as error:
        print(f"texledger: {error}", file=sys.stderr)
        return 2
    for fault in verdict.faults:
        print(one_line(str(fault)))
    count = len(verdict.faults)
    print(f"{verdict}; {count} fault{'s' * (count != 1)}; {time.monotonic() - began:.1f} s")
    return 1 if count else 0
