"""Kernels are tested on the GPU, or without one under Triton's interpreter in a process of its own.

Triton decides when a kernel is decorated, that is when its module is imported, whether it is compiled or interpreted.
So the chosen tests marked `kernel` of a file run together in one child, a pytest with TRITON_INTERPRET=1, and each
reports here what became of it there. To debug one: `TRITON_INTERPRET=1 pytest --pdb tests/kernels -k NAME`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from _kernels import DEVICE, INTERPRETED
from packaging.version import Version

REMEDY = "Triton is missing: pip install triton, which exists for Linux"
OLD = "the interpreter of a Triton below 3.7 needs a NumPy below 2.4: pip install 'numpy<2.4'"
COMPILER = "Triton interprets here: unset TRITON_INTERPRET"
REPORT = "GANTEXT_KERNEL_REPORT"  # where a child writes what became of its tests
SECONDS = 900  # after which a child hangs
CRASHES = 3  # after which no further child is started

_children: pytest.StashKey[dict[str, dict[str, str]]] = pytest.StashKey()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    marks = {mark.name for mark in item.iter_markers()} & {"kernel", "compiler"}
    if marks and importlib.util.find_spec("triton") is None:
        if os.environ.get("CI", "").lower() in ("1", "true") and sys.platform == "linux":
            pytest.fail(f"no kernel tests under CI; {REMEDY}", pytrace=False)
        pytest.skip(REMEDY)
    if "kernel" in marks and DEVICE != "cuda" and _unreadable():
        pytest.skip(OLD)
    if "compiler" in marks and INTERPRETED:
        pytest.skip(COMPILER)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if pyfuncitem.get_closest_marker("kernel") is None or INTERPRETED or DEVICE == "cuda":
        return None
    config, file = pyfuncitem.config, pyfuncitem.nodeid.partition("::")[0]
    known = config.stash.setdefault(_children, {})
    if pyfuncitem.nodeid not in known:  # one file at a time: under xdist each worker runs files of its own
        chosen = [item.nodeid for item in pyfuncitem.session.items if item.get_closest_marker("kernel")]
        known |= _interpret(config, [name for name in chosen if name.partition("::")[0] == file])
    found = known[pyfuncitem.nodeid]
    if found["outcome"] == "skipped":
        pytest.skip(found["text"])
    if found["outcome"] != "passed":
        pytest.fail(f"under Triton's interpreter:\n{found['text']}", pytrace=False)
    return True


def _unreadable() -> bool:
    """Triton's interpreter made scalars of arrays with a dimension until 3.7; NumPy has refused that since 2.4."""
    return Version(version("triton")) < Version("3.7") and Version(version("numpy")) >= Version("2.4")


def _interpret(config: pytest.Config, chosen: list[str]) -> dict[str, dict[str, str]]:
    """Run these tests in a child. An access out of bounds may crash it: then the next child goes on after that test."""
    found: dict[str, dict[str, str]] = {}
    left = chosen
    for _ in range(CRASHES):
        if left:
            ended, log = _child(config, left)
            found |= ended
            left = [name for name in left if name not in ended]
            if left:
                found[left[0]] = {"outcome": "failed", "text": f"the child did not finish this test\n{log[-8000:]}"}
                left = left[1:]
    return found | {name: {"outcome": "failed", "text": f"not run, after {CRASHES} crashes"} for name in left}


def _child(config: pytest.Config, tests: list[str]) -> tuple[dict[str, dict[str, str]], str]:
    """What became of the tests that have ended, and the child's output."""
    with tempfile.TemporaryDirectory() as folder:
        report, log = Path(folder, "report"), Path(folder, "log")
        report.touch()
        command = [sys.executable, "-m", "pytest", "-c", str(config.inipath), "--rootdir", str(config.rootpath)]
        command += ["-o", "addopts=--strict-markers", "-p", "no:cacheprovider", *tests]
        environment = {**os.environ, "TRITON_INTERPRET": "1", REPORT: str(report)}
        with log.open("w") as out, contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(
                command, cwd=config.rootpath, env=environment, stdout=out, stderr=subprocess.STDOUT, timeout=SECONDS
            )
        phases: dict[str, list[dict[str, str]]] = {}
        for line in report.read_text(encoding="utf-8").splitlines():
            entry: dict[str, str] = json.loads(line)
            phases.setdefault(entry["test"], []).append(entry)
        ended = {test: entries for test, entries in phases.items() if entries[-1]["phase"] == "teardown"}
        worst = lambda entries: next((e for e in entries if e["outcome"] != "passed"), entries[-1])
        return {test: worst(entries) for test, entries in ended.items()}, log.read_text(errors="replace")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if file := os.environ.get(REPORT):
        reason: Any = report.longrepr
        text = reason[2] if isinstance(reason, tuple) else report.longreprtext + "\n" + report.capstdout
        entry = {"test": report.nodeid, "phase": report.when, "outcome": report.outcome, "text": text}
        with Path(file).open("a", encoding="utf-8") as out:
            out.write(json.dumps(entry) + "\n")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = [report for report in terminalreporter.getreports("skipped") if REMEDY in str(report.longrepr)]
    if skipped:
        terminalreporter.write_line(f"not run: {len(skipped)} kernel tests ({REMEDY})", yellow=True)
