"""What the reader sees of the ledger: marks at the numbers, folded checks, counts, tables and the graph.

The HTML itself is in ``templates/``, one file for each piece. Formulas in it become nodes, so that whatever renders the
book's formulas renders them too.
"""

from __future__ import annotations

import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective

from texledger._entry import KINDS, STRENGTHS, Entry
from texledger._gate import Made, identifier
from texledger.sphinx._collect import Book, book, checked_mark, code_cells, labels_of

HERE = Path(__file__).parent / "templates"
MARKS = {"definition": "≔", "refutation": "✗"}
GRAPH = "ledger-graph.json"
FORMULA = re.compile("\ue000(\\d+)\ue001")
TRIED = re.compile(r"<details><summary>damaged formulas tried</summary><ul>.*?</ul></details>", re.DOTALL)
HEADLINE = re.compile(r'(<div class="gantext-check"[^>]*>)<b>[^<]*</b><br>')


class made(nodes.General, nodes.Element):  # noqa: N801 - docutils names its nodes so
    """A place that is filled once all pages have been read."""


class Place(SphinxDirective):
    """``{ledger-count}``, ``{ledger-table}``, ``{ledger-chapters}``, ``{ledger-code}``."""

    has_content = False
    optional_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        mine, doc = book(self.env), self.env.docname
        mine.made.add(doc)
        argument = self.arguments[0].strip() if self.arguments else ""
        if self.name == "ledger-table":
            mine.tables.setdefault(doc, []).append(argument)
        elif self.name == "ledger-code" and not argument:
            raise self.error("ledger-code needs the dotted name of a function")
        return [made("", what=self.name, argument=argument)]


def raw(html: str) -> nodes.raw:
    """A piece of HTML as a node."""
    return nodes.raw("", html, format="html")


def made_pages(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """``env-updated``: pages that show records or numbers of others are written, if the last build was not finished."""
    return [] if _written(app).is_file() else _showing(env)


def changed_pages(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """``env-get-updated``: they are written, if one of these changed; before this event equations have no numbers."""
    written = _written(app)
    if not written.is_file() or written.read_text(encoding="ascii") == _shown(env):
        return []
    written.unlink()  # a build that fails leaves old pages
    return _showing(env)


def _showing(env: BuildEnvironment) -> list[str]:
    mine = book(env)
    marked = {doc for records in (mine.entries, mine.statements) for doc, found in records.items() if found}
    return sorted(mine.made | marked)


def note_written(app: Sphinx, exception: Exception | None) -> None:
    """``build-finished``: what the pages now show."""
    if exception is None:
        _written(app).write_text(_shown(app.env), encoding="ascii")


def _written(app: Sphinx) -> Path:
    return Path(app.doctreedir) / f"ledger-{app.builder.name}.written"


def _shown(env: BuildEnvironment) -> str:
    """A number of all that a page may take from others: their records without their places, their names and numbers."""
    mine = book(env)
    python = env.get_domain("py").objects  # type: ignore[attr-defined]  # the Python domain's own
    shown = (
        [(e.label, e.tex, e.page) for e in mine.all_equations()],
        [(m.entry.as_json(), m.page) for m in mine.all_entries()],
        [(s.label, s.tex, s.page, s.number) for s in mine.all_statements()],
        [sorted(records.items()) for records in (mine.uses, mine.tables, env.toc_secnumbers, env.toc_fignumbers)],
        [(doc, title.astext()) for doc, title in sorted(env.titles.items())],
        sorted((name, found.docname) for name, found in python.items()),
    )
    return f"{zlib.crc32(repr(shown).encode())}"


def fill_pages(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """``doctree-resolved``: fold the checks, stamp the page, fill the made places."""
    view = View(app, docname)
    html = app.builder.format == "html"
    writers: dict[str, Callable[[str], str]] = {
        "ledger-count": lambda _: view.count(),
        "ledger-table": view.table,
        "ledger-chapters": lambda _: view.chapters(),
    }
    for node in list(doctree.findall(made)):
        if node["what"] == "ledger-code":
            node.replace_self(view.code(node["argument"]))
        elif node["what"] in writers:
            node.replace_self(view.nodes(writers[node["what"]](node["argument"])) if html else [])
    for node in list(doctree.findall(checked_mark)):
        mark = _mark(app.builder, node["label"], docname, node["ids"][0])
        at = node.parent.index(node)
        node.parent[at : at + 1] = [raw(mark)] if html and mark else []  # its anchor is in the mark
    if not html:
        return
    _fold(view, doctree)
    title = next(iter(doctree.findall(nodes.title)), None)
    if title is not None and app.config.ledger_stamp and view.book.entries.get(docname):
        title.parent.insert(title.parent.index(title) + 1, view.nodes(view.stamp()))


def _fold(view: View, doctree: nodes.document) -> None:
    """Fold each check's cell under one line that says what it is; inside, links lead back to its equation."""
    for cell in [c for c in code_cells(doctree) if c.get("ledger")]:
        found = [view.book.entry(label) for label in cell["ledger"]]
        items = [view.item(m) for m in found if m is not None]
        for output in list(cell.findall(nodes.raw)):
            for label in labels_of(output.astext()):
                html = output.astext()
                if len(items) == 1:  # the line that folds it says the same
                    html = HEADLINE.sub(r"\1", html)
                if href := view.listed(label):
                    link = f'<br><a href="{escape(href)}">The damaged formulas that were tried</a>'
                    html = TRIED.sub(lambda _, link=link: link, html)
                output.replace_self(raw(html))
                break
        at = cell.parent.index(cell)
        cell.parent.insert(at + 1, raw("</details>"))
        summary, links = view.fill("summary", items=items), view.fill("links", items=items)
        # The anchors are inside the fold: a browser that follows a link into a closed <details> opens it.
        cell.parent.insert(at, view.nodes(f'<details class="check"><summary>{summary}</summary>{links}'))


def place_of(number: str) -> list[tuple[int, str]]:
    """A key that sorts printed numbers: 2.9 before 2.10, and names after numbers."""
    return [(int(part), "") if part.isdecimal() else (10**9, part) for part in number.split(".")]


def in_order(item: dict[str, Any]) -> list[tuple[int, str]]:
    """A key for rows of the ledger: by the number of the equation; those that no page shows come last."""
    return place_of(item["equation"]["number"] if item["equation"] else "~")


class View:
    """The book's records as one page sees them: links are relative to it."""

    def __init__(self, app: Sphinx, docname: str) -> None:
        self.app, self.docname = app, docname
        self.book: Book = book(app.env)
        self.formulas: list[tuple[str, bool]] = []

    @cached_property
    def templates(self) -> Environment:
        """The templates: the book's own first."""
        folders = [*(Path(self.app.confdir) / f for f in self.app.config.ledger_templates), HERE]
        return Environment(
            loader=FileSystemLoader(folders), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
            lstrip_blocks=True,
        )  # fmt: skip

    def fill(self, template: str, **values: Any) -> str:
        """The template's HTML, with the helpers that all templates share."""
        return self.templates.get_template(f"{template}.html").render(
            page=self.page, function=self.function, formula=self.formula, sign=self.sign, **values
        )

    def nodes(self, html: str) -> list[nodes.Node]:
        """HTML as nodes; formulas become nodes of their own."""
        found: list[nodes.Node] = []
        for i, piece in enumerate(FORMULA.split(html)):
            if i % 2 == 0:
                found += [raw(piece)] if piece.strip() else []
                continue
            tex, display = self.formulas[int(piece)]
            found.append(
                nodes.math_block(tex, tex, nowrap=False, number=None, label=None, docname=self.docname)
                if display
                else nodes.math(tex, tex)
            )
        return found

    def page(self, docname: str) -> str:
        """Address of a page."""
        return self.app.builder.get_relative_uri(self.docname, docname)

    def function(self, name: str) -> Markup:
        """A function's name, linked to its documentation if the book has it."""
        shown = Markup("<code>{}</code>").format(name)
        objects = self.app.env.get_domain("py").objects  # type: ignore[attr-defined]  # the Python domain's own
        package, _, own = name.rpartition(".")
        shown_by_package = f"{package.rpartition('.')[0]}.{own}"  # what one of its modules defines
        documented = objects.get(name) or objects.get(shown_by_package)
        if documented is None:
            return shown
        return Markup('<a href="{}#{}">{}</a>').format(self.page(documented.docname), documented.node_id, shown)

    def formula(self, tex: str, display: bool = False) -> Markup:
        """A formula, for whatever renders the book's formulas."""
        domain = self.app.env.get_domain("math")
        domain.data.setdefault("has_equations", {})[self.docname] = True  # so that MathJax is loaded
        self.formulas.append((tex, display))
        return Markup(f"\ue000{len(self.formulas) - 1}\ue001")

    @staticmethod
    def sign(entry: Entry) -> str:
        """The mark of an entry's kind."""
        return MARKS.get(entry.kind, "✓")

    def number(self, label: str) -> str:
        """An equation's number as the pages print it."""
        found = self.book.equation(label)
        if found is None:
            return ""
        config, env = self.app.config, self.app.env
        if config.numfig and config.math_numfig:
            numbers = env.toc_fignumbers.get(found.page, {}).get("displaymath", {}).get(found.anchor, ())
            return ".".join(map(str, numbers))
        place = env.get_domain("math").data.get("objects", {}).get(label)
        return str(place[1]) if place else ""

    def equation(self, label: str) -> dict[str, Any] | None:
        """Where an equation is, its number and its TeX."""
        found = self.book.equation(label)
        if found is None:
            return None
        href = f"{self.page(found.page)}#{found.anchor}"
        return {"href": href, "number": self.number(label) or label, "tex": found.tex, "label": label}

    def equations(self, labels: Iterable[str]) -> list[dict[str, Any]]:
        """Where equations are, in the order of their numbers."""
        return sorted((e for e in map(self.equation, sorted(labels)) if e), key=lambda e: place_of(e["number"]))

    def item(self, item: Made) -> dict[str, Any]:
        """An entry with the places of its check and its equation."""
        label = item.entry.label
        equation = self.equation(label)
        uses = {used for user, used in self._uses if user == label}
        users = {user for user, used in self._uses if used == label}
        return {
            "entry": item.entry,
            "anchor": item.anchor,
            "row": identifier(f"ledger-{label}"),
            "href": f"{self.page(item.page)}#{item.anchor}",
            "listed": self.listed(label),
            "equation": equation,
            "tex": equation["tex"] if equation else item.entry.tex,
            "statements": [f"{self.page(s.page)}#{s.anchor}" for s in self.book.all_statements() if s.label == label],
            "uses": self.equations(uses),
            "used_by": self.equations(users),
        }

    @cached_property
    def _uses(self) -> list[tuple[str, str]]:
        return [pair for page in self.book.uses.values() for pair in page]

    @cached_property
    def _list_of(self) -> dict[str, str]:
        """For each page of entries, the page that lists them."""
        order = self.order()
        every = [doc for doc in order if "" in self.book.tables.get(doc, [])]
        pages = dict.fromkeys(self.book.entries, every[0]) if every else {}
        for doc in order:
            pages |= {chapter: doc for chapter in self.book.tables.get(doc, []) if chapter}
        return pages

    def listed(self, label: str) -> str | None:
        """Address of an equation's row on a ledger page, if the book has one."""
        item = self.book.entry(label)
        doc = self._list_of.get(item.page) if item and item.entry.tex is not None else None
        return f"{self.page(doc)}#{identifier(f'ledger-{label}')}" if doc else None

    def order(self) -> list[str]:
        """All pages in the order of the book's contents; those outside them last."""
        env, found = self.app.env, []

        def walk(doc: str) -> None:
            if doc not in found:
                found.append(doc)
                for child in env.toctree_includes.get(doc, []):
                    walk(child)

        walk(env.config.root_doc)
        return found + sorted(set(env.found_docs) - set(found))

    def tally(self, docs: Iterable[str] | None = None) -> dict[str, int]:
        """Counts over pages (all of them if none are named): displayed equations, and apart from them, what the marks
        in running text state."""
        mine = self.book
        docs = list(mine.equations if docs is None else docs)
        entries = [m.entry for doc in docs for m in mine.entries.get(doc, [])]
        statements = [s for doc in docs for s in mine.statements.get(doc, [])]
        shown = {e.label for e in mine.all_equations()}
        numbered = [e for e in entries if e.tex is not None and e.label in shown]
        checked = [e for e in numbered if e.kind != "definition"]
        tex = {m.entry.label: m.entry.tex for m in mine.all_entries() if m.entry.tex is not None}
        return {
            "checked": len(checked),
            "both": sum(e.strength == "both sides" for e in checked),
            "one": sum(e.strength == "one side" for e in checked),
            "quoted": sum(e.strength == "quoted" for e in checked),
            "excused": sum(e.strength == "both sides" and bool(e.unread) for e in checked),
            "killed": sum(e.killed for e in entries if e.tex is not None),
            "mutants": sum(len(e.mutants) for e in entries if e.tex is not None),
            "definitions": sum(e.kind == "definition" for e in numbered),
            "compared": sum(e.kind == "definition" and bool(e.mutants) for e in numbered),
            "statements": len(statements),
            "compared_statements": sum(s.prints(tex[s.label]) for s in statements if s.label in tex),
            "own": sum(e.tex is not None and e.label not in shown for e in entries),
        }

    def stamp(self) -> str:
        """A page's count of checks."""
        return self.fill("stamp", **self.tally([self.docname]))

    def count(self) -> str:
        """The whole book in a sentence."""
        lists = next((doc for doc in self.order() if doc in self.book.tables), None)
        return self.fill("count", equations=len(self.book.all_equations()), lists=lists, **self.tally())

    def chapters(self) -> str:
        """The counts of each page."""
        rows = [
            {
                "title": self.app.env.titles[doc].astext(),
                "href": self.page(self._list_of.get(doc, doc)),
                **self.tally([doc]),
            }
            for doc in self.order()
            if self.book.entries.get(doc)
        ]
        total = self.tally()
        picture = Markup(self.picture())
        return self.fill("chapters", chapters=rows, total=total, picture=picture, kinds=KINDS, strengths=STRENGTHS)

    def picture(self) -> str:
        """Which equation uses which, as arcs over a line; one path for all of them, so that it is light."""
        pages = [doc for doc in self.order() if self.book.entries.get(doc)]
        labels = [e.label for doc in pages for e in self.book.equations.get(doc, []) if e.label]
        home = {e.label: doc for doc in pages for e in self.book.equations.get(doc, []) if e.label}
        width = 720
        x = {label: round((i + 0.5) * width / len(labels), 1) for i, label in enumerate(labels)}
        pairs = sorted({(user, used) for user, used in self._uses if {user, used} <= set(x)})

        def radii(user: str, used: str) -> tuple[float, float]:
            half = abs(x[user] - x[used]) / 2
            return half, min(half, 60 + half / 4)

        def arc(user: str, used: str) -> str:
            """Over the line if the user comes later, below it if earlier."""
            across, up = radii(user, used)
            return f"M{x[used]} {level}A{across:.1f} {up:.1f} 0 0 1 {x[user]} {level}"

        over = [radii(*pair)[1] for pair in pairs if x[pair[0]] > x[pair[1]]]
        under = [radii(*pair)[1] for pair in pairs if x[pair[0]] < x[pair[1]]]
        level = round(max(over, default=0)) + 10  # no higher than its arcs
        height = level + round(max(under, default=0)) + 40

        same = {pair: home[pair[0]] == home[pair[1]] for pair in pairs}
        users = Counter(used for _, used in pairs)
        most = [{**found, "users": n} for label, n in users.most_common(8) if n > 2 and (found := self.equation(label))]
        chapters = []
        for doc in pages:
            places = [x[e.label] for e in self.book.equations.get(doc, []) if e.label]
            if places:
                start, middle = places[0] - width / len(labels) / 2, sum(places) / len(places)
                chapters.append({"x": round(start, 1), "middle": round(middle, 1)})
        return self.fill(
            "graph", width=width, height=height, level=level, count=len(labels), chapters=chapters, most=most,
            within=sum(same.values()), between=len(pairs) - sum(same.values()),
            arcs_within="".join(arc(*pair) for pair in pairs if same[pair]),
            arcs_between="".join(arc(*pair) for pair in pairs if not same[pair]),
            graph="../" * self.docname.count("/") + GRAPH,
        )  # fmt: skip

    def table(self, chapter: str = "") -> str:
        """Every equation of a page, or of all pages, with its check."""
        if chapter and chapter not in self.app.env.found_docs:
            from sphinx.errors import ExtensionError

            raise ExtensionError(f"{self.docname}: ledger-table: there is no page {chapter!r}")
        docs = [chapter] if chapter else self.order()
        chapters = [
            {
                "title": self.app.env.titles[doc].astext(),
                "href": self.page(doc),
                "checks": sorted(map(self.item, self.book.entries[doc]), key=in_order),
                **self.tally([doc]),
            }
            for doc in docs
            if self.book.entries.get(doc)
        ]
        return self.fill("ledger", chapters=chapters, alone=bool(chapter), kinds=KINDS, strengths=STRENGTHS)

    def code(self, name: str) -> list[nodes.Node]:
        """Links from a function to the equations whose entries name it."""
        entries = [m.entry for m in self.book.all_entries() if m.entry.tex]
        computed = {e.label for e in entries if name in e.functions}
        mentioned = {e.label for e in entries if name in e.see_also} - computed
        found: list[nodes.Node] = []
        for says, labels in (("Computes", computed), ("See also", mentioned)):
            places = self.equations(labels)
            if places:
                paragraph = nodes.paragraph("", f"{says} ", classes=["ledger-code"])
                for i, place in enumerate(places):
                    paragraph += [nodes.Text(", ")] if i else []
                    paragraph += nodes.reference("", f"({place['number']})", internal=True, refuri=place["href"])
                paragraph += nodes.Text(".")
                found.append(paragraph)
        return found


def link_equations(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """``autodoc-process-docstring``: a function's documentation links to the equations whose entries name it."""
    if what in {"function", "method", "class", "exception", "data", "attribute"}:
        # A package may show what one of its modules defines; entries know it by where it is defined.
        own = f"{getattr(obj, '__module__', None)}.{getattr(obj, '__qualname__', None)}"
        lines += ["", f".. ledger-code:: {own if own.endswith('.' + name.rpartition('.')[2]) else name}", ""]


def mark_numbers(app: Sphinx) -> None:
    """``builder-inited``: whatever renders display formulas, put the mark of its check before an equation's number."""
    if app.builder.format != "html":
        return
    renderers = app.registry.html_block_math_renderers
    for name, (visit, depart) in list(renderers.items()):
        if not getattr(visit, "marks_checks", False):
            renderers[name] = (_marking(visit), depart)


def _marking(visit: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    def visit_and_mark(self: Any, node: nodes.math_block) -> None:
        start = len(self.body)
        try:
            visit(self, node)
        finally:  # renderers leave by raising SkipNode
            if mark := _mark(self.builder, node.get("label"), self.builder.current_docname):
                _insert(self.body, start, mark)

    visit_and_mark.marks_checks = True  # type: ignore[attr-defined]
    return visit_and_mark


def _insert(body: list[str], start: int, mark: str) -> None:
    """Put the mark before the number, or at the formula's end if the renderer prints no number of its own."""
    for i in range(start, len(body)):
        head, found, tail = body[i].partition('<span class="eqno">')
        if found:
            body[i] = head + found + mark + tail
            return
    body.append(f'<span class="eqno">{mark}</span>')


def _mark(builder: Any, label: str | None, here: str, anchor: str = "") -> str:
    """The link from an equation's number, or from a statement in running text, to its check."""
    item = book(builder.env).entry(label) if label else None
    if item is None:
        return ""
    entry = item.entry
    strength = (entry.strength or "").replace(" ", "-")
    headline = entry.headline[0].upper() + entry.headline[1:]
    title = escape(headline, quote=True)
    name = ", ".join(filter(None, (entry.kind.capitalize(), entry.strength)))  # the rest is the link's description
    kind = f"{'checked-mark' if anchor else 'eq-mark'} {entry.kind} {strength}".strip()
    place = f' id="{anchor}"' if anchor else ""
    page = "" if item.page == here else escape(builder.get_relative_uri(here, item.page))
    link = f'class="{kind}"{place} href="{page}#{item.anchor}" title="{title}" aria-label="Check: {name}"'
    return f"<a {link}>{View.sign(entry)}</a>"


def graph(app: Sphinx) -> dict[str, Any]:
    """Which equation uses which, by the references in the text."""
    view = View(app, app.config.root_doc)
    known = {e.label for e in view.book.all_equations()}
    equations = [view.equation(e.label) for doc in view.order() for e in view.book.equations.get(doc, []) if e.label]
    pairs = {(user, used) for user, used in view._uses if {user, used} <= known}
    return {
        "equations": [{k: e[k] for k in ("label", "number", "href")} for e in equations if e],
        "uses": [list(pair) for pair in sorted(pairs)],
        "statements": [
            {"label": s.label, "tex": s.tex, "href": f"{view.page(s.page)}#{s.anchor}"}
            for doc in view.order()
            for s in view.book.statements.get(doc, [])
        ],
    }


def write_graph(app: Sphinx, exception: Exception | None) -> None:
    """``build-finished``: the graph as JSON beside the pages."""
    if exception is None and app.builder.format == "html":
        text = json.dumps(graph(app), ensure_ascii=False, indent=1)
        (Path(app.outdir) / GRAPH).write_text(text + "\n", encoding="utf-8")
