"""A book whose pages are notebooks with stored outputs, outside Jupyter Book: what ``texledger.sphinx`` is tried on."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import nbformat
from bs4 import BeautifulSoup
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils

from texledger import Entry

FIRST = r"""# First

$$ a + a = 2 a $$ (Double_It)

By {eq}`Double_It`:

$$ a + a + a = 3 a $$ (thrice)

Both are needed later.

:::{admonition} A statement
$$ a a = a^2 $$ (part-two-square)
:::

:::{admonition} Its proof
Nothing but {eq}`thrice`.
:::
"""
SECOND = """# Second

Words, and a formula that follows {eq}`thrice` and {eq}`part-two-square`:

$$ a^2 a = a^3 $$ (cube)

which also uses {eq}`Double_It`.
"""
INDEX = """# Book

```{ledger-count}
```

```{ledger-chapters}
```

```{toctree}
deep/er/first
second
lists/of-first
lists/of-second
```
"""


class Site:
    """A book whose pages are notebooks with stored outputs, in two folders, outside Jupyter Book."""

    def __init__(self, root: Path, made: dict[str, Entry]) -> None:
        self.root, self.made = root, dict(made)
        for folder in ("deep/er", "lists"):
            (root / folder).mkdir(parents=True)
        self.texts = {"deep/er/first": FIRST, "second": SECOND}
        self.of = {"deep/er/first": ["Double_It", "thrice", "part-two-square"], "second": ["cube"]}
        (root / "index.md").write_text(INDEX)
        for name, doc in (("first", "deep/er/first"), ("second", "second")):
            (root / "lists" / f"of-{name}.md").write_text(f"# Checks of {name}\n\n```{{ledger-table}} {doc}\n```\n")

    def notebook(self, doc: str) -> nbformat.NotebookNode:
        cells = [nbformat.v4.new_markdown_cell(self.texts[doc])]
        for number, label in enumerate(self.of[doc], start=1):
            cell = nbformat.v4.new_code_cell(f"check({label!r})", execution_count=number)
            if label in self.made:
                data = self.made[label]._repr_mimebundle_()
                cell.outputs = [nbformat.v4.new_output("execute_result", data, execution_count=number)]
            cells.append(cell)
        language = {"name": "python", "pygments_lexer": "ipython3"}
        return nbformat.v4.new_notebook(cells=cells, metadata={"language_info": language})

    def write(self) -> None:
        for doc in self.texts:
            nbformat.write(self.notebook(doc), self.root / f"{doc}.ipynb")

    def build(self, parallel: int = 0, fresh: bool = True, **settings: Any) -> str:
        out, said = self.root / "_build", StringIO()
        config = {
            "extensions": ["myst_nb", "texledger.sphinx"],
            "exclude_patterns": ["_build", "jupyter_execute"],
            "nb_execution_mode": "off",
            "myst_enable_extensions": ["dollarmath", "colon_fence"],
            "html_theme": "basic",
        }
        with patch_docutils(), docutils_namespace():
            app = Sphinx(
                str(self.root), None, str(out), str(out / "trees"), "html", confoverrides=config | settings,
                status=said, warning=said, freshenv=fresh, warningiserror=True, keep_going=True, parallel=parallel,
            )  # fmt: skip
            app.build()
            assert app.statuscode == 0, said.getvalue()
        return said.getvalue()

    def page(self, name: str) -> BeautifulSoup:
        return BeautifulSoup((self.root / "_build" / f"{name}.html").read_text(encoding="utf-8"), "html.parser")
