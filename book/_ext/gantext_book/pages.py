"""What the reader sees of the ledger: folded checks, the stamp under a title, the pages made from stored results."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from gantext.ledger import KINDS
from gantext_book.equations import Equation, Stored, book, notebook_of
from gantext_book.math import MARKS, render

API = "book/api"


class made(nodes.General, nodes.Element):  # noqa: N801 - docutils names its nodes so
    """A place that is filled once all pages have been read."""


class Made(SphinxDirective):
    """``{ledger-table}``, ``{ledger-count}``, ``{errata}``, ``{results}``: pages computed from stored records."""

    has_content = False

    def run(self) -> list[nodes.Node]:
        mine = book(self.env)
        mine.made.add(self.env.docname)
        if self.name == "results":
            for file in results(self.env.srcdir):
                self.env.note_dependency(str(file))
        return [made("", what=self.name)]


def results(srcdir: str | Path) -> list[Path]:
    """The stored results, one file for each benchmark."""
    return sorted((Path(srcdir) / "benchmarks" / "results").glob("*.json"))


def fill_pages(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """``doctree-resolved``: fold the checks, stamp the chapter, fill the made places."""
    writers = {"ledger-table": _ledger_table, "ledger-count": _ledger_count, "errata": _errata, "results": _results}
    for node in list(doctree.findall(made)):
        node.replace_self(_raw(writers[node["what"]](app, docname)))
    fold_checks(app, doctree, docname)
    stamp(app, doctree, docname)


def _raw(html: str) -> nodes.raw:
    return nodes.raw("", html, format="html")


def fold_checks(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Fold each check's cell under one line that says what it is and links back to its equation."""
    mine = book(app.env)
    by_cell: dict[int, list[Stored]] = {}
    for stored in mine.entries.get(docname, []):
        by_cell.setdefault(stored.cell, []).append(stored)
    cells = [n for n in doctree.findall(nodes.container) if n.get("nb_element") == "cell_code"]
    for number, cell in enumerate(cells):
        if number not in by_cell or cell.parent is None:
            continue
        anchors = "".join(f'<span id="{s.anchor}"></span>' for s in by_cell[number])
        lines = "; ".join(_summary(app, docname, s) for s in by_cell[number])
        at = cell.parent.index(cell)
        cell["classes"].append("check-cell")
        cell.parent.insert(at + 1, _raw("</details>"))
        cell.parent.insert(at, _raw(f'{anchors}<details class="check"><summary>{lines}</summary>'))


def _summary(app: Sphinx, docname: str, stored: Stored) -> str:
    entry = stored.entry
    sign = MARKS.get(entry.kind, "✓")
    equation = _equation(app, entry.label)
    where = (
        f'<a href="{_link(app, docname, equation)}">({_number(app, equation)})</a>' if equation else escape(entry.label)
    )
    functions = "".join(
        f' · <a href="{_function(app, docname, f)}"><code>{escape(f)}</code></a>' for f in entry.functions
    )
    if entry.kind == "definition":
        return f'<span class="sign">{sign}</span> {where} · definition{functions}'
    strength = "" if not entry.bound else " · from the page’s own TeX"
    count = f"{entry.killed} of {len(entry.mutants)} mutants rejected"
    return f'<span class="sign">{sign}</span> {where} · {entry.kind}{strength} · {count}{functions}'


def _equation(app: Sphinx, label: str) -> Equation | None:
    return next((e for e in book(app.env).all_equations() if e.label == label), None)


def _number(app: Sphinx, equation: Equation) -> str:
    numbers = app.env.toc_fignumbers.get(equation.docname, {}).get("displaymath", {}).get(equation.anchor, ())
    return ".".join(map(str, numbers))


def _link(app: Sphinx, docname: str, equation: Equation) -> str:
    return app.builder.get_relative_uri(docname, equation.docname) + f"#{equation.anchor}"


def _function(app: Sphinx, docname: str, function: str) -> str:
    """The function's place on the API page; the module's documentation outside the package has none."""
    if not function.startswith("gantext."):
        return (
            f"https://docs.pytorch.org/docs/stable/generated/{function}.html" if function.startswith("torch.") else "#"
        )
    return app.builder.get_relative_uri(docname, API) + f"#{function}"


def stamp(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Under a chapter's title: when and on what it last ran, its count of checks, and its notebook."""
    notebook = notebook_of(app.env, docname)
    title = next(iter(doctree.findall(nodes.title)), None)
    if title is None or not notebook.exists():
        return
    verified = json.loads(notebook.read_text(encoding="utf-8"))["metadata"].get("gantext", {}).get("verified", {})
    entries = [s.entry for s in book(app.env).entries.get(docname, [])]
    checked = [e for e in entries if e.kind != "definition"]
    bound = sum(e.bound for e in checked)
    versions = ", ".join(f"{k} {v}" for k, v in verified.get("versions", {}).items() if k in {"torch", "gantext"})
    facts = [
        f"Last verified {escape(str(verified.get('date', 'never')))}",
        escape(str(verified.get("device", "unknown device"))),
        escape(versions),
        f"{len(checked)} equations checked, {bound} from their own TeX" if checked else "",
        f'<a href="{escape(notebook.name)}" download>download the notebook</a>',
    ]
    title.parent.insert(
        title.parent.index(title) + 1, _raw(f'<p class="stamp">{" · ".join(f for f in facts if f)}</p>')
    )


def copy_notebooks(app: Sphinx, exception: Exception | None) -> None:
    """``build-finished``: put each chapter's notebook beside its page, for the download link."""
    if exception is None and app.builder.format == "html":
        for docname in sorted(app.env.found_docs):
            notebook = notebook_of(app.env, docname)
            if notebook.exists():
                target = Path(app.outdir) / f"{docname}.ipynb"
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(notebook.read_bytes())


def _ledger_count(app: Sphinx, docname: str) -> str:
    mine = book(app.env)
    entries = [s.entry for s in mine.all_entries() if s.entry.tex is not None]
    checked = [e for e in entries if e.kind != "definition"]
    bound = sum(e.bound for e in checked)
    killed, total = sum(e.killed for e in checked), sum(len(e.mutants) for e in checked)
    definitions = len(entries) - len(checked)
    return (
        f'<p class="ledger-count"><strong>{len(checked)} of {len(mine.all_equations()) - definitions}</strong> numbered equations '
        f"are checked by machine, <strong>{bound}</strong> of them by computing with the very TeX that is printed; the other "
        f"{definitions} are definitions. The checks rejected <strong>{killed} of {total}</strong> deliberately damaged formulas. "
        f'<a href="{app.builder.get_relative_uri(docname, "book/ledger")}">The ledger</a> lists them all.</p>'
    )


def _ledger_table(app: Sphinx, docname: str) -> str:
    head = "".join(f"<th>{h}</th>" for h in ("", "equation", "check", "TeX", "mutants rejected", "computed by"))
    out = []
    for doc in sorted(book(app.env).entries):
        rows = []
        for stored in book(app.env).entries[doc]:
            entry = stored.entry
            equation = _equation(app, entry.label)
            if equation is None:
                continue
            check = app.builder.get_relative_uri(docname, doc) + f"#{stored.anchor}"
            functions = "<br>".join(
                f'<a href="{_function(app, docname, f)}"><code>{escape(f)}</code></a>' for f in entry.functions
            )
            rows.append(
                f'<tr class="{entry.kind}"><td><a href="{_link(app, docname, equation)}">({_number(app, equation)})</a></td>'
                f'<td class="notranslate" translate="no">{render(equation.tex, False)}</td>'
                f'<td><a href="{check}" title="{escape(entry.how)}">{entry.kind}</a></td>'
                f"<td>{'own' if entry.bound else 'quoted' if entry.kind != 'definition' else ''}</td>"
                f"<td>{f'{entry.killed}/{len(entry.mutants)}' if entry.mutants else ''}</td><td>{functions}</td></tr>"
            )
        if rows:
            title = escape(app.env.titles[doc].astext())
            out.append(
                f'<h2>{title}</h2><div class="table-scroll" tabindex="0" role="region" aria-label="Equations of {title}">'
                f'<table class="ledger"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
            )
    legend = "".join(f"<li><b>{k}</b>: {escape(v)}</li>" for k, v in KINDS.items())
    return "".join(out) + f"<h2>The kinds of check</h2><ul>{legend}</ul>"


def _errata(app: Sphinx, docname: str) -> str:
    items = []
    for stored in book(app.env).all_entries():
        facts = stored.entry.refutes
        if not facts:
            continue
        equation = _equation(app, stored.entry.label)
        stated = render(equation.tex, True) if equation else f"<p>{escape(facts['stated'])}</p>"
        words = facts.get("holds instead, in words")
        holds = f"<p>{escape(words)}</p>" if words else render(facts["holds instead"], True)
        check = app.builder.get_relative_uri(docname, stored.docname) + f"#{stored.anchor}"
        items.append(
            f'<section class="erratum" id="{stored.anchor}"><h2>{escape(facts["source"])}</h2>'
            f'<p>States:</p><div class="formula" tabindex="0">{stated}</div>'
            f"<p>Fails at {escape(facts['counterexample'])}, by {escape(facts['fails by'])}. What holds instead:</p>"
            f'<div class="formula" tabindex="0">{holds}</div><p><a href="{check}">The computation</a></p></section>'
        )
    return "".join(items) or "<p>None so far.</p>"


def _results(app: Sphinx, docname: str) -> str:
    files = results(app.srcdir)
    return "".join(_result(json.loads(f.read_text(encoding="utf-8"))) for f in files) or "<p>No stored results yet.</p>"


def _result(data: dict[str, Any]) -> str:
    versions = ", ".join(f"{k} {v}" for k, v in data["versions"].items())
    where = f"{escape(data['device'])}, {data['threads']} threads; {escape(versions)}; {escape(data['date'])}"
    claims = "".join(
        f'<tr><td>{escape(c["claim"])}</td><td>{escape(str(c["measured"]))}</td><td class="verdict {escape(c["verdict"])}">'
        f"{escape(c['verdict'])}</td><td>{escape(str(c.get('where', '')))}</td></tr>"
        for c in data.get("claims", [])
    )
    gpu = "cuda" in data["device"].lower() or "nvidia" in data["device"].lower()
    rivals = sorted({k for row in data["rows"] for k in row["results"] if k != "ours"})
    head = "".join(f"<th>{escape(r)} / ours</th>" for r in rivals) + "".join(
        f"<th>error, {escape(r)}</th>" for r in ["ours", *rivals]
    )
    body = ""
    for row in data["rows"]:
        results = row["results"]
        ours = results["ours"]["median_ms"]
        cells = [f"{results[r]['median_ms'] / ours:.2f}" if r in results else "" for r in rivals]
        cells += [
            f"{results[r]['error']:.1e}" if r in results and "error" in results[r] else "" for r in ["ours", *rivals]
        ]
        if gpu:
            cells.append(f"{ours:.3f}")
        body += (
            f"<tr><td>{escape(row['what'])}</td><td>{escape(row['dtype'])}</td><td>{escape(row['size'])}</td>"
            + "".join(f"<td>{c}</td>" for c in cells)
        )
        body += f"<td>{escape(data['device'])}</td><td>{escape(data['date'])}</td></tr>"
    tail = ("<th>ours, ms</th>" if gpu else "") + "<th>device</th><th>date</th>"
    title = escape(data["title"])
    scroll = lambda table, what: (
        f'<div class="table-scroll" tabindex="0" role="region" aria-label="{title}: {what}">{table}</div>'
    )  # noqa: E731
    claim_table = f"<table><thead><tr><th>claim</th><th>measured</th><th>verdict</th><th>where</th></tr></thead><tbody>{claims}</tbody></table>"
    row_table = f"<table><thead><tr><th>what</th><th>dtype</th><th>size</th>{head}{tail}</tr></thead><tbody>{body}</tbody></table>"
    return (
        f'<h2>{title}</h2><p class="stamp">{where}</p>'
        + (scroll(claim_table, "claims") if claims else "")
        + scroll(row_table, "measurements")
    )


def link_equations(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """``autodoc-process-docstring``: a function's documentation links to the equations whose entries name it."""
    labels = [s.entry.label for s in book(app.env).all_entries() if name in s.entry.functions]
    if labels:
        lines += ["", "Computes " + ", ".join(f":eq:`{label}`" for label in sorted(set(labels))) + ".", ""]
