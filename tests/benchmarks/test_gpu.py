"""`benchmarks/gpu.py`: on a CPU, at tiny sizes, all of it runs; and what goes wrong costs nothing but itself."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _pretended
import pytest
import torch

from gantext._files import held

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks"
DEVICE = ["--device", "cpu", "--tiny"]
Found = dict[str, Any]
needs_inside = pytest.mark.skipif(not _pretended.POSSIBLE, reason="this PyTorch lacks what a pretended GPU is made of")


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)


def command(script: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, str(script), *DEVICE, "--out", str(out), *more]


def environment(*first: Path) -> dict[str, str]:
    paths = [*map(str, first), str(BENCHMARKS), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}


def records(out: Path) -> dict[str, Found]:
    """Every item of every file, by its name; each file is whole."""
    found: dict[str, Found] = {}
    for file in sorted(out.glob("[a-f]-*.json")):
        kept = json.loads(
            file.read_text(encoding="utf-8"), parse_constant=lambda word: pytest.fail(f"JSON has no {word}")
        )
        assert kept["schema"] == 1 and kept["device"] and re.fullmatch(r"\d{4}-\d\d-\d\d", kept["date"])
        found |= {record["item"]: record for record in kept["items"]}
    return found


def sound(out: Path) -> None:
    """Few small files with plain names, nothing half written, and the one for the results page has its shape."""
    files = sorted(out.iterdir())
    assert len(files) <= 8 and all(re.fullmatch(r"[A-Za-z0-9._-]+", file.name) for file in files), files
    assert all(file.stat().st_size < 400_000 and file.suffix != ".tmp" for file in files)
    page = json.loads((out / "gpu.json").read_text(encoding="utf-8"))
    assert {"title", "chapter", "date", "device", "gpu", "versions", "parts", "tables"} <= set(page)
    for row in [row for part in page["parts"] for row in part["rows"]]:
        assert row["what"] and row["dtype"] and row["size"] and row["ratio"] > 0
        assert {"ours"} < set(row["results"])
        for times in row["results"].values():
            assert 0 < times["min_ms"] <= times["median_ms"] <= times["max_ms"] and "error" in times
    for claim in [claim for part in page["parts"] for claim in part["claims"]]:
        assert set(claim) == {"claim", "measured", "verdict", "where"} and claim["claim"] and claim["measured"]
        assert claim["verdict"] in ("holds", "fails", "not run")


ITEMS = '''
    """A list of five."""
    import os, sys, time
    from _gpu import Leave, item, main

    @item("a", "measures", seconds=20, needs=["json"])
    def first(bench):
        with open(os.environ["COUNT"], "a") as file:
            file.write("first ")
        bench.fact("pi", 3.14159265)
        bench.fact("nothing", float("nan"))
        bench.row({"what": "w", "dtype": "float32", "size": "1", "ratio": 2.0,
                   "results": {"ours": {"median_ms": 1.0, "min_ms": 1.0, "max_ms": 1.0, "error": None},
                               "theirs": {"median_ms": 2.0, "min_ms": 2.0, "max_ms": 2.0, "error": None}}})
        return "one"

    @item("b", "raises", seconds=20)
    def second(bench):
        bench.fact("before", 1)
        raise KeyError("the key that is not there")

    @item("b", "does not hold", seconds=20)
    def third(bench):
        bench.check("two is two", True)
        bench.check("one is two", 1 == 2, "1")

    @item("c", "takes too long", seconds=300, tiny=1.5)
    def fourth(bench):
        bench.claim("was claimed before the end", True, "1", "here")
        time.sleep(float(os.environ.get("SLEEP", "60")))
        return "slept"

    @item("c", "dies", seconds=20)
    def fifth(bench):
        if os.environ.get("DIE", "1") == "1":
            os._exit(3)

    @item("d", "needs what is blocked", seconds=20, needs=["gensim", "json", "no_such_module"])
    def sixth(bench):
        raise AssertionError("not reached")

    @item("d", "finds that it cannot", seconds=20, apart=True)
    def seventh(bench):
        raise Leave("no such chapter")

    @item("d", "beside the other", seconds=20, apart=True)
    def eighth(bench):
        bench.check("it is right", True)

    @item("e", "on a GPU only", seconds=20, gpu=True)
    def ninth(bench):
        raise AssertionError("not reached")

    @item("f", "the last", seconds=20)
    def last(bench):
        with open(os.environ["COUNT"], "a") as file:
            file.write("last ")
        return "reached"

    if __name__ == "__main__":
        sys.exit(main(__file__))
'''


@pytest.fixture
def listed(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A list of items in a file of its own, and an environment in which gensim cannot be imported."""
    script = tmp_path / "listed.py"
    script.write_text(textwrap.dedent(ITEMS))
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "sitecustomize.py").write_text("import sys\nsys.modules['gensim'] = None\n")
    return script, {**environment(blocked), "COUNT": str(tmp_path / "count")}


def test_each_item_ends_with_its_verdict_and_the_run_goes_on(listed: Any, tmp_path: Path) -> None:
    script, env = listed
    ran = subprocess.run(command(script, tmp_path / "out"), env=env, capture_output=True, text=True, timeout=200)
    assert ran.returncode == 1, ran.stderr
    found = records(tmp_path / "out")
    assert {name: record["verdict"] for name, record in found.items()} == {
        "first": "measured",
        "second": "raised",
        "third": "fails",
        "fourth": "timed out",
        "fifth": "crashed",
        "sixth": "left out",
        "seventh": "left out",
        "eighth": "passes",
        "ninth": "left out",
        "last": "measured",
    }
    assert found["first"]["facts"] == {"pi": 3.1416, "nothing": None} and len(found["first"]["rows"]) == 1
    assert "KeyError: 'the key that is not there'" in found["second"]["error"] and found["second"]["facts"]
    assert [check["holds"] for check in found["third"]["checks"]] == [True, False]
    assert "one is two: 1" in found["third"]["number"]
    assert found["fourth"]["claims"][0]["claim"] == "was claimed before the end" and found["fourth"]["seconds"] < 20
    assert "ended with 3" in found["fifth"]["number"]
    assert found["sixth"]["number"] == "needs gensim, no_such_module" and found["ninth"]["number"] == "needs a GPU"
    assert found["seventh"]["number"] == "no such chapter" and found["last"]["number"] == "reached"
    table = ran.stdout.splitlines()
    assert table[0].split() == ["item", "verdict", "number", "seconds"] and len(table) == 11
    assert all(record["title"] in "\n".join(table) for record in found.values())
    sound(tmp_path / "out")


def test_a_rerun_keeps_what_was_found_and_does_the_rest(listed: Any, tmp_path: Path) -> None:
    script, env = listed
    out, only = tmp_path / "out", ("--only", "first,fourth,last")
    run = lambda *more, **change: subprocess.run(
        command(script, out, *only, *more), env={**env, **change}, capture_output=True, text=True, timeout=200
    )
    run()
    assert records(out)["fourth"]["verdict"] == "timed out"
    assert run(SLEEP="0").returncode == 0
    assert {name: r["verdict"] for name, r in records(out).items()} == {
        "first": "measured",
        "fourth": "met",
        "last": "measured",
    }
    count = (tmp_path / "count").read_text()
    assert count.split() == ["first", "last"], "what was found was run again"
    run("--again", SLEEP="0")
    assert (tmp_path / "count").read_text().split() == ["first", "last"] * 2
    run("--again", "--minutes", "0.0001")  # no time for anything: nothing is lost
    assert {r["verdict"] for r in records(out).values()} == {"measured", "met"}


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupt_leaves_whole_files_and_no_process(how: signal.Signals, listed: Any, tmp_path: Path) -> None:
    script, env = listed
    out = tmp_path / "out"
    env = {**env, "SLEEP": "99"}
    text = script.read_text().replace("tiny=1.5", "tiny=90")
    script.write_text(text)
    with (tmp_path / "log").open("w") as log:
        run = subprocess.Popen(command(script, out, "--only", "first,fourth,last"), env=env, stdout=log, stderr=log)
    began = time.monotonic()
    while not (out / "c-peers.json").exists() and time.monotonic() - began < 100 and run.poll() is None:
        time.sleep(0.1)
    run.send_signal(how)
    code = run.wait(120)
    assert code == (130 if how == signal.SIGINT else -signal.SIGKILL), (tmp_path / "log").read_text()
    found = records(out)
    assert found["first"]["verdict"] == "measured" and found["fourth"]["claims"] and "last" not in found
    if how == signal.SIGINT:
        assert "measures" in (tmp_path / "log").read_text().split("interrupted")[1], "no table at the end"
    until = time.monotonic() + 10
    while (left := [words for words in processes() if str(tmp_path) in words]) and time.monotonic() < until:
        time.sleep(0.1)
    assert not left, f"still running: {left}"


def processes() -> list[str]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state = (folder / "stat").read_text().rsplit(")", 1)[1].split()[0]
            words = (folder / "cmdline").read_text() + (folder / "environ").read_text()
        except OSError:
            continue
        if state != "Z":
            found.append(words)
    return found


def test_bad_arguments_are_refused(tmp_path: Path) -> None:
    for more, message in (
        (["--minutes", "0"], "--minutes is 0.0, must be > 0"),
        (["--minutes", "nan"], "--minutes is nan"),
        (["--only", "no-such-item"], "no such item; there are copies"),
    ):
        ran = subprocess.run(
            command(BENCHMARKS / "gpu.py", tmp_path / "out", *more), capture_output=True, text=True, timeout=60
        )
        assert ran.returncode == 2 and message in ran.stderr
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").touch()
    for out, message in ((tmp_path / "file", "cannot be made"), (tmp_path / "used", "is in use by process")):
        with held("other", tmp_path / "used"):
            ran = subprocess.run(
                command(BENCHMARKS / "gpu.py", out, "--only", "picture"), capture_output=True, text=True, timeout=60
            )
        assert ran.returncode == 2 and f"{out} {message}" in ran.stderr.replace("\n", " "), ran.stderr


def test_everything_passes_at_tiny_sizes(tmp_path: Path) -> None:
    """The whole list but the chapters, which have tests of their own, with gensim, POT and matplotlib blocked."""
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "sitecustomize.py").write_text(
        "import sys\nsys.modules |= dict.fromkeys(['gensim', 'ot', 'matplotlib', 'jupytext', 'IPython'])\n"
    )
    out = tmp_path / "out"
    began = time.monotonic()
    given = command(BENCHMARKS / "gpu.py", out, "--only", "[!c]*,c[!h]*,chapter-gan-qp")
    ran = subprocess.run(given, env=environment(blocked), capture_output=True, text=True, timeout=400)
    spent = time.monotonic() - began
    assert ran.returncode == 0, ran.stderr[-6000:]
    from _gpu import DONE, load

    found, items = records(out), load(str(BENCHMARKS / "gpu.py"))
    names = [each.name for each in items]
    assert len(set(names)) == len(names) and {each.group for each in items} == set("abcdef")
    wanted = [name for name in names if not name.startswith("chapter-") or name == "chapter-gan-qp"]
    assert sorted(found) == sorted(wanted)
    assert {name: r["verdict"] for name, r in found.items() if r["verdict"] not in DONE} == {}
    assert not any(
        claim["verdict"] == "holds" for r in found.values() for claim in r["claims"] if "1.3x" in claim["claim"]
    )
    assert "without matplotlib, IPython, gensim, ot" in found["chapter-gan-qp"]["number"]
    assert (out / "picture.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    sound(out)
    assert all(each.title in ran.stdout for each in items if each.name in wanted)
    print(f"{spent:.0f} s")


def test_a_png_holds_the_images() -> None:
    import io

    from gpu import png
    from PIL import Image

    images = torch.linspace(-1, 1, 3 * 4 * 5).reshape(3, 4, 5)
    with Image.open(io.BytesIO(png(images, 2, scale=3))) as picture:
        assert picture.size == (2 * 7 * 3, 2 * 6 * 3)
        pixels = torch.tensor(list(picture.tobytes())).reshape(2 * 6 * 3, 2 * 7 * 3)[1::3, 1::3]
    assert torch.equal(pixels[1:5, 1:6], ((images[0] + 1) * 127.5).round().long())
    assert torch.equal(pixels[7:11, 1:6], ((images[2] + 1) * 127.5).round().long())


# Chapters. ---------------------------------------------------------------------------------------------------------


def run_chapter(path: Path, **options: Any) -> tuple[Found, list[Found]]:
    from _gpu_chapters import run

    told: list[Found] = []
    return run(path, told.append, lambda: 1e9, **options), told


CHAPTER = """
    # A chapter

    ```{code-cell} ipython3
    :tags: [hide-input]

    SCALE = "reduced"  # or "gpu"
    STEPS = {"reduced": 5, "gpu": 5000}[SCALE]
    import torch
    w = torch.zeros(1, requires_grad=True)
    ```

    ```python
    this is no cell
    ```

    ```{code-cell} ipython3
    ---
    tags: [x]
    mystnb:
      image:
        alt: |
          three
    ---
    sgd, count = torch.optim.SGD([w], 0.1), 0
    for k in range(1000):
        loss = (w - 1).square().sum()
        loss.backward()
        sgd.step()
        count += 1
    ```

    ```{code-cell} ipython3
    assert abs(w.item() - 1) < 1e-9, "not trained"
    after = w + 1
    assert count < 10
    ```

    ```{code-cell} ipython3
    assert 1 + 1 == 3
    ```

    ```{code-cell} ipython3
    made = undefined_name
    ```

    ```{code-cell} ipython3
    made + 1
    ```

    ```{code-cell} ipython3
    assert count > 900, "nothing to show"
    [][0]
    ```

    ```{code-cell} ipython3
    total = sum(k for k in range(1000))
    for k in range(50):
        total += 1
    ```
"""


def test_a_chapter_is_cut_and_its_errors_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "chapter.md"
    path.write_text(textwrap.dedent(CHAPTER))
    kept: Found = {}
    found, told = run_chapter(path, scope={"keep": kept})
    at = lambda text: next(k for k, line in enumerate(path.read_text().splitlines(), 1) if text in line)
    assert found["cells"] == found["run"] == 8
    assert found["cut"] == [f"chapter.md:{at(text)}: assertion {text}" for text in ("not trained", "nothing to show")]
    assert found["failed"] == [
        f"chapter.md:{at('1 + 1 == 3')}: assertion",
        f"chapter.md:{at('undefined_name')}: NameError: name 'undefined_name' is not defined",
    ]
    assert found["follows"] == [
        f"chapter.md:{at('made + 1')}: NameError: name 'made' is not defined",
        f"chapter.md:{at('[][0]')}: IndexError: list index out of range",  # the cell's own assertion was cut
    ]
    kinds = ["cut", "failed", "failed", "follows", "cut", "follows"]
    assert found["cuts"] == 2 and [record["kind"] for record in told] == kinds


def test_every_chapter_is_read_as_jupytext_reads_it() -> None:
    jupytext = pytest.importorskip("jupytext")
    from _gpu_chapters import cells, prepare
    from gpu import CHAPTERS

    chapters = sorted((ROOT / "notebooks").glob("*.md"))
    assert {path.stem for path in chapters} == set(CHAPTERS)
    for path in chapters:
        text = path.read_text(encoding="utf-8")
        ours = cells(text)
        theirs = [cell.source for cell in jupytext.reads(text, "md:myst").cells if cell.cell_type == "code"]
        assert [cell.source.strip() for cell in ours] == [source.strip() for source in theirs], path.name
        lines = text.splitlines()
        assert all(lines[cell.line - 1] == cell.source.splitlines()[0] for cell in ours), path.name
        for cell in ours:
            prepare(cell, path.name)
        assert 'SCALE = "reduced"' in text


def test_calls_are_timed_from_python_and_as_graphs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A goal is judged for both; what cannot be captured is named, and what reads the device is not tried."""
    import gpu
    from _gpu import Bench

    said: list[Found] = []
    bench = Bench(said.append, "cpu", tiny=True, folder=tmp_path)
    bench.gpu, tried = True, []

    def captured(bench: Bench, call: Callable[[], Any]) -> Callable[[], Any]:
        tried.append(call())
        if tried[-1] == "refused":
            raise RuntimeError("operation not permitted when stream is capturing")
        return call

    monkeypatch.setattr(gpu, "captured", captured)
    times = {"ours": 2.0, "one": 4.0, "reads": 1.0, "refused": 3.0}
    replayed = {"ours": 1.0, "one": 0.5}

    def interleave(calls: Found, rounds: int = 9) -> Found:
        chosen = times if len(calls) == 4 else replayed
        return {name: dict.fromkeys(("median_ms", "min_ms", "max_ms"), chosen[name]) for name in calls}

    monkeypatch.setattr(bench, "interleave", interleave)
    calls = {name: lambda name=name: name for name in times}
    rows = gpu.compared(bench, "sums", "size 3", calls, uncaptured=["reads"], errors={"ours": 0.1})
    assert tried == ["ours", "one", "refused"]
    assert [(row["what"], row["ratio"]) for row in rows] == [("sums", 2.0), ("sums, captured", 0.5)]
    assert set(rows[1]["results"]) == {"ours", "one"} and rows[0]["results"]["ours"]["error"] == 0.1
    assert any("refused not captured" in name for message in said for name in message.get("facts", {}))
    bench.tiny = False
    assert (
        gpu.goal(bench, "sums at least 1x", 1.0, rows)
        == "2.00 to 2.00 times as fast; 0.50 to 0.50 times as fast, in a CUDA graph"
    )
    claims = [claim for message in said for claim in message.get("claims", [])]
    assert [(claim["claim"], claim["verdict"]) for claim in claims] == [
        ("sums at least 1x, called from Python", "holds"),
        ("sums at least 1x, in a CUDA graph", "fails"),
    ]
    assert len(gpu.compared(bench, "sums", "size 3", calls, uncaptured=["ours"])) == 1


def test_matplotlib_draws_where_ipython_is_missing() -> None:
    """It looks at the version of an IPython that it finds among the modules."""
    from _gpu_chapters import NotHere, instead, stand_ins
    from matplotlib import pyplot as plt

    modules = stand_ins(["IPython", "gensim"])
    with instead(modules):
        figure = plt.figure()
        plt.close(figure)
        from gensim.models import KeyedVectors

        with pytest.raises(NotHere, match="needs gensim"):
            KeyedVectors.load_word2vec_format("words.txt")


def test_what_only_draws_has_a_stand_in() -> None:
    from _gpu_chapters import Anything, NotHere, stand_ins

    modules = stand_ins(["matplotlib", "IPython", "gensim", "ot"])
    plt: Any = modules["matplotlib.pyplot"]
    fig, axes = plt.subplots(2, 3, figsize=(8, 3))
    assert axes.shape == (2, 3) and len(plt.subplots(1, 3)[1]) == 3
    assert isinstance(plt.subplots()[1], Anything) and not isinstance(plt.subplots()[1], type(axes))
    (line,) = axes[0, 0].plot([1, 2], "o")
    counts, edges, patches = axes[0, 0].hist([1])
    line.set(color="red")
    fig.colorbar(line).ax.set_title("x")
    assert list(plt.gca()) == [] and float(edges) == 0.0 and patches is not None and counts is not None
    with plt.rc_context({"a": 1}):
        pass
    assert modules["IPython.display"].HTML("<p>") is not None
    gensim: Any = modules["gensim.models.doc2vec"]
    documents = [gensim.TaggedDocument(["a"], [k]) for k in range(4)]
    assert gensim.Doc2Vec(documents, vector_size=7).dv[[0, 1]].shape == (2, 7)
    with pytest.raises(NotHere, match="needs ot"):
        modules["ot"].emd2  # noqa: B018  # the access is the test


@needs_inside
def test_a_pretended_gpu_refuses_what_a_gpu_refuses() -> None:
    from gantext.gan import laws, methods, networks, training

    with _pretended.gpu():
        x = torch.randn(3, 4, device="cuda")
        refused: dict[str, Callable[[], object]] = {
            "found at least two devices": lambda: x + torch.randn(3, 4),
            "convert cuda:0 device type tensor to numpy": lambda: x.numpy(),
            "Expected a 'cuda' device type for generator": lambda: torch.randn(
                2, device="cuda", generator=torch.Generator()
            ),
            "Expected a 'cpu' device type for generator": lambda: torch.randn(2, generator=torch.Generator("cuda")),
        }
        for message, call in refused.items():
            with pytest.raises((RuntimeError, TypeError), match=message):
                call()
        assert torch.equal((x @ x.mT).cpu(), x.cpu() @ x.cpu().mT) and x.device.type == "cuda"
        assert (2 * x + torch.tensor(1.0))[torch.tensor([0, 2])].shape == (2, 4)  # what a GPU allows is allowed
        run = training.fit(
            networks.generator((2,)),
            networks.critic((2,)),
            laws.ring().sample,
            methods.wgan_gp(),
            steps=2,
            progress=False,
        )
        assert next(run.ema.parameters()).device.type == "cuda"
        with pytest.raises(RuntimeError, match="two devices"):
            run.ema(torch.randn(5, 16))
        assert run.ema.cpu()(torch.randn(5, 16)).device.type == "cpu"
    assert not torch.cuda.is_available() or torch.zeros(1, device="cuda").is_cuda


@needs_inside
@pytest.mark.filterwarnings("ignore")  # a chapter's own warnings are its notebook's affair
@pytest.mark.parametrize(
    ("chapter", "pattern", "smaller"),
    [
        ("cascading-rejection", r"sweep\.train\(", {}),
        ("gan-comparison", r"training\.fit\(\s*generator", {}),
        ("w-divergence", r"trained = fit\(", {"steps=500": "steps=20"}),
        ("o-gan", r"(?m)^def train\(", {}),
        ("conditional-layer-norm", r"in tiny\.items\(\)", {'"gpu": (256, 4)': '"gpu": (16, 2)'}),
    ],
)
def test_no_chapter_mixes_devices(chapter: str, pattern: str, smaller: dict[str, str]) -> None:
    """The cells that train, or bring a network of their own, with those that they need, on a GPU that is not there."""
    from _gpu_chapters import cells, needed

    path = ROOT / "notebooks" / f"{chapter}.md"
    text = path.read_text(encoding="utf-8")
    for size, instead in smaller.items():
        assert size in text
        text = text.replace(size, instead)
    with _pretended.gpu():
        found, told = run_chapter(path, only=needed(cells(text), re.compile(pattern)))
    assert found["run"] > 3 and found["cuts"] > 0
    mixed = [record for record in told if "device" in record["error"]]
    assert not mixed, mixed[0]["error"]


def test_slow_items_leave_time_for_those_that_are_apart(tmp_path: Path) -> None:
    """What would eat the reserve is put off until they are done."""
    script = tmp_path / "listed.py"
    script.write_text(
        textwrap.dedent(
            '''
            """Two."""
            import sys
            from _gpu import item, main

            @item("a", "large", seconds=1, tiny=3000)
            def large(bench):
                bench.fact("order", bench.left)

            @item("d", "beside", seconds=1, tiny=20, apart=True)
            def beside(bench):
                bench.check("seen", True)

            if __name__ == "__main__":
                sys.exit(main(__file__))
            '''
        )
    )
    given = command(script, tmp_path / "out", "--minutes", "10")
    ran = subprocess.run(given, env=environment(), capture_output=True, text=True, timeout=200)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr.index("beside:") < ran.stderr.index("large"), ran.stderr
    assert {name: record["verdict"] for name, record in records(tmp_path / "out").items()} == {
        "large": "measured",
        "beside": "passes",
    }
