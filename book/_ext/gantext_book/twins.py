"""Writes the two other forms of each chapter, NAME.py and NAME.ipynb, and executes only what changed.

Run as `python -m gantext_book.twins [--check] [--force] [names...]`; `make notebooks` does.
"""

import argparse
import ast
import asyncio
import base64
import difflib
import hashlib
import json
import os
import platform
import signal
import sys
import tomllib
from collections.abc import Iterator, Sequence
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupytext.config import JupytextConfiguration
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from tqdm import tqdm

from texledger import equations, normal

from . import pictures, widgets
from .plain import Context, contexts, render
from .source import ROOT, Site, read_notebook

CELL_TIMEOUT = 1200  # seconds
PACKAGE = "gantext"
FOLDERS = {"gantext": "", "texledger": "texledger/src"}  # where the packages of this repository lie


def write(path: Path, text: str) -> bool:
    """Write a file whole or not at all; an equal one is left alone. Returns whether it was written."""
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return True


def code_cells(nb: NotebookNode) -> list[NotebookNode]:
    """The code cells that a chapter has; the figures of its notebook, which are cells of HTML, are not among them."""
    return [cell for cell in nb.cells if cell.cell_type == "code" and not widgets.is_widget(cell)]


def code_hash(nb: NotebookNode) -> str:
    """SHA-256 of what the code cells say."""
    return hashlib.sha256(json.dumps([cell.source for cell in code_cells(nb)]).encode()).hexdigest()


def equations_hash(path: Path) -> str:
    """SHA-256 of the display equations of a chapter, which its ledger cells judge without repeating them."""
    displayed = {label: normal(tex) for label, tex in equations(path).items()}
    return hashlib.sha256(json.dumps(displayed, sort_keys=True).encode()).hexdigest()


class _RunTime(ast.NodeTransformer):
    """Leaves out what is written for type checkers only."""

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return node.orelse
        return self.generic_visit(node)


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    """The dotted names that a module imports; `package` is what its relative imports start from."""
    for node in ast.walk(_RunTime().visit(tree)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            yield name
            yield from (f"{name}.{alias.name}" for alias in node.names)  # a name may be a submodule


def package_files(nb: NotebookNode, root: Path = ROOT) -> list[Path]:
    """The files of the package that the code cells import, directly or through others of its files."""
    transform = TransformerManager().transform_cell  # turns IPython's magics into Python
    todo = [name for cell in code_cells(nb) for name in _imports(ast.parse(transform(cell.source)), "")]
    found: set[Path] = set()
    while todo:
        parts = todo.pop().split(".")
        if parts[0] not in FOLDERS:
            continue
        for end in range(1, len(parts) + 1):  # importing a.b.c runs a, a.b and a.b.c
            folder = root.joinpath(FOLDERS[parts[0]], *parts[:end])
            for file, package in ((folder / "__init__.py", parts[:end]), (folder.with_suffix(".py"), parts[: end - 1])):
                if file.is_file() and file not in found:
                    found.add(file)
                    tree = ast.parse(file.read_text(encoding="utf-8"), filename=str(file))
                    todo += _imports(tree, ".".join(package))
    return sorted(found)


def package_hash(nb: NotebookNode, root: Path = ROOT) -> str:
    """SHA-256 of the package's files that the notebook uses."""
    digest = hashlib.sha256()
    for file in package_files(nb, root):
        digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def script(nb: NotebookNode, root: Path = ROOT) -> str:
    """The text of NAME.py: jupytext's percent format, with the filters of jupytext.toml."""
    options = tomllib.loads((root / "jupytext.toml").read_text(encoding="utf-8"))
    bare = NotebookNode(nb, metadata=NotebookNode(kernelspec=nb.metadata.kernelspec))
    config = JupytextConfiguration(**options)
    text = jupytext.writes(bare, fmt={"extension": ".py", "format_name": "percent"}, config=config)
    # jupytext repeats the filters in each header; jupytext.toml already says them.
    return "".join(line for line in text.splitlines(keepends=True) if "metadata_filter:" not in line[:40])


class _OwnKernel(AsyncKernelManager):
    """Starts kernels of the running interpreter, whatever other kernelspecs are installed."""

    def _kernel_spec_manager_default(self) -> KernelSpecManager:
        return KernelSpecManager(kernel_dirs=[])  # with no folder to search, the running ipykernel's own is left


def execute(nb: NotebookNode, cwd: Path, root: Path = ROOT, name: str = "") -> None:
    """Execute the notebook in place, in a fresh kernel of the running interpreter."""
    paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    with tqdm(total=len(code_cells(nb)), desc=name, unit="cell", disable=None) as bar:
        client = NotebookClient(
            nb,
            kernel_name="python3",
            kernel_manager_class=_OwnKernel,
            timeout=CELL_TIMEOUT,
            allow_errors=False,
            coalesce_streams=True,
            record_timing=False,
            extra_arguments=["--log-level=ERROR"],  # each kernel start would warn of TCP without encryption
            resources={"metadata": {"path": str(cwd)}},
            # nbclient answers Ctrl-C by killing the kernel, which looks like a kernel that died by itself.
            on_notebook_start=lambda notebook: asyncio.get_running_loop().remove_signal_handler(signal.SIGINT),
            on_cell_complete=lambda cell, cell_index: bar.update(cell.cell_type == "code"),
        )
        try:
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
            environment.pop("JPY_SESSION_NAME", None)  # of the notebook from which this was called, not of this one
            client.execute(env=environment)
        except asyncio.CancelledError:  # Ctrl-C while the kernel was starting
            raise KeyboardInterrupt from None


def drop_font_searches(nb: NotebookNode) -> None:
    """Leave out what matplotlib says of fonts it did not find: a cache of the machine, no chapter, is to blame."""
    for cell in code_cells(nb):
        kept = []
        for output in cell.outputs:
            if output.output_type == "stream" and output.name == "stderr":
                lines = [line for line in output.text.splitlines(keepends=True) if not line.startswith("findfont: ")]
                output = NotebookNode(output, text="".join(lines))
                if not lines:
                    continue
            kept.append(output)
        cell.outputs = kept


def thin_pictures(nb: NotebookNode) -> None:
    """Store every PNG in the colours that are seen: a quarter of the bytes, in the repository and on Colab."""
    for cell in code_cells(nb):
        for output in cell.outputs:
            if png := output.get("data", {}).get("image/png"):
                output.data["image/png"] = base64.b64encode(pictures.thin(base64.b64decode(png))).decode()


def normalise(nb: NotebookNode, root: Path = ROOT) -> None:
    """Bring executed cells into the form that is stored: the same run gives the same bytes.

    Raises ValueError where an output holds an error, a warning, or a path of this machine.
    """
    machine = (str(root), sys.prefix, str(Path.home()) + os.sep, "ipykernel_")
    _number(nb)
    drop_font_searches(nb)
    thin_pictures(nb)
    for number, cell in enumerate(code_cells(nb), start=1):
        cell.metadata.pop("execution", None)
        for output in cell.outputs:
            if output.output_type == "error":
                raise ValueError(f"code cell {number} ends in {output.ename}: {output.evalue}")
            if output.get("name") == "stderr":  # readers would see it, and nbval would ask for it on every machine
                raise ValueError(f"code cell {number} warns; see to it:\n{output.text}")
            data = {mime: value for mime, value in output.get("data", {}).items() if not mime.startswith("image/")}
            text = output.get("text") or json.dumps(data, ensure_ascii=False)
            if path := next((path for path in machine if path in text), None):
                raise ValueError(f"code cell {number} prints a path of this machine ({path!r}); print less:\n{text}")


def _warns(cell: NotebookNode) -> bool:
    """Whether the outputs of a code cell hold what it wrote to stderr."""
    return any(output.get("name") == "stderr" for output in cell.outputs)


def _number(nb: NotebookNode) -> None:
    """Number all cells as one run does, the figures too: their text is their output, whether it was run or not."""
    for number, cell in enumerate((cell for cell in nb.cells if cell.cell_type == "code"), start=1):
        cell.execution_count = number
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = number


def _verified(site: Site) -> dict[str, Any]:
    """When, on what and with which versions the notebook was executed."""
    import torch  # here: it is slow to import and only an execution needs it

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU ({platform.machine()})"
    versions = {name: metadata.version(name) for name in ("torch", "numpy", "sympy", "matplotlib")}
    versions = {"python": platform.python_version(), **versions, PACKAGE: site.edition}
    return {"date": date.today().isoformat(), "device": device, "versions": versions}


def dumps(nb: NotebookNode) -> str:
    """The text of NAME.ipynb."""
    nbformat.validate(nb)
    text = nbformat.writes(nb, version=nbformat.NO_CONVERT, indent=1, ensure_ascii=False)
    return text.rstrip("\n") + "\n"


def _stored(path: Path) -> NotebookNode | None:
    twin = path.with_suffix(".ipynb")
    return nbformat.read(twin, as_version=nbformat.NO_CONVERT) if twin.exists() else None


def generate(context: Context, force: bool = False) -> list[str]:
    """Write both twins of a chapter and say what was done; a failed execution leaves them as they were."""
    path, root = context.path, context.root
    nb = read_notebook(path, context.site)
    stored = _stored(path)
    hashes = {"code": code_hash(nb), "equations": equations_hash(path), "package": package_hash(nb, root)}
    twin = render(nb, context)
    old = stored.metadata.get("gantext", {}) if stored else {}
    # The stored hash tells what was executed; the stored cells are compared as well, for a twin edited by hand.
    current = (
        stored is not None
        and all(cell.execution_count is not None for cell in code_cells(stored))
        and not any(_warns(cell) for cell in code_cells(stored))
        and {**hashes, "code": code_hash(stored)} == hashes == {key: old.get(key) for key in hashes}
    )
    done = []
    if force or stored is None or not current:
        execute(twin, path.parent, root, path.stem)
        normalise(twin, root)
        verified = _verified(context.site)
        done.append("executed")
    else:
        for cell, other in zip(code_cells(twin), code_cells(stored), strict=True):
            cell.outputs = other.outputs
        _number(twin)
        verified = old["verified"]
    twin.metadata = NotebookNode(nb.metadata, gantext={**hashes, "verified": verified})
    if write(path.with_suffix(".ipynb"), dumps(twin)):
        done.append(f"wrote {path.stem}.ipynb")
    if write(path.with_suffix(".py"), script(nb, root)):
        done.append(f"wrote {path.stem}.py")
    return done


def _diff(old: str, new: str, lines: int = 8) -> str:
    diff = list(difflib.unified_diff(old.splitlines(), new.splitlines(), "twin", "source", lineterm="", n=1))
    return "\n".join(diff[2 : 2 + lines])


def check(path: Path, site: Site, context: Context | None = None) -> list[str]:
    """Compare what a chapter says with both twins and return the differences; empty when there are none.

    Times are never looked at. `context` saves reading the whole book again for each chapter.
    """
    context = context or contexts(path.parents[1])[path]
    nb = read_notebook(path, site)
    fresh, stored = render(nb, context), _stored(path)
    name, py = path.stem, path.with_suffix(".py")
    found: list[str] = []
    if not py.exists():
        found.append(f"{name}: there is no {name}.py")
    elif diff := _diff(py.read_text(encoding="utf-8"), script(nb, context.root)):
        found.append(f"{name}: {name}.py is not what the source says\n{diff}")
    if stored is None:
        return [*found, f"{name}: there is no {name}.ipynb"]
    if len(fresh.cells) != len(stored.cells):
        found.append(f"{name}: the source has {len(fresh.cells)} cells and {name}.ipynb {len(stored.cells)}")
    for number, (cell, other) in enumerate(zip(fresh.cells, stored.cells, strict=False), start=1):
        where = f"{name}: cell {number}"
        for key in ("cell_type", "source", "id"):
            if cell[key] != other.get(key):
                found.append(f"{where}: its {key} differs\n{_diff(str(other.get(key)), cell[key])}")
        if cell.metadata != other.metadata:
            found.append(
                f"{where}: its tags or metadata are {dict(other.metadata)}, in the source {dict(cell.metadata)}"
            )
        if other.cell_type == "code" and other.execution_count is None:
            found.append(f"{where}: it has not been executed")
        if widgets.is_widget(cell):
            if cell.outputs != other.get("outputs"):
                found.append(f"{where}: its stored output is not the figure")
        elif other.cell_type == "code" and any(output.output_type == "error" for output in other.outputs):
            found.append(f"{where}: its stored output is an error")
        elif other.cell_type == "code" and _warns(other):
            found.append(f"{where}: its stored output holds a warning")
    hashes = stored.metadata.get("gantext", {})
    if hashes.get("code") != code_hash(nb):
        found.append(f"{name}: the stored outputs are not of this code")
    if hashes.get("equations") != equations_hash(path):
        found.append(f"{name}: the equations have changed since the ledger's cells judged them")
    if hashes.get("package") != package_hash(nb, context.root):
        found.append(f"{name}: `{PACKAGE}` has changed since the outputs were stored")
    return found


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="gantext_book.twins", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare only; write and execute nothing")
    parser.add_argument("--force", action="store_true", help="execute even what has not changed")
    parser.add_argument("names", nargs="*", help="chapters, such as gan-qp (default: all)")
    options = parser.parse_args(arguments)
    book = contexts(root)
    if unknown := set(options.names) - {path.stem for path in book}:
        parser.error(f"no such chapter in _toc.yml: {', '.join(sorted(unknown))}")
    chosen = [context for path, context in book.items() if not options.names or path.stem in options.names]
    status = 0
    for context in chosen:
        name = context.path.stem
        if options.check:
            differences = check(context.path, context.site, context)
            print("\n".join([*differences, "run `make notebooks`"]) if differences else f"{name}: in step")
            status |= bool(differences)
            continue
        try:
            print(f"{name}: {', '.join(generate(context, options.force)) or 'unchanged'}")
        except (CellExecutionError, CellTimeoutError, DeadKernelError, ValueError) as error:
            print(f"{name}: failed; {name}.ipynb is as it was\n{error}", file=sys.stderr)
            status = 1
        except KeyboardInterrupt:
            print(f"{name}: interrupted; {name}.ipynb is as it was", file=sys.stderr)
            return 130
    return status


if __name__ == "__main__":
    sys.exit(main())
