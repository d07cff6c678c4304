"""Promises that the repository makes as a whole: one address, a short API, twins in step, a lock that locks."""

import ast
import io
import re
import subprocess
import sys
import textwrap
import tokenize
import tomllib
from base64 import b64decode
from pathlib import Path

import nbformat
import pytest
from gantext_book import pictures, twins
from gantext_book.plain import contexts, leftovers
from gantext_book.source import ROOT, chapters, read_notebook, site
from packaging.requirements import Requirement

import gantext
import texledger

# How many cells of each notebook may have an output that nbval does not compare: training curves, timings, versions.
IGNORED = {
    "det-exp": 2, "wasserstein": 3, "w-divergence": 5, "gan-qp": 3, "gan-comparison": 3, "o-gan": 3,
    "cascading-rejection": 3, "jose": 5, "prefix-lm": 2,
    "reading-comprehension": 9, "conditional-layer-norm": 7,
}  # fmt: skip
STORED_BYTES = 800_000

CHAPTERS = chapters(ROOT)
every_chapter = pytest.mark.parametrize("chapter", CHAPTERS, ids=[path.stem for path in CHAPTERS])
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def texts() -> dict[str, str]:
    """Every file of the repository that is neither generated nor binary, ignored ones left out."""
    if (ROOT / ".git").exists():
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        names = [name for name in listed.split("\0") if name and (ROOT / name).is_file()]
    else:  # an archive of the sources
        walked = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
        left_out = {".venv", "_build", "__pycache__", ".pytest_cache", ".ruff_cache", ".hypothesis"}
        names = [path.as_posix() for path in walked if not left_out & set(path.parts)]
    found = {}
    for name in names:
        if not re.fullmatch(r"notebooks/[^/]+\.(ipynb|py)", name):
            try:
                found[name] = (ROOT / name).read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue
    return found


def code_cells(chapter: Path) -> list[nbformat.NotebookNode]:
    return twins.code_cells(nbformat.read(chapter.with_suffix(".ipynb"), as_version=4))


def test_addresses_stand_in_one_place() -> None:
    facts, files = site(ROOT), texts()
    owner_and_name = "/".join(facts.repository.split("/")[-2:])
    for address in (owner_and_name, re.sub(r"^https?://", "", facts.baseurl)):
        pattern = re.compile(rf"(?<![\w/-]){re.escape(address)}(?![\w/-])|[/:]{re.escape(address)}(?![\w-])")
        assert [name for name, text in files.items() if pattern.search(text)] == ["_config.yml"]
        assert len(pattern.findall(files["_config.yml"])) == 1


def test_exports_are_few_and_known() -> None:
    assert gantext.__all__ == [
        "at_scale",
        "book",
        "docstrings",
        "environment",
        "gan",
        "kernels",
        "matexp",
        "norm",
        "qa",
        "seq2seq",
        "sphere",
        "statistics",
    ]
    assert texledger.__all__ == [
        *("KINDS", "MIME", "STRENGTHS", "By", "CheckFailed", "Density", "Derived", "Draw", "Entry", "Indexed"),
        *("Interval", "Law", "Ledger", "LedgerError", "Means", "Operator", "Optimum", "Over", "Samples"),
        *("Superscript", "Unreadable", "equations", "normal"),
    ]
    assert all(hasattr(gantext, name) for name in gantext.__all__)
    assert all(hasattr(texledger, name) for name in texledger.__all__)


def test_import_is_light() -> None:
    code = "import sys, gantext; print(*sorted({'torch', 'sympy', 'numpy', 'triton'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""


# What costs a second or hundreds of megabytes, and which modules may import it at once; torch brings NumPy.
HEAVY = {
    *("torch._dynamo", "torch._inductor", "sympy", "numba", "sklearn", "scipy", "ot", "triton"),
    *("transformers", "accelerate", "matplotlib", "gensim", "pandas", "IPython", "mpmath", "torchmetrics"),
}
ESTIMATOR = {"numba", "sklearn", "scipy"}  # JoSE is one of scikit-learn's estimators, with a compiled pass
MAY_IMPORT = {
    "gantext.sphere.files": ESTIMATOR,
    "gantext.sphere.jose": ESTIMATOR,
    "gantext.sphere.training": ESTIMATOR,
    "gantext.kernels.layer_norm_cpu": {"numba", "scipy"},
    "gantext.kernels.sphere_cpu": {"numba", "scipy"},
    "gantext.kernels.layer_norm_triton": {"triton"},
    "gantext.kernels.sphere_triton": {"triton"},
}


def test_every_module_imports_what_it_may() -> None:
    """Each in a process of its own, forked from one that has torch."""
    files = sorted((ROOT / "gantext").rglob("*.py"))
    modules = [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]
    public = [name for name in modules if not any(part.startswith("_") for part in name.split("."))]
    assert set(MAY_IMPORT) < set(public) and len(public) > 25
    code = f"""
        import importlib, os, sys, torch
        heavy, before = {HEAVY!r}, set(sys.modules)
        for name in {[name for name in public if not name.endswith("_triton")]!r}:
            sys.stdout.flush()
            child = os.fork()
            if not child:
                importlib.import_module(name)
                print(name, *sorted(heavy & (set(sys.modules) - before)), flush=True)
                os._exit(0)
            if os.waitpid(child, 0)[1]:
                sys.exit(name + " cannot be imported")
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    found = {name: set(heavy) for name, *heavy in map(str.split, ran.stdout.splitlines())}
    assert len(found) == len([name for name in public if not name.endswith("_triton")])
    beyond = {name: heavy - MAY_IMPORT.get(name, set()) for name, heavy in found.items()}
    assert {name: heavy for name, heavy in beyond.items() if heavy} == {}


@every_chapter
def test_twins_are_in_step(chapter: Path) -> None:
    assert twins.check(chapter, site(ROOT), contexts(ROOT)[chapter]) == []


@every_chapter
def test_notebook_shows_no_raw_markup(chapter: Path) -> None:
    notebook = nbformat.read(chapter.with_suffix(".ipynb"), as_version=4)
    assert [found for cell in notebook.cells if cell.cell_type == "markdown" for found in leftovers(cell.source)] == []


@every_chapter
def test_uncompared_outputs_are_counted(chapter: Path) -> None:
    cells = code_cells(chapter)
    tags = [tag for cell in cells for tag in cell.metadata.get("tags", [])]
    assert not [cell.source for cell in cells if re.search(r"#\s*(NBVAL_SKIP|NBVAL_RAISES_EXCEPTION)", cell.source)]
    assert not {"nbval-skip", "nbval-raises-exception", "raises-exception", "nbval-ignore-output"} & set(tags)
    assert sum("NBVAL_IGNORE_OUTPUT" in cell.source for cell in cells) == IGNORED.get(chapter.stem, 0)


@every_chapter
def test_notebook_is_tidy(chapter: Path) -> None:
    cells = code_cells(chapter)
    assert "setup" in cells[0].metadata.get("tags", [])
    for cell in cells:
        ast.parse(cell.source)  # no magics: the pages colour code as Python's
        last = cell.source.rstrip().splitlines()[-1]
        assert not last.endswith(";"), f"nbval does not honour a semicolon: {last}"
        assert not [out.text for out in cell.outputs if out.get("name") == "stderr"], "the page would print a warning"
        drawn = [b64decode(out.data["image/png"]) for out in cell.outputs if "image/png" in out.get("data", {})]
        assert [pictures.thin(png) for png in drawn] == drawn, "pictures in more colours than are seen: make notebooks"
        if drawn and "plt" in cell.source:
            assert "plt.show()" in cell.source.splitlines(), "else the value of the last line is stored as text"
            assert cell.metadata.get("mystnb", {}).get("image", {}).get("alt"), "a picture needs its alt text"
    assert chapter.with_suffix(".ipynb").stat().st_size < STORED_BYTES


def test_requirements_never_ask_colab_to_move() -> None:
    needed = [Requirement(text) for text in PROJECT["project"]["dependencies"]]
    assert {clause.operator for requirement in needed for clause in requirement.specifier} == {">="}
    (torch,) = (requirement for requirement in needed if requirement.name == "torch")
    assert torch.specifier.contains("2.11")


def test_lock_holds_every_wheel_to_its_hash() -> None:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    locked = [line for line in lines if line.strip() and not line.startswith("#")]
    assert locked
    assert [line for line in locked if not re.search(r"==\S+.*--hash=sha256:[0-9a-f]{64}", line)] == []
    assert [line for line in locked if re.match(r"(torch|nvidia|cuda|triton)\b", line)] == []


def test_verbs() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert {"book", "test", "check", "notebooks", "bench", "compare", "gpu", "measure", "lint"} <= set(
        re.findall(r"^([a-z]+):(?!=)", makefile, re.MULTILINE)
    )
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert re.findall(r"^\s*(make\b.*)$", ci, re.MULTILINE) == ["make book", "make lint", "make test"]


def test_docstrings_name_equations_that_exist() -> None:
    """Chapters to come may be named already; a chapter that is there must have the equation."""
    written = {
        label for path in CHAPTERS for label in re.findall(r"^\$\$ \(([\w:-]+)\)$", path.read_text("utf-8"), re.M)
    }
    stems = "|".join(path.stem for path in CHAPTERS)
    named: set[str] = set()
    for file in sorted((ROOT / "gantext").rglob("*.py")):
        named |= set(re.findall(rf"`((?:{stems}):[a-z0-9-]+)`", file.read_text(encoding="utf-8")))
    assert named
    assert not named - written


def test_benchmarks_name_tests_that_exist() -> None:
    named = {
        (file.name, path)
        for file in (ROOT / "benchmarks").glob("*.py")
        for path in re.findall(r'"(tests/[\w/]+\.py)"', file.read_text(encoding="utf-8"))
    }
    assert named
    assert [item for item in sorted(named) if not (ROOT / item[1]).exists()] == []


@every_chapter
def test_code_is_narrow(chapter: Path) -> None:
    """Open code has at most 78 columns; what is folded may have longer strings, such as TeX, and nothing else."""
    wide = []
    for cell in code_cells(chapter):
        tokens = tokenize.generate_tokens(io.StringIO(cell.source).readline)
        strings = "\n".join(token.string for token in tokens if token.type == tokenize.STRING)
        texts = [text for line in strings.splitlines() if len(text := line.strip()) > 20]
        folded = {"ledger", "setup", "hide-input"} & set(cell.metadata.get("tags", []))
        for line in cell.source.splitlines():
            rest = line
            for text in sorted(texts, key=len, reverse=True) if folded else ():
                rest = rest.replace(text, "")
            if len(rest) > 78:
                wide.append(line)
    assert wide == []


@every_chapter
def test_uncompared_cells_assert(chapter: Path) -> None:
    """What nbval does not compare, the cell holds to what the page says of it; only the set-up has nothing to say."""
    ignored = [cell for cell in code_cells(chapter) if "NBVAL_IGNORE_OUTPUT" in cell.source]
    silent = [cell.source for cell in ignored if "setup" not in cell.metadata.get("tags", [])]
    assert [source for source in silent if "assert " not in source] == []


@every_chapter
def test_what_repeats_comes_from_one_module(chapter: Path) -> None:
    """Look, seed, palette and tables are those of `gantext.book`, not written anew in a chapter."""
    code = "\n".join(cell.source for cell in code_cells(chapter))
    assert len(re.findall(r"^book\.set_up\(.*\)$", code, re.MULTILINE)) == 1
    assert len(re.findall(r"^book\.claims\(", code, re.MULTILINE)) == 1
    again = r"<table|<th>|style\.use|^(?:BLUE|ORANGE|GREEN|RED|GREY)\b.*="
    assert re.findall(again, code, re.MULTILINE) == []


@every_chapter
def test_chapters_use_public_names(chapter: Path) -> None:
    code = "\n".join(cell.source for cell in code_cells(chapter))
    assert re.findall(r"\b(?:gantext|texledger)(?:\.\w+)*(?:\.| import .*\b)_[a-z]\w*", code) == []


@every_chapter
def test_the_files_of_the_book_are_fetched_by_one_function(chapter: Path) -> None:
    """Stored records and programs come through `gantext.book`; where from, a chapter says once at most."""
    cells = twins.code_cells(read_notebook(chapter, site(ROOT)))
    code = "\n".join(cell.source for cell in cells if "setup" not in cell.metadata.get("tags", []))
    assert re.findall(r"urllib|urlopen|benchmarks/results|\.\./", code) == []
    assert code.count(f"{site(ROOT).repository}/raw/") <= 1
