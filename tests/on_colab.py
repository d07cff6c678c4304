"""Every code cell of every notebook under Colab's versions, nothing else installed: `make colab`, half an hour or more.

`data/colab-versions.txt` has, in Colab's versions, what the notebooks import and what that needs. An environment of its
own, in `_build/.colab`, gets these and no others; notebooks lie in an empty folder beside the wheels that the site
carries, and an interpreter with IPython and a module `google.colab` runs their cells one by one, the set-up cell first,
which adds what Colab lacks. What came out is written to `benchmarks/results/colab.json`, after each notebook.

    python tests/on_colab.py                      # all
    python tests/on_colab.py jose det-exp         # these
    python tests/on_colab.py --python python3.12  # another Python than Colab's
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "book" / "_ext"), str(ROOT / "benchmarks")]
import _common  # noqa: E402  # found by the path above
from gantext_book.source import chapters  # noqa: E402  # found by the path above
from gantext_book.wheels import build_wheels  # noqa: E402  # found by the path above

BUILT = ROOT / "_build" / ".colab"  # hidden: Jupyter Book looks through all other folders when it begins
VERSIONS = Path(__file__).with_name("data") / "colab-versions.txt"
RUN = """
import importlib.machinery, json, sys, time, types, nbformat
from IPython.core.interactiveshell import InteractiveShell

for name in ("google", "google.colab"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__spec__ = importlib.machinery.ModuleSpec(name, None)
notebook, report = sys.argv[1:]
shell = InteractiveShell.instance()
cells = [cell for cell in nbformat.read(notebook, as_version=4).cells if cell.cell_type == "code"]
found = {"cells": len(cells), "run": 0, "failed": None}
for cell in cells:
    made = shell.run_cell(cell.source, store_history=True)
    if not made.success:
        error = made.error_in_exec or made.error_before_exec
        found["failed"] = {"cell": cell.id, "source": cell.source[:400], "error": f"{type(error).__name__}: {error}"}
        break
    found["run"] += 1
import IPython, numpy, torch
found["versions"] = {"python": sys.version.split()[0], "torch": torch.__version__, "numpy": numpy.__version__,
                     "ipython": IPython.__version__}
json.dump(found, open(report, "w"))
"""


def environment(python: str) -> Path:
    """The interpreter that has Colab's versions; made once, and again when their list has changed."""
    here, stamp = BUILT / "python", BUILT / "installed.txt"
    wanted = f"{python}\n{VERSIONS.read_text(encoding='utf-8')}"
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        subprocess.run([python, "-m", "venv", "--clear", here], check=True)
        subprocess.run([here / "bin" / "python", "-m", "pip", "install", "--quiet", "-r", VERSIONS], check=True)
        stamp.write_text(wanted, encoding="utf-8")
    return here / "bin" / "python"


def run(python: Path, notebook: Path) -> dict[str, Any]:
    """What became of a notebook's cells in a folder that has it and the wheels, and nothing else."""
    folder = BUILT / "drive" / notebook.stem
    folder.mkdir(parents=True, exist_ok=True)
    copy, report, script = folder / notebook.name, folder / "report.json", BUILT / "run.py"
    copy.write_bytes(notebook.read_bytes())
    script.write_text(RUN, encoding="utf-8")
    report.unlink(missing_ok=True)
    build_wheels(folder / "wheels", ROOT)
    remove = [python, "-m", "pip", "uninstall", "--quiet", "--yes", "gantext", "texledger"]
    subprocess.run(remove, check=True, stderr=subprocess.DEVNULL)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    kept |= {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    begin = time.monotonic()
    with (folder / "output.txt").open("w", encoding="utf-8") as output:
        subprocess.run([python, script, copy, report], cwd=folder, env=kept, stdout=output, stderr=subprocess.STDOUT)
    if not report.exists():
        last = (folder / "output.txt").read_text(encoding="utf-8", errors="replace")[-300:]
        return {"failed": {"error": f"the interpreter ended: {last}"}, "cells": 0, "run": 0, "versions": {}}
    return json.loads(report.read_text(encoding="utf-8")) | {"seconds": round(time.monotonic() - begin)}


def write(found: dict[str, dict[str, Any]]) -> None:
    """The record, with Colab's versions in place of ours."""
    versions = {name: value for one in found.values() for name, value in one["versions"].items()}
    ran, cells = (sum(one[key] for one in found.values()) for key in ("run", "cells"))
    failed = ", ".join(name for name, one in found.items() if one["failed"]) or "none"
    rows = [[str(len(found)), f"{ran} of {cells}", failed]]
    title, head = 'SCALE = "reduced"', ["notebooks", "cells that ran", "notebooks that stopped"]
    _common.write_json("colab", {
        "schema": 1, "title": "Every notebook under Colab's versions", "chapter": "gan-comparison",
        "command": "python tests/on_colab.py", **_common.environment(), "versions": versions, "rows": [],
        "tables": [{"title": title, "head": head, "rows": rows}],
        "notebooks": found,
    })  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*")
    parser.add_argument("--python", default="python3.13", help="of Colab's minor version")
    options = parser.parse_args()
    every = {path.stem: path.with_suffix(".ipynb") for path in chapters(ROOT)}
    if unknown := set(options.notebooks) - set(every):
        parser.error(f"no notebook {', '.join(sorted(unknown))}: {', '.join(every)}")
    python, record = environment(options.python), _common.RESULTS / "colab.json"
    found = json.loads(record.read_text(encoding="utf-8"))["notebooks"] if options.notebooks and record.exists() else {}
    for name in options.notebooks or every:
        found[name] = run(python, every[name])
        print(f"{name}: {found[name]['failed'] or 'every cell ran'}", flush=True)
        write({name: found[name] for name in every if name in found})
    sys.exit(any(one["failed"] for one in found.values()))


if __name__ == "__main__":
    main()
