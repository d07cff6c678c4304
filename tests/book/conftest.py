"""The built site and a browser to read it with."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pytest
from filelock import FileLock
from gantext_book.source import ROOT

# A book in miniature, copied and built by the tests; its stand-in for `gantext` must never be imported from there.
collect_ignore = ["sample"]

REMEDY = "install Chromium: apt-get install chromium"
ARGUMENTS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
)


@pytest.fixture(scope="session")
def site() -> Path:
    """The folder of the built HTML; it is built here, unless GANTEXT_SITE names one."""
    if given := os.environ.get("GANTEXT_SITE"):
        return Path(given).resolve()
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    command = re.search(r"^\t\$\(BIN\)/(jupyter-book build .*)$", makefile, re.MULTILINE)
    assert command, "the makefile has no line `$(BIN)/jupyter-book build ...`"
    program, *rest = shlex.split(command[1])
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "book" / "_ext")}
    build = [str(Path(sys.executable).with_name(program)), *rest]
    lock = FileLock(ROOT / "_build" / ".lock", mode=0o644)  # workers of one run share the folder, and the build
    (ROOT / "_build").mkdir(exist_ok=True)
    # One build for all workers of a run: a second one puts files in place anew, under the pages that others look at.
    run, built = os.environ.get("PYTEST_XDIST_TESTRUNUID", ""), ROOT / "_build" / ".built-by"
    with (
        lock,
        TemporaryFile("w+", encoding="utf-8") as log,
    ):  # a pipe would stay open as long as any child of the build lives
        if run and built.exists() and built.read_text(encoding="utf-8") == run:
            return ROOT / "_build" / "html"
        status = subprocess.run(build, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT).returncode
        log.seek(0)
        if status:
            pytest.fail(f"the book does not build\n{log.read()}", pytrace=False)
        built.write_text(run, encoding="utf-8")
    return ROOT / "_build" / "html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The system's Chromium, driven by Playwright.

    It lives for a module, not for the session: Playwright keeps an event loop running, in which no notebook could be
    executed by the tests that come after.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sync_playwright = None
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if sync_playwright is None or program is None:
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(f"no browser tests under CI; {REMEDY}", pytrace=False)
        pytest.skip(REMEDY)
    root = hasattr(os, "geteuid") and os.geteuid() == 0  # Chromium has no sandbox for root
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=program, args=[*ARGUMENTS, *(["--no-sandbox"] if root else [])]
        )
        yield chromium
        chromium.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = [report for report in terminalreporter.getreports("skipped") if REMEDY in str(report.longrepr)]
    if skipped:
        terminalreporter.write_line(f"not run: {len(skipped)} browser tests ({REMEDY})", yellow=True)
