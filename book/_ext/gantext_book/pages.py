"""What this book adds to the ledger's pages: its errata, its measured results, the stamp under a chapter's title.

The HTML itself is in ``templates/``, one file for each piece.
"""

from __future__ import annotations

import base64
import itertools
import json
import math
import re
import statistics
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

from docutils import nodes
from markupsafe import Markup
from PIL import Image
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective
from texledger.sphinx import View, book, made, raw

from gantext_book.math import inline, with_minus

PACKAGE_PAGES = "book/api/"
TEMPLATES = str(Path(__file__).parent / "templates")


NUMBERS = ("one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
           "eighteen nineteen twenty").split()  # fmt: skip
MINUTES = rf"(\d+|{'|'.join(NUMBERS)})\s+minutes?"
WORDS_A_MINUTE = 200
CARD = 560  # pixels across the picture of a card, twice as many as it is shown with


class Made(SphinxDirective):
    """``{errata}``, ``{results}``, ``{taken-apart} LABEL``: computed from stored records."""

    has_content = False
    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        book(self.env).made.add(self.env.docname)
        if self.name == "results":
            for file in results(self.env.srcdir):
                self.env.note_dependency(str(file))
        return [made("", what=self.name, argument="".join(self.arguments))]


class ChapterCard(SphinxDirective):
    """``{chapter-card} PAGE``: a chapter's picture and title, its finding (the content), the minutes that it takes."""

    has_content = True
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        doc = self.env.relfn2path(f"{self.arguments[0]}.md")[0].removesuffix(".md")
        if doc not in self.env.found_docs:
            raise self.error(f"chapter-card: there is no page {self.arguments[0]}")
        book(self.env).made.add(self.env.docname)
        for path in (Path(self.env.doc2path(doc)), notebook_of(self.env, doc)):
            self.env.note_dependency(str(path))
        title = addnodes.pending_xref(
            "", nodes.inline(), refdomain="std", reftype="doc", reftarget=self.arguments[0], refexplicit=False,
            refdoc=self.env.docname, refwarn=True,
        )  # fmt: skip
        card = nodes.container(classes=["chapter-card"])
        card += [made("", what="card-picture", argument=doc), nodes.paragraph("", "", title, classes=["card-title"])]
        self.state.nested_parse(self.content, self.content_offset, card)
        card += made("", what="card-minutes", argument=doc)
        return [card]


def results(srcdir: str | Path) -> list[Path]:
    """The stored results, one file for each benchmark."""
    return sorted((Path(srcdir) / "benchmarks" / "results").glob("*.json"))


def notebook_of(env: BuildEnvironment, docname: str) -> Path:
    """Where the executed twin of a page is, if it has one."""
    return Path(env.doc2path(docname)).with_suffix(".ipynb")


def fill_pages(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """``doctree-resolved``: stamp the chapter, fill the made places."""
    view = BookView(app, docname)
    writers: dict[str, Callable[[str], str]] = {
        "errata": lambda _: view.errata(),
        "results": lambda _: view.results(),
        "taken-apart": view.taken_apart,
        "card-picture": view.card_picture,
        "card-minutes": view.card_minutes,
    }
    for node in list(doctree.findall(made)):
        if node["what"] in writers:
            node.replace_self(raw(with_minus(writers[node["what"]](node["argument"]))))
    if docname.startswith(PACKAGE_PAGES):
        set_equations(doctree, view)
    title = next(iter(doctree.findall(nodes.title)), None)
    if title is not None and notebook_of(app.env, docname).exists():
        title.parent.insert(title.parent.index(title) + 1, raw(view.stamp()))


def set_equations(doctree: nodes.document, view: BookView) -> None:
    """On the package's pages, labels of equations become links, and what a function computes is shown as a formula."""
    for literal in list(doctree.findall(nodes.literal)):
        if (place := view.equation(literal.astext())) is not None:
            name = place["number"] if _in_brackets(literal) else f"({place['number']})"
            literal.replace_self(nodes.reference("", name, internal=True, refuri=place["href"]))
    places = {place["href"]: place for m in view.book.all_entries() if (place := view.equation(m.entry.label))}
    for paragraph in list(doctree.findall(nodes.paragraph)):
        if "ledger-code" in paragraph["classes"] and paragraph.astext().startswith("Computes"):
            links = [link["refuri"] for link in paragraph.findall(nodes.reference)]
            if all(link in places for link in links):
                paragraph.replace_self(raw(view.fill("computes", equations=[places[link] for link in links])))


def _in_brackets(node: nodes.Node) -> bool:
    """Whether the words around a node put it in brackets."""
    words, at = node.parent.children, node.parent.index(node)
    return 0 < at < len(words) - 1 and words[at - 1].astext().endswith("(") and words[at + 1].astext().startswith(")")


def whole_signature(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """``autodoc-process-signature``: a default that is made anew is `...`; Sphinx cannot read `<factory>`, nor then
    the types beside it."""
    return signature and signature.replace("<factory>", "..."), returned


def drop_aliases(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """``autodoc-process-docstring``: what Python says of a named tuple's fields says nothing."""
    if lines and re.match(r"Alias for field number \d+$", lines[0]):
        lines.clear()


def source_of(app: Sphinx, module: str) -> tuple[str, dict[str, Any]] | None:
    """``viewcode-find-source``: read a module's file; viewcode would import it, and all of PyTorch with it."""
    for folder in (Path(app.srcdir), Path(app.srcdir, "texledger", "src")):
        place = folder.joinpath(*module.split("."))
        for file in (place.with_name(f"{place.name}.py"), place / "__init__.py"):
            if file.is_file():
                analyzer = ModuleAnalyzer.for_file(str(file), module)
                analyzer.find_tags()
                return analyzer.code, analyzer.tags
    return None


def drop_unused_sources(app: Sphinx, env: BuildEnvironment) -> None:
    """``env-updated``: no page for a module of which nothing is shown.

    Such are Python's own, where the package keeps one of their objects; viewcode drops them when it reads another page,
    which it does not where pages are read side by side.
    """
    modules = getattr(env, "_viewcode_modules", {})
    for name in [name for name, entry in modules.items() if entry and not entry[2]]:
        del modules[name]


def fold_set_ups(app: Sphinx, doctree: nodes.document) -> None:
    """``doctree-read``: fold set-up cells, as the notebooks on Colab do; the stamp names the versions, too."""
    for cell in list(doctree.findall(nodes.container)):
        if "tag_setup" in cell["classes"]:
            cell.attributes |= {"hide_mode": "all", "prompt_show": "Show the set-up", "prompt_hide": "Hide the set-up"}
            _picture_first(cell)


def _picture_first(setup: nodes.container) -> None:
    """A page opens with its picture: cells that only prepare it are shown last in their section, its own code below."""
    section = setup.parent
    at = section.index(setup)
    end = next((i for i in range(at, len(section)) if not _only_code(section[i], setup)), len(section))
    prepared, rest = section.children[at:end], section.children[end:]
    for cell in prepared:
        section.remove(cell)
    place = next((i for i, node in enumerate(section.children) if isinstance(node, nodes.section)), len(section))
    section[place:place] = prepared
    for cell in rest:
        if isinstance(cell, nodes.container) and cell.get("hide_mode") == "input":
            cell["classes"].append("picture-first")
            break


def _only_code(node: nodes.Node, setup: nodes.container) -> bool:
    """Whether a node is a folded cell that shows nothing but its code."""
    if node is setup or isinstance(node, nodes.comment):
        return True
    folded = isinstance(node, nodes.container) and "cell" in node["classes"] and node.get("hide_mode") == "input"
    return folded and not any("cell_output" in part["classes"] for part in node.findall(nodes.container))


class BookView(View):
    """The records as a page of this book shows them: formulas are rendered in place."""

    def formula(self, tex: str, display: bool = False) -> Markup:
        """TeX as static MathML."""
        return Markup(inline(tex, display))

    def stamp(self) -> str:
        """When and on what the chapter last ran, its count of checks, and its notebook."""
        notebook = notebook_of(self.app.env, self.docname)
        stored = json.loads(notebook.read_text(encoding="utf-8"))["metadata"].get("gantext", {}).get("verified", {})
        verified = {"date": None, "device": None, "versions": {}} | stored
        return self.fill("stamp", verified=verified, notebook=notebook.name, **self.tally([self.docname]))

    def errata(self) -> str:
        """Every refuted statement with its counterexample and correction."""
        return self.fill("errata", items=[self.item(m) for m in self.book.all_entries() if m.entry.refutes])

    def taken_apart(self, label: str) -> str:
        """One entry: the damaged forms that were refused, to be tried, and what was computed."""
        found = self.book.entry(label)
        if found is None or not found.entry.passed or found.entry.killed != len(found.entry.mutants):
            raise ExtensionError(f"{self.docname}: taken-apart: the book has no entry {label!r} that passed its check")
        return self.fill("taken-apart", item=self.item(found))

    def card_picture(self, doc: str) -> str:
        """The first picture that the chapter stores, small."""
        cells = json.loads(notebook_of(self.app.env, doc).read_text(encoding="utf-8"))["cells"]
        for cell in cells:
            for output in cell.get("outputs", []):
                if data := output.get("data", {}).get("image/png"):
                    path = Path(self.app.outdir) / "_images" / f"card-{Path(doc).name}.webp"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with Image.open(BytesIO(base64.b64decode("".join(data)))) as image:
                        size = (CARD, round(CARD * image.height / image.width))
                        image.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(path, quality=75, method=6)
                    described = cell["metadata"].get("mystnb", {})
                    alt = (described.get("image") or described.get("figure") or {}).get("alt", "The chapter's figure")
                    source = "../" * self.docname.count("/")
                    return self.fill("card-picture", source=source, file=path.name, size=size, alt=alt)
        raise ExtensionError(f"{self.docname}: chapter-card: {doc} stores no picture")

    def card_minutes(self, doc: str) -> str:
        """How long the chapter's core takes, and all of it: as the chapter says, else by its words."""
        text = Path(self.app.env.doc2path(doc)).read_text(encoding="utf-8")
        return self.fill("card-minutes", minutes=minutes(text))

    def results(self) -> str:
        """Every stored measurement and claim: speeds rival by rival and size by size, then experiments."""
        paths = results(self.app.srcdir)
        files = [file for path in paths for file in parts(path.stem, json.loads(path.read_text(encoding="utf-8")))]
        for file in files:
            file.setdefault("claims", [])
            file["tables"] = [  # of numbers that are not times against rivals
                {"title": table["title"], "head": [*map(worded, table["head"])],
                 "rows": [[*map(worded, row)] for row in table["rows"]]}
                for table in file.get("tables", [])
            ]  # fmt: skip
            file["rivals"] = sorted({name for row in file["rows"] for name in row["results"]} - {"ours"})
            file.setdefault("gpu", "nvidia" in file["device"].lower())  # a T4 calls itself Tesla
            file["beyond"] = False  # whether a dot is
            for row in file["rows"]:
                row["results"] = {name: row["results"].get(name) for name in ["ours", *file["rivals"]]}
                row["ratios"] = {
                    name: row["results"][name]["median_ms"] / row["results"]["ours"]["median_ms"]
                    for name in file["rivals"]
                    if row["results"][name]
                }
                row["places"] = {name: place(ratio) for name, ratio in row["ratios"].items()}
                row["beyond"] = {name: beyond(ratio) for name, ratio in row["ratios"].items()}
                file["beyond"] |= any(row["beyond"].values())
        files.sort(key=lambda file: not file["gpu"])
        on_gpu = {file["chapter"] for file in files if file["gpu"]}
        speeds = [file for file in files if file["rows"]]
        return self.fill(
            "results",
            speeds=speeds,
            experiments=[file for file in files if not file["rows"]],
            lines=[line for file in speeds for line in summary(file)],
            usual=usual(speeds),
            on_gpu=on_gpu,
            ticks=[(ratio, place(ratio)) for ratio in (0.25, 1, 4, 16)],
        )


TRACK = (0.2, 32.0)  # ratios at the two ends of a track, which is logarithmic


def place(ratio: float) -> float:
    """Where a ratio of times stands on its track, in percent; what is beyond an end stands at it."""
    low, high = TRACK
    return round(100 * math.log(min(max(ratio, low), high) / low) / math.log(high / low), 1)


def beyond(ratio: float) -> str:
    """What stands beside a dot that its track has no room for: an arrow to where it would be, and how far that is.

    >>> beyond(0.0271), beyond(1.5), beyond(335.9)
    ('◂ 0.027', '', '336 ▸')
    """
    low, high = TRACK
    return f"◂ {ratio:.2g}" if ratio < low else f"{ratio:.0f} ▸" if ratio > high else ""


def worded(cell: Any) -> Any:
    """A word of a record's keys as readers write it; a number as it is."""
    return re.sub(r"\bfrechet\b", "Fréchet", cell) if isinstance(cell, str) else cell


def parts(name: str, record: dict[str, Any]) -> list[dict[str, Any]]:
    """The record, and before it those of its parts, which have its device and versions: `gpu.py` compares a dozen."""
    whole = {key: value for key, value in record.items() if key != "parts"}
    found = [{**whole, "tables": [], **part, "id": f"{name}-{part['item']}"} for part in record.get("parts", [])]
    return [*found, {**whole, "id": name}]


CAPTURED = ", captured"  # of rows whose calls are replayed as CUDA graphs


def summary(file: dict[str, Any]) -> list[dict[str, Any]]:
    """For each rival of a benchmark: the least, the median and the largest ratio of times over all sizes.

    Calls from Python and CUDA graphs have a line each. What computes less than ours does, and so has no error to
    compare, is a floor and no rival; unless none has one.
    """
    lines = []
    kinds = ("", [r for r in file["rows"] if not r["what"].endswith(CAPTURED)]), (CAPTURED, file["rows"])
    for rival, (kind, among) in itertools.product(file["rivals"], kinds):
        rows = [row for row in among if rival in row["ratios"] and row["what"].endswith(kind)]
        if not rows:
            continue
        ratios = sorted(row["ratios"][rival] for row in rows)
        compared = any(row["results"][rival]["error"] is not None for row in rows)
        lines.append({"file": file, "rival": rival, "kind": kind, "least": ratios[0],
                      "median": statistics.median(ratios), "most": ratios[-1], "sizes": len(rows),
                      "compared": compared})  # fmt: skip
    return [line for line in lines if line["compared"]] or lines


USUAL: tuple[tuple[str, ...], ...] = (  # an operation, its usual rival; where: the record or part, and its rival
    (
        "Matrix exponentials in batches; on a CPU one determinant, too",
        "torch.linalg.matrix_exp",
        "matexp: torch",
        "expm-peers: torch",
    ),
    ("Matrix exponentials, large", "torch.linalg.matrix_exp", "large-expm-peers: torch"),
    ("Conditional layer norm", "torch.compile", "condnorm: textbook, compiled", "layer-norm-peers: torch.compile"),
    ("Attention of a prefix-LM", "one call with the mask", "prefixlm: dense mask", "attention-peers: dense mask"),
    ("Constrained beams", "transformers.generate", "generate: Hugging Face", "beam-peers: Hugging Face"),
    ("Gradient penalty", "double backward", "penalty: double backward", "penalty-peers: double backward"),
    ("Critic’s step as a CUDA graph", "the step, called", "graph-peers: eager"),
    ("Cascade of heads", "a loop over the heads", "orthogonal: literal", "cascade-peers: literal"),
    ("JoSE, words a second", "its authors’ program", "jose-program: the authors' program"),
    ("JoSE, words a second", "gensim’s Doc2Vec", "jose: gensim Doc2Vec"),
    ("JoSE, update of a batch", "index_add_, compiled", "sphere-peers: index_add_, compiled"),
)


def usual(files: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines of `USUAL`: on a CPU, and on a GPU called from Python and captured, the summaries that there are."""
    made = []
    for what, against, *wanted in USUAL:
        cells: dict[str, list[dict[str, Any]]] = {"cpu": [], "called": [], "captured": []}
        for name, rival in (words.split(": ") for words in wanted):
            chosen = [file for file in files if name in (file["id"], file.get("item"))]
            found = [line for file in chosen for line in summary(file) if line["rival"] == rival]
            if not found:
                raise ExtensionError(f"results: no record has {name}, {rival}, which the line {what!r} names.")
            for line in found:
                captured = line["kind"] or name == "graph-peers"  # there ours is the graph, and so has no suffix
                cells[("captured" if captured else "called") if line["file"]["gpu"] else "cpu"].append(line)
        made.append({"what": what, "against": against, **cells})
    return made


def minutes(text: str) -> tuple[int, int]:
    """Minutes for the core of a chapter and for the whole; what it does not say is estimated by its words."""
    opening = text.split("\n## ")[0]
    number = lambda word: int(word) if word.isdigit() else NUMBERS.index(word.lower()) + 1
    prose = re.sub(r"^```\{(?:code-cell|raw)\}.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    core, *folded = re.split(r"^(?:`{3,}|:{3,})\{folded\} ", prose, flags=re.MULTILINE)
    told = re.search(MINUTES, opening, re.IGNORECASE)
    first = number(told[1]) if told else max(1, round(len(core.split()) / WORDS_A_MINUTE))
    rest = 0
    for section in folded:
        told = re.match(MINUTES, section, re.IGNORECASE)
        rest += number(told[1]) if told else max(1, round(len(section.split()) / WORDS_A_MINUTE))
    return first, first + rest


def copy_notebooks(app: Sphinx, exception: Exception | None) -> None:
    """``build-finished``: put each chapter's notebook beside its page, and where the theme's button looks for it."""
    if exception is None and app.builder.format == "html":
        for docname in sorted(app.env.found_docs):
            notebook = notebook_of(app.env, docname)
            if notebook.exists():
                for folder in (Path(app.outdir), Path(app.outdir) / "_sources"):
                    target = folder / f"{docname}.ipynb"
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(notebook.read_bytes())


def setup(app: Sphinx) -> None:
    """Register the directives and connect the handlers; the ledger is any book's (``texledger.sphinx``)."""
    app.setup_extension("texledger.sphinx")
    app.config.ledger_stamp = False  # the chapters have one of their own
    app.config.ledger_templates = [TEMPLATES]
    for name in ("errata", "results", "taken-apart"):
        app.add_directive(name, Made)
    app.add_directive("chapter-card", ChapterCard)
    app.connect("autodoc-process-docstring", drop_aliases)
    app.connect("autodoc-process-signature", whole_signature)
    if "viewcode-find-source" in app.events.events:
        app.connect("viewcode-find-source", source_of)
    app.connect("env-updated", drop_unused_sources)
    app.connect("doctree-read", fold_set_ups)
    app.connect("doctree-resolved", fill_pages)
    app.connect("build-finished", copy_notebooks)
