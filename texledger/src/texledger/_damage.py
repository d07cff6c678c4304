r"""``texledger damage FILE...``: misprint equations in ways that no check tries by itself, and see what is accepted.

Page and quote are edited alike: the check of an entry runs with the damaged TeX in place of its own, and so do the
excuses that quote it. What is accepted is for a person to judge: a hole, a weaker statement that is true as well, or
the same statement in other words.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from texledger._entry import CheckFailed, LedgerError
from texledger._gate import one_line
from texledger._ledger import Ledger
from texledger._needs import KINDS
from texledger._pages import read_page
from texledger._run import run

TOKEN = re.compile(r"\\[A-Za-z]+|\\.|[A-Za-z]|\d+|\s+|.", re.DOTALL)
GREEK = (
    "alpha beta gamma delta epsilon varepsilon zeta eta theta kappa lambda mu nu xi pi rho sigma tau phi varphi chi "
    "psi omega Delta Lambda Sigma Phi Omega ell"
)
SYMBOLS = {"\\" + name for name in GREEK.split()}
OTHERS = {
    r"\log": r"\exp", r"\exp": r"\log", r"\sin": r"\cos", r"\cos": r"\sin", r"\tanh": r"\sin", r"\cosh": r"\sinh",
    r"\sinh": r"\cosh", r"\operatorname{Tr}": r"\det", r"\det": r"\operatorname{Tr}", r"\sqrt": r"\exp",
    r"\mathbb{E}": r"\operatorname{Var}", r"\lfloor": r"\lceil", r"\min": r"\sum", r"\sum": r"\max",
}  # fmt: skip
SIGNS = {r"\le": "<", r"\ge": ">", "<": r"\le", ">": r"\ge", r"\ne": "=", r"\leq": "<", r"\geq": ">"}
TURNED = {r"\le": r"\ge", r"\ge": r"\le", "<": ">", ">": "<", r"\leq": r"\geq", r"\geq": r"\leq"}
PAIRS = {"(": ")", "[": "]", "{": "}"}


@dataclass(frozen=True)
class Damage:
    """What became of one damaged equation."""

    label: str
    kind: str
    tex: str
    damaged: str
    fate: str  # accepted, caught (the sides differ), refused (it cannot be read or checked), error
    strength: str | None = None
    says: str = ""


def damages(tex: str) -> Iterator[tuple[str, str]]:
    """Yield the kind and the TeX of each misprint of ``tex``.

    >>> dict(damages("x_{ij} < e^{-t}"))["indices exchanged"]
    'x_{ji} < e^{-t}'
    """
    for kind, start, end, new in _places(TOKEN.findall(tex)):
        damaged = "".join([*TOKEN.findall(tex)[:start], new, *TOKEN.findall(tex)[end:]])
        if re.sub(r"\s", "", damaged) != re.sub(r"\s", "", tex):
            yield kind, damaged


def _places(items: list[str]) -> Iterator[tuple[str, int, int, str]]:
    """Kind, first token, token behind the last, and what stands there instead."""
    text = lambda start, end: "".join(items[start:end])
    names = _names(items)
    for i, item in enumerate(items):
        group = _group(items, i + 1) if i + 1 < len(items) else None  # what a script or a command takes
        if item == "_" and group:
            inner = text(*group).strip("{}")
            if re.fullmatch(r"[a-z]{2}", inner):
                yield "indices exchanged", i, group[1], f"_{{{inner[::-1]}}}"
            if re.fullmatch(r"[a-z0-9]", inner):
                others = {m for m in re.findall(r"_\{?([a-z0-9])", "".join(items)) if m != inner}
                for other in sorted(others):
                    yield "another index", i, group[1], f"_{{{other}}}"
                yield "index dropped", i, group[1], ""
            if found := re.fullmatch(r"(\\?[a-z]+)\s*=\s*(\d+)", inner):
                for start in {int(found[2]) + 1, max(int(found[2]) - 1, 0)}:
                    yield "a sum begins elsewhere", i, group[1], f"_{{{found[1]} = {start}}}"
                upper = _group(items, group[1] + 1) if items[group[1] : group[1] + 1] == ["^"] else None
                if upper and text(*upper).strip("{}") != r"\infty":
                    yield "a sum ends earlier", group[1], upper[1], f"^{{{text(*upper).strip('{}')} - 1}}"
        if item == "^" and group:
            inner = text(*group).strip("{}").strip()
            if inner == r"\top":
                yield "transpose dropped", i, group[1], ""
            elif inner.startswith("-"):
                yield "an exponent's sign", i, group[1], f"^{{{inner[1:]}}}"
            elif inner == "2":
                yield "a square dropped", i, group[1], ""
            elif inner not in {"*", r"\circ"} and "'" not in inner and not inner.startswith(("(", r"\prime")):
                yield "an exponent's sign", i, group[1], f"^{{-({inner})}}"
        if item in names and not _in_words(items, i):
            for other in names:
                if other != item:
                    yield "a neighbouring symbol", i, i + 1, other + " "
            if items[i + 1 : i + 2] not in (["^"], ["_"], ["'"]) and items[i - 1 : i] not in (["_"], ["^"]):
                if item.isupper() and items[i + 1 : i + 2] != ["("]:
                    yield "transpose added", i, i + 1, rf"{item}^{{\top}}"
                yield "one more", i, i + 1, rf"({item} + 1)"
        for old, new in OTHERS.items():
            length = len(TOKEN.findall(old))
            if text(i, i + length) == old:
                yield "another function", i, i + length, new + " "
        if item in SIGNS:
            yield "strict or not", i, i + 1, SIGNS[item] + " "
        if item in TURNED and _depth(items, i):
            yield "another domain", i, i + 1, TURNED[item] + " "
        if item in "+-" and i and items[i - 1] not in ("{", "("):
            later = [k for k in range(i + 1, len(items)) if items[k] in ("+", "-") and items[k - 1] not in ("{", "(")]
            if later and not {"=", r"\qquad"} & set(items[i : later[0]]):
                turn = {"+": "-", "-": "+"}
                rest = text(i + 1, later[0]) + turn[items[later[0]]]
                yield "two signs", i, later[0] + 1, turn[item] + rest
        if (
            item in ("(", "[")
            and not items[i - 1].lower().startswith((r"\big", r"\left"))
            and (inside := _group(items, i))
        ):
            yield from _bracket(items, i, inside[1])
        if item == "|" and not items[i - 1].lower().startswith((r"\big", r"\left")):
            close = next((k for k in range(i + 2, len(items)) if items[k] == item), 0)
            if close and items[close + 1 : close + 2] not in (["_"], ["^"]):
                yield "bars dropped", i, close + 1, f"({text(i + 1, close)})"
        if item in ("=", r"\le", r"\ge", "<", ">") and not _depth(items, i):
            yield "a factor near one", i, i + 1, rf"{item} \frac{{21}}{{20}} "
        if item in (r"\qquad", r"\quad") and (i + 1 < len(items)):
            rest = text(i, len(items))
            if r"\text" in rest or "(" in items[i + 1 : i + 3]:
                yield "a condition dropped", i, len(items), ""


def _bracket(items: list[str], start: int, end: int) -> Iterator[tuple[str, int, int, str]]:
    """A closing bracket moved, arguments exchanged."""
    inner = "".join(items[start + 1 : end - 1])
    if found := re.fullmatch(r"(\s*\\?[A-Za-z]+'?)(\s*[,;]\s*)(\\?[A-Za-z]+'?\s*)", inner):
        yield "arguments exchanged", start + 1, end - 1, f"{found[3].strip()}{found[2]}{found[1].strip()}"
    at = end
    while at < len(items) and (items[at].isspace() or items[at] == r"\,"):
        at += 1
    if at < len(items) and (items[at].isalpha() or items[at] in SYMBOLS):
        stop = at + 1
        while stop < len(items) and items[stop] in ("_", "^") and (script := _group(items, stop + 1)):
            stop = script[1]
        if items[end - 2] not in SYMBOLS and (" + " in inner or " - " in inner):
            moved = "".join(items[start : end - 1]) + " " + "".join(items[at:stop]) + items[end - 1]
            yield "a bracket moved", start, stop, moved
    if " + " in inner or " - " in inner:
        cut = max(inner.rfind(" + "), inner.rfind(" - "))
        if inner[:cut].count("{") == inner[:cut].count("}") and inner[:cut].count("(") == inner[:cut].count(")"):
            yield "a bracket moved", start, end, items[start] + inner[:cut] + items[end - 1] + inner[cut:]


def _names(items: list[str]) -> list[str]:
    """The letters that the formula is about, in order."""
    found = [
        t for i, t in enumerate(items) if ((len(t) == 1 and t.isalpha()) or t in SYMBOLS) and not _in_words(items, i)
    ]
    return [t for t in dict.fromkeys(found) if t not in ("d", "e")]


def _in_words(items: list[str], at: int) -> bool:
    """True inside ``\\text{...}``, ``\\operatorname{...}`` and their like."""
    depth = 0
    for k in range(at - 1, -1, -1):
        depth += (items[k] == "}") - (items[k] == "{")
        if depth < 0:
            if re.match(r"\\(text|operator|math|begin|end|mbox)", items[k - 1]):
                return True
            depth = 0
    return False


def _group(items: list[str], at: int) -> tuple[int, int] | None:
    """A token, or the bracketed group that begins at it."""
    if at >= len(items):
        return None
    if items[at] not in PAIRS:
        return at, at + 1
    depth = 0
    for k in range(at, len(items)):
        depth += (items[k] == items[at]) - (items[k] == PAIRS[items[at]])
        if depth == 0:
            return at, k + 1
    return None


def _depth(items: list[str], at: int) -> int:
    return items[:at].count("{") - items[:at].count("}")


def chosen(label: str, tex: str, each: int, seed: int) -> list[tuple[str, str]]:
    """``each`` misprints of an equation: first a kind is drawn, then one of that kind."""
    rng = random.Random(f"{seed} {label}")
    by_kind: dict[str, list[str]] = {}
    for kind, damaged in damages(tex):
        by_kind.setdefault(kind, []).append(damaged)
    kinds = sorted(by_kind)
    rng.shuffle(kinds)
    return [(kind, rng.choice(by_kind[kind])) for kind in kinds[:each]]


def _alike(part: str, tex: str, damaged: str) -> str:
    """An excuse's quote of a part of the equation, edited as the equation was."""
    start = next((i for i, (a, b) in enumerate(zip(tex, damaged, strict=False)) if a != b), min(len(tex), len(damaged)))
    tail = next((i for i, (a, b) in enumerate(zip(tex[::-1], damaged[::-1], strict=False)) if a != b), 0)
    tail = min(tail, len(tex) - start, len(damaged) - start)
    at = tex.find(part)
    if at < 0 or start < at or len(tex) - tail > at + len(part):
        return part
    return part[: start - at] + damaged[start : len(damaged) - tail] + part[len(tex) - tail - at :]


def try_page(path: Path, each: int, seed: int, report: Callable[[Damage], None]) -> None:
    """Run the page's ledger cells with damaged equations in place of the printed ones."""
    page = read_page(path)
    printed = {e.label: e.tex for e in page.equations if e.label}

    def damaging(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Ledger, label: str, tex: str | None = None, *args: Any, **options: Any) -> Any:
            if tex is None and "statement" not in options:
                tex = printed.get(label)  # as the check itself takes it from the page
            for kind, damaged in chosen(label, tex, each, seed) if tex is not None and label in printed else ():
                changed = dict(options)
                unread = options.get("unread")
                if isinstance(unread, dict):
                    changed["unread"] = {_alike(part, str(tex), damaged): why for part, why in unread.items()}
                self.entries.pop(label, None)
                found: tuple[str, str | None, str]
                try:
                    entry = original(self, label, damaged, *args, **changed)
                    found = "accepted", entry.strength or entry.kind, ""
                except CheckFailed as error:
                    found = "caught", None, one_line(str(error))
                except LedgerError as error:
                    found = "refused", None, one_line(str(error))
                except Exception as error:
                    found = "error", None, f"{type(error).__name__}: {one_line(str(error))}"
                report(Damage(label, kind, str(tex), damaged, *found))
            self.entries.pop(label, None)
            return original(self, label, tex, *args, **options) if label not in printed else None

        return call

    before = {kind: getattr(Ledger, kind) for kind in KINDS}
    try:
        for kind, original in before.items():
            setattr(Ledger, kind, damaging(original))
        run(page, (), False, lambda _: None)
    finally:
        for kind, original in before.items():
            setattr(Ledger, kind, original)


def damage_pages(files: Sequence[Path], each: int, seed: int) -> Iterator[tuple[Path, Damage]]:
    """Every misprint tried, page by page, each page in a process of its own."""
    for path in files:
        command = [sys.executable, "-m", "texledger._damage", str(each), str(seed), str(path.resolve())]
        environment = {"MPLBACKEND": "Agg", **os.environ}
        with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, env=environment) as process:
            assert process.stdout is not None
            for line in process.stdout:
                yield path, Damage(**json.loads(line))
        if process.returncode:
            raise LedgerError(f"{path}: the page's process ended with status {process.returncode}.")


def summary(found: Sequence[Damage]) -> str:
    """How many misprints had which fate, and where both sides are read."""
    fates = Counter(d.fate for d in found)
    rejected = len(found) - fates["accepted"]
    share = f"{100 * rejected / len(found):.1f} %" if found else "none"
    listed = ", ".join(f"{count} {fate}" for fate, count in sorted(fates.items()))
    return f"{len(found)} misprints: {listed}; {share} not accepted"


def main(arguments: Sequence[str]) -> None:
    """``python -m texledger._damage EACH SEED FILE``: a line of JSON for each damaged equation."""
    each, seed, path = int(arguments[0]), int(arguments[1]), Path(arguments[2]).resolve()
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.chdir(path.parent)
    sys.path.insert(0, "")
    sys.argv = [""]

    def report(damage: Damage) -> None:
        channel.write(json.dumps(asdict(damage)) + "\n")
        channel.flush()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try_page(path, each, seed, report)


if __name__ == "__main__":
    main(sys.argv[1:])
