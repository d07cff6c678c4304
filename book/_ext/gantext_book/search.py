"""The text that the search page looks through: sections, equations and functions of every page.

Sphinx's own index knows pages only, cuts words at hyphens, and fetches pages to show what it found, which ``file://``
forbids. Here each section is an entry with its text, so that a result leads to the section and shows a line of it;
``search.js`` reads them as they are. An equation is found by its number or label, a Chinese term also by the English
one that the page of notation puts beside it. The ledger's pages repeat the chapters' equations and are left out.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

from gantext_book.math import render

SILENT = (nodes.literal_block, nodes.system_message, nodes.Invisible, nodes.image, addnodes.toctree)
KINDS = {"notebooks/": 0, "book/api": 2}  # chapters come first and the package last; all other pages between them
NUMBER = re.compile(r'class="eqno-link" href="#(equation-[^"]+)"[^>]*>\(([\d.]+)\)<')


def collect(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """``html-page-context``: write down what one page says; pages that are not built anew have been written before."""
    if doctree is None or page.startswith("book/ledger/"):
        return
    numbers = app.env.toc_secnumbers.get(page, {})
    kind = next((kind for start, kind in KINDS.items() if page.startswith(start)), 1)
    entries, equations = [], []
    printed = dict(NUMBER.findall(context.get("body", "")))
    for section in doctree.findall(nodes.section):
        title = next(iter(section.findall(nodes.title)), None)
        if title is None:
            continue
        top = not isinstance(section.parent, nodes.section)
        number = numbers.get("" if top else f"#{section['ids'][0]}", ())
        name = f"{'.'.join(map(str, number))} {_plain(title)}".strip()
        entries.append(["" if top else section["ids"][0], name, _body(section, nodes.section, made=kind == 1)])
        for equation in _own(section, nodes.math_block):
            anchor = nodes.make_id(f"equation-{equation['label']}") if equation.get("label") else ""
            if anchor in printed:
                equations.append([printed[anchor], equation["label"], anchor, name, _formula(equation.astext(), True)])
    for described in doctree.findall(addnodes.desc):
        for signature in described.findall(addnodes.desc_signature):
            if signature.parent is described and signature["ids"]:
                name = signature["ids"][0]
                content = next(iter(described.findall(addnodes.desc_content)), None)
                entries.append([name, name, _body(content, addnodes.desc) if content is not None else ""])
    words = []
    if page == "book/notation":
        for row in doctree.findall(nodes.row):
            cells = [entry.astext() for entry in row.findall(nodes.entry)]
            if len(cells) == 2 and re.search(r"[\u4e00-\u9fff]", cells[1]) and cells[1] != "中文":
                words.append([cells[1], cells[0]])
    record = {"page": page, "kind": kind, "entries": entries, "equations": equations, "words": words}
    path = _folder(app) / f"{page}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, ensure_ascii=False), encoding="utf-8")


def drop_index(app: Sphinx) -> None:
    """``builder-inited``: Sphinx need not stem the words of every page for its own index, which no page asks for."""
    nothing = lambda *_: None
    for name in ("load_indexer", "index_page", "dump_search_index"):
        if hasattr(app.builder, name):
            setattr(app.builder, name, nothing)


def _own(section: nodes.Element, kind: type[nodes.Element]) -> Iterator[nodes.Element]:
    """The nodes of this kind in the section itself, not in a section of it."""
    for child in section.children:
        if isinstance(child, nodes.Element) and not isinstance(child, nodes.section):
            yield from child.findall(kind)


def _body(node: nodes.Element, stop: type[nodes.Element], made: bool = False) -> str:
    """The text below a heading, up to what is an entry of its own; with HTML ``made`` from records or without it."""
    rest = (child for child in node.children if not isinstance(child, (nodes.title, stop)))
    return " ".join(filter(None, (_plain(child, made) for child in rest)))


def _plain(node: nodes.Node, made: bool = False) -> str:
    return re.sub(r"\s+", " ", "".join(_words(node, made))).replace("\u2060", "").strip()


def _words(node: nodes.Node, made: bool) -> Iterator[str]:
    if isinstance(node, nodes.raw):
        if made:
            yield unescape(re.sub(r"<(style|script).*?</\1>|<[^>]+>", " ", node.astext(), flags=re.DOTALL))
    elif isinstance(node, nodes.Text):
        yield node.astext()
    elif isinstance(node, (nodes.math, nodes.math_block)):
        yield _formula(node.astext(), isinstance(node, nodes.math_block))
    elif not isinstance(node, SILENT) and "cell_output" not in getattr(node, "attributes", {}).get("classes", []):
        for child in node.children:
            if not isinstance(child, addnodes.desc):
                yield from _words(child, made)
        if not isinstance(node, nodes.Inline):
            yield " "


def _formula(tex: str, display: bool) -> str:
    return unescape(re.sub(r"<[^>]+>", "", render(tex, display))).replace("\u2061", "")


def _folder(app: Sphinx) -> Path:
    return Path(app.doctreedir) / "search"


def write(app: Sphinx, exception: Exception | None) -> None:
    """``build-finished``: put the text of all pages, in reading order, beside the search page."""
    if exception is not None or app.builder.format != "html":
        return
    files = [_folder(app) / f"{page}.json" for page in _reading_order(app)]
    records = [json.loads(file.read_text(encoding="utf-8")) for file in files if file.exists()]
    data = json.dumps(records, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    (Path(app.outdir) / "searchtext.js").write_text(f"const PAGES = {data};\n", encoding="utf-8")
    shutil.copyfile(Path(__file__).with_name("search.js"), Path(app.outdir) / "_static" / "search.js")


def _reading_order(app: Sphinx) -> list[str]:
    def below(page: str) -> Iterator[str]:
        yield page
        for child in app.env.toctree_includes.get(page, []):
            yield from below(child)

    ordered = dict.fromkeys(below(app.config.root_doc))
    return [page for page in ordered if page in app.env.found_docs]


def setup(app: Sphinx) -> None:
    """Connect the handlers."""
    app.connect("builder-inited", drop_index)
    app.connect("html-page-context", collect, priority=990)
    app.connect("build-finished", write)
