"""What makes the pages light: shorter HTML, styles that are used, pictures of few colours."""

import re
from colorsys import rgb_to_hsv
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from bs4 import BeautifulSoup
from docutils import nodes
from docutils.frontend import get_default_settings
from docutils.utils import new_document
from gantext_book import compact, light, pictures
from gantext_book.math import inline, keep_together, keep_units, render
from gantext_book.source import ROOT
from PIL import Image, ImageChops, ImageDraw, ImageStat
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

from gantext.book import BLUE, GREEN, ORANGE, RED

SOURCE = '''def f(x):
    """A string
    of two lines."""
    return r"\\operatorname{Tr} A", f"{x:.2f}", 1.5 if x is None else len(x)  # said
'''


def test_code_keeps_its_text_and_has_one_element_for_each_colour() -> None:
    formatter = HtmlFormatter(wrapcode=False)
    whole = highlight(SOURCE, get_lexer_by_name("ipython3"), formatter)
    short = compact.code(whole)
    before, after = BeautifulSoup(whole, "html.parser"), BeautifulSoup(short, "html.parser")
    assert after.get_text() == before.get_text()
    assert "<span" not in short
    assert r'<u>r"\operatorname{Tr} A"</u>' in short.replace("&quot;", '"')  # braces do not tear a string apart
    assert [tag.get_text() for tag in after.select("dfn, var, i")] == ["f", "len", "# said"]
    assert len(short) < 0.6 * len(whole)


@pytest.mark.parametrize("kind", ["gp", "err", "hll"])
def test_code_keeps_what_has_no_letter(kind: str) -> None:
    block = f'<div class="highlight"><pre><span class="{kind}">x</span></pre></div>'
    assert compact.code(block) == block


@pytest.mark.parametrize(
    "html",
    [
        '<a title="two  words" href="a/">b</a>',
        '<p alt="" hidden data-tex="x < y">1&nbsp;2\xa03</p>',
        "<pre>a\n\n  b</pre><textarea>  c</textarea><script>if (a  <  b) c('&#x27;')</script>",
        '<svg><path d="M0 1" fill="none" /><g /></svg><img src="a.png" alt="b" /><mspace width="1em" />',
        "<p>x <em>y</em>\n  <b>z</b></p>",
    ],
)
def test_a_compact_page_says_the_same(html: str) -> None:
    def said(text: str) -> list[tuple[str, dict[str, object]]]:
        return [(tag.name, dict(tag.attrs)) for tag in BeautifulSoup(text, "html.parser").find_all(True)]

    short = compact.page(html)
    assert said(short) == said(html)
    texts = [BeautifulSoup(text, "html.parser").get_text() for text in (html, short)]
    blanks = [re.sub(r"[ \n]+", " ", text) for text in texts]
    assert blanks[0] == blanks[1]
    assert [str(tag) for tag in BeautifulSoup(short, "html.parser").select("pre, textarea, script")] == [
        str(tag) for tag in BeautifulSoup(html, "html.parser").select("pre, textarea, script")
    ]
    assert len(short) <= len(html)
    assert compact.page(short) == short


def test_styles_keep_what_may_match_and_what_is_read() -> None:
    used = light._Used(tags={"p"}, classes={"a"}, ids={"b"}, attributes="data-theme ")
    css = "p.a:not(.gone){x:1} #b>p{x:2} p[data-theme=dark]{x:3} .gone,p{x:4} p[data-gone]{x:5} #gone{x:6} gone{x:7}"
    purged = lambda css: light.purge(light._parsed(css), used)
    assert purged(css) == "p.a:not(.gone){x:1}#b>p{x:2}p[data-theme=dark]{x:3}p{x:4}"
    assert purged('p { content : " (a: b,  c)" , "d" ; x : 1 }') == 'p{content:" (a: b,  c)","d";x:1}'
    sheets = [':root{--a:url("x;y");--b:var(--c,"}");--c:1;--d:2}', "p{color:var(--b)}"]
    assert light.without_unread(sheets, "--d") == [':root{--b:var(--c,"}");--c:1;--d:2}', sheets[1]]


def test_by_night_the_colours_of_pictures_keep_their_hues() -> None:
    (matrix,) = re.findall(
        r'values="([^"]+)"', (ROOT / "book" / "_templates" / "night.html").read_text(encoding="utf-8")
    )
    weights = np.array(matrix.split(), float).reshape(4, 5)
    rgb = lambda colour: np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    night = lambda colour: np.clip(weights @ [*rgb(colour), 1, 1], 0, 1)[:3]
    hue = lambda rgb: 360 * rgb_to_hsv(*rgb)[0]

    def light_of(rgb: np.ndarray) -> float:  # as WCAG has it
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    paper = night("#ffffff")
    assert paper == pytest.approx(rgb("#15171a"), abs=0.004) and night("#000000").min() > 0.9
    for colour in (BLUE, ORANGE, GREEN, RED):
        assert abs(hue(night(colour)) - hue(rgb(colour))) < 8
        assert (light_of(night(colour)) + 0.05) / (light_of(paper) + 0.05) > 7
    assert night(ORANGE).max() > 0.85  # dark orange is brown


def test_pictures_of_few_colours_look_the_same(tmp_path: Path) -> None:
    drawing = Image.new("RGB", (1600, 1200), "white")
    pen = ImageDraw.Draw(drawing)
    for i in range(40):
        pen.line((0, 30 * i, 1600, 1200 - 25 * i), fill=(0, 114, 178), width=5)
    drawing = drawing.resize((400, 300), Image.Resampling.LANCZOS)  # soft edges
    fewer = pictures.few_colours(drawing)
    assert len(fewer.getcolors() or []) <= 256
    assert max(ImageStat.Stat(ImageChops.difference(drawing, fewer)).rms) <= pictures.DIFFERENCE
    for picture, name in ((drawing, "whole"), (fewer, "fewer")):
        picture.save(tmp_path / f"{name}.webp", lossless=True)
    assert (tmp_path / "fewer.webp").stat().st_size < 0.8 * (tmp_path / "whole.webp").stat().st_size
    clear = drawing.copy()
    clear.putalpha(128)
    assert pictures.few_colours(clear) is clear
    noise = Image.merge("RGB", [Image.effect_noise((200, 200), 80) for _ in range(3)])
    assert pictures.few_colours(noise).tobytes() == noise.tobytes()  # a photograph is left alone

    def png(picture: Image.Image) -> bytes:
        buffer = BytesIO()
        picture.save(buffer, "png")
        return buffer.getvalue()

    thin = pictures.thin(png(drawing))
    assert len(thin) < 0.6 * len(png(drawing)) and pictures.thin(thin) == thin
    assert Image.open(BytesIO(thin)).convert("RGB").tobytes() == fewer.tobytes()
    for kept in (clear, noise):
        assert pictures.thin(png(kept)) == png(kept)


@pytest.mark.parametrize(
    ("tex", "expected"),
    [
        ("x", '<math data-tex="x"><mi>x</mi></math>'),
        ("f(-1)", '<mo form="prefix">−</mo>'),  # not the first of its row: its form is said
        ("-1", "<mo>−</mo>"),
        (r"\det", "<mi>det</mi></math>"),  # no space for an argument that is not there
        (r"\left( \frac12 \right) x", "<mrow><mo>(</mo>"),  # grows with its own group alone
        (r"\sin(A) \cos(B)", '<mi>)</mi><mspace width=".167em" /><mi>cos</mi>'),  # as in print, where Temml has none
        (r"\frac12 \cosh^2 q", '</mfrac><mspace width=".167em" /><msup><mi>cosh</mi>'),
        (r"A_1 \log \det M", '</msub><mspace width=".167em" /><mi>log</mi><mo rspace=".167em">\u2061</mo><mi>det</mi>'),
        (r"x - \log p", "<mo>−</mo><mi>log</mi>"),  # an operator has its own space
        (r"1, \dots, n", "<mo>,</mo><mi>…</mi><mo>,</mo>"),  # not the space of a relation
        (r"1 \dots n", '<mn>1</mn><mspace width=".167em" /><mi>…</mi><mspace width=".167em" /><mi>n</mi>'),
    ],
)
def test_formulas_say_what_a_browser_does_not_know(tex: str, expected: str) -> None:
    assert expected in inline(tex)


def test_a_minimum_has_its_thin_space_in_a_display_too() -> None:
    assert '</msup><mspace width=".167em" /><munder><mi>min</mi>' in render(r"a^2 \min_x f", True)
    assert "<mspace" in render(r"(k a)^2 \min_x f", True)  # a bracket with a power
    assert "mspace" not in render(r"\{ \min_x f \}", True)


def test_a_line_ends_between_two_statements_first() -> None:
    """Each is a box; the space between them is the style sheet's, for at the start of a line there is none."""
    row = BeautifulSoup(render(r"a = b + c, \qquad d = e \quad (x > 0) \qquad", True), "html.parser").select_one("span")
    assert row is not None and row["class"] == ["statements"]
    statements = row.find_all(recursive=False)
    assert [statement.get_text() for statement in statements] == ["a=b+c,", "d=e", "(x>0)"]
    assert not row.select("mspace")
    assert "statements" not in render(r"a = b + c, \; d = e", True)
    assert "statements" not in render(r"f(a \qquad b) = c", True)  # inside of a bracket it is a space
    assert "mspace" in render(r"a = b + c + d + e + f, \qquad d = e", False)  # in a text it stays one


@pytest.mark.parametrize(
    ("tex", "pieces"),
    [
        (r"a = b \Bigl( c - 1 - \frac{x}{2y} \Bigr)^2", ["a", "=b(c−1−x2y)2"]),
        (r"a \Bigl( b \Bigr)^2 = c \quad \text{if } d = e", ["a(b)2", "=c", "if\xa0d", "=e"]),  # the power closes it
        (
            (
                r"W = \operatorname{sign}(F_q(x) - F_p(x))"
                r" \Bigl( \frac{|F_p(x) - F_q(x)|}{k \alpha r(x)} \Bigr)^{1/(\alpha - 1)}"
            ),
            ["W", "=sign\u2061(Fq(x)−Fp(x))", "(|Fp(x)−Fq(x)|kαr(x))1/(α−1)"],  # between factors, then
        ),
        (r"W = |F(x) - G(x)| + |x - y|", ["W", "=|F(x)−G(x)|", "+|x−y|"]),
        (r"p(x | y - 1) - |y|", ["p(x|y−1)", "−|y|"]),  # a condition has one bar
        (r"W = \frac12 \int |x| dx - \sum_i \sum_j x_{ij}", ["W", "=12∫|x|dx", "−∑i∑jxij"]),
        (
            r"W = - \sum_{i=1}^n a_i ( b_{ij} c_{ij} d_{ij} + f_{ij} g_{ij} h_{ij} k_{ij} + l_{ij} m_{ij} n_{ij} )",
            ["W", "=−∑i=1nai(bijcijdij", "+fijgijhijkij", "+lijmijnij)"],
        ),
    ],
)
def test_a_term_breaks_inside_only_if_a_phone_has_no_room_for_it(tex: str, pieces: list[str]) -> None:
    shown = BeautifulSoup(render(tex, True), "html.parser").select("math")
    assert [formula.get_text() for formula in shown] == pieces


@pytest.mark.parametrize("tex", [r"\sum_i \pi_i (f_i + g_i) + 100001", r"= v^\top (W (u x + b) + b')"])
def test_a_line_of_text_does_not_end_inside_a_short_bracket(tex: str) -> None:
    for formula in BeautifulSoup(render(tex, False), "html.parser").select("math"):
        assert formula.get_text().count("(") == formula.get_text().count(")")


def test_formulas_are_written_without_defaults() -> None:
    written = render(r"\exp(-x^2 + {y}) = \det(A) \le \sum_{i=1}^{n} \sin x_i", True)
    assert not re.search('fence|separator|displaystyle|mrow><mi>exp|class="(?!tml)', written)


def test_a_percent_sign_stays_with_its_number_but_code_keeps_its_spaces() -> None:
    doctree = new_document("page", get_default_settings())
    doctree += nodes.paragraph(
        "", "", nodes.emphasis("", "95 % of"), nodes.Text(" 7 % and a %"), nodes.literal("", "7 % 2")
    )
    keep_units(None, doctree, "page")  # pyright: ignore[reportArgumentType]  # it does not look at the application
    assert doctree.astext() == "95\xa0% of 7\xa0% and a %7 % 2"


def test_a_table_of_numbers_has_minus_signs_and_its_words_keep_their_hyphens() -> None:
    doctree = new_document("page", get_default_settings())
    doctree += nodes.raw("", "<td>-0.10 ± 0.15</td><td class='x'>-3</td><td>GAN-2</td><td>-x</td>", format="html")
    keep_units(None, doctree, "page")  # pyright: ignore[reportArgumentType]  # it does not look at the application
    assert doctree.astext() == "<td>−0.10 ± 0.15</td><td class='x'>−3</td><td>GAN-2</td><td>-x</td>"


def test_a_comma_behind_a_formula_leaves_its_own_text_and_no_other() -> None:
    paragraph = nodes.paragraph("", "", nodes.strong("", "QP"), nodes.Text(", "), nodes.math("", "d"), nodes.Text(", "))
    doctree = new_document("page.md", get_default_settings())
    doctree += paragraph
    paragraph += nodes.emphasis("", "next")
    keep_together(None, doctree, "page")  # pyright: ignore[reportArgumentType]  # it does not look at the application
    assert paragraph.astext() == "QP, d, next"  # as it was; the first comma is equal to the second
    (kept,) = [part for part in paragraph.findall(nodes.inline) if "kept" in part["classes"]]
    assert kept.astext() == "d,"


def test_a_line_that_ends_before_a_formula_still_parts_it_from_its_word() -> None:
    before, between = nodes.Text("of order\n"), nodes.Text(":\n")
    paragraph = nodes.paragraph("", "", before, nodes.math("", "n"), between, nodes.math("", "m"), nodes.Text("."))
    doctree = new_document("page.md", get_default_settings())
    doctree += paragraph
    keep_together(None, doctree, "page")  # pyright: ignore[reportArgumentType]  # it does not look at the application
    assert paragraph.astext() == "of order\nn:\nm."


def test_a_bracket_before_a_formula_stays_on_its_line() -> None:
    paragraph = nodes.paragraph("", "", nodes.Text("a map ("), nodes.math("", "f"), nodes.Text(") and ("))
    doctree = new_document("page.md", get_default_settings())
    doctree += paragraph
    paragraph += [nodes.math("", "g"), nodes.emphasis("", "here"), nodes.Text(")")]
    keep_together(None, doctree, "page")  # pyright: ignore[reportArgumentType]  # it does not look at the application
    assert paragraph.astext() == "a map (f) and (ghere)"
    assert [part.astext() for part in paragraph.findall(nodes.inline) if "kept" in part["classes"]] == ["(f)", "(g"]
