"""How `gpu.py` works through its list: items, processes that may hang or crash, a clock, whole files, one table.

An item is one function under the decorator `item`; what it finds it hands over as it finds it (`Bench.row`,
`Bench.claim`, `Bench.fact`). The main process imports neither PyTorch nor anything that could take it down: items run
one after the other in a child, which is replaced when one hangs, runs over its time or breaks CUDA; those that are
marked `apart` run side by side, in a child each.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import fnmatch
import functools
import hashlib
import importlib.metadata
import importlib.util
import itertools
import json
import math
import multiprocessing
import os
import platform
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

ROOT = Path(__file__).resolve().parent.parent
PATHS = (ROOT, ROOT / "texledger" / "src", ROOT / "tests", ROOT / "benchmarks")
PRELOADED = ["torch", "numpy", "scipy.optimize", "sympy", "mpmath"]  # once, before the children part
# What an item, or a rerun, may end with. Those of DONE are not run again in the same folder.
PASSES, FAILS, MET, NOT_MET, MEASURED = "passes", "fails", "met", "not met", "measured"
LEFT_OUT, RAISED, TIMED_OUT, CRASHED, NOT_REACHED = "left out", "raised", "timed out", "crashed", "not reached"
RESERVED = 0.3  # of the minutes, for the items that are apart: none is left unseen because others were slow
DONE = (PASSES, FAILS, MET, NOT_MET, MEASURED)
VERDICTS = (*DONE, LEFT_OUT, RAISED, TIMED_OUT, CRASHED, NOT_REACHED)
BAD = (FAILS, RAISED, TIMED_OUT, CRASHED)
PAGE = {MET: "holds", PASSES: "holds", NOT_MET: "fails", FAILS: "fails"}  # the words of the results page
Record = dict[str, Any]


@dataclass(frozen=True)
class Item:
    """One line of the list. `group` is the letter of its file; `seconds` its budget, on a GPU and on a tiny CPU run."""

    name: str
    group: str
    title: str
    seconds: float
    tiny: float
    needs: tuple[str, ...]
    gpu: bool
    apart: bool
    chapter: str | None
    work: Callable[[Bench], object]


ITEMS: list[Item] = []


def item(
    group: str,
    title: str,
    *,
    seconds: float,
    tiny: float = 90.0,
    needs: Sequence[str] = (),
    gpu: bool = False,
    apart: bool = False,
    chapter: str | None = None,
    name: str | None = None,
) -> Callable[[Callable[[Bench], object]], Callable[[Bench], object]]:
    """Put a function on the list, in the order of the file. It gets a `Bench`; what it returns is its number, in words.

    Args:
        group: letter of the file in which the result is kept, one of `GROUPS`.
        title: of its line in the table.
        seconds: after which it is stopped, keeping what it has handed over; `tiny`: the same for a run on a CPU.
        needs: modules without which it is left out, and named.
        gpu: whether it has nothing to do on a CPU.
        apart: run it beside its neighbours that are also marked, in a process of its own: for what is not timed.
        chapter: whose operation is compared; the results page puts a part of its own under it.
        name: unique, of letters, digits and -; None: that of the function.

    Raise AssertionError where something is found wrong ("fails"); any other error counts as "raised".
    """

    def put(work: Callable[[Bench], object]) -> Callable[[Bench], object]:
        called = name or getattr(work, "__name__", "item").replace("_", "-")
        same = lambda each: (each.name, each.group, each.title) == (called, group, title)
        ITEMS[:] = [each for each in ITEMS if not same(each)]  # its module is imported anew
        if called in {each.name for each in ITEMS} or group not in GROUPS:
            raise ValueError(f"item: {called!r} in group {group!r}: the name is taken, or the group none of {GROUPS}.")
        ITEMS.append(Item(called, group, title, seconds, tiny, tuple(needs), gpu, apart, chapter, work))
        return work

    return put


GROUPS = {
    "a": "ceilings",
    "b": "tests",
    "c": "peers",
    "d": "chapters",
    "e": "recipes",
    "f": "picture",
}


class Leave(Exception):
    """Raised by an item that finds, while it runs, that it cannot be run here."""


class Bench:
    """What an item has: the device, whether sizes are tiny, its clock, and where to hand over what it finds."""

    def __init__(self, send: Callable[[Record], None], device: str, tiny: bool, folder: Path) -> None:
        import torch

        self.send, self.tiny, self.folder = send, tiny, folder
        self.device: torch.device = torch.device(device)
        self.gpu = self.device.type == "cuda"
        self.capability: tuple[int, int] = torch.cuda.get_device_capability() if self.gpu else (0, 0)
        self.end = math.inf
        self.shares: Record = {}

    @property
    def left(self) -> float:
        """Seconds until this item is stopped."""
        return self.end - time.monotonic()

    @property
    def halves(self) -> list[torch.dtype]:
        """The half precisions the card computes in: a T4 has no bfloat16. On a CPU both, for the formulas' sake."""
        import torch

        return [torch.float16, torch.bfloat16] if not self.gpu or self.capability >= (8, 0) else [torch.float16]

    def fact(self, name: str, value: object) -> None:
        """Keep a number or words under a name."""
        self.send({"facts": {name: value}})

    def claim(self, text: str, holds: bool | None, measured: str, where: str = "") -> None:
        """A goal and whether it is met; None: it could not be judged here, and `where` says why."""
        verdict = "not run" if holds is None else "holds" if holds else "fails"
        self.send({"claims": [{"claim": text, "measured": measured, "verdict": verdict, "where": where}]})

    def row(self, row: Mapping[str, Any]) -> None:
        """A measurement beside its rivals, shaped as in `benchmarks/results`."""
        self.send({"rows": [dict(row)]})

    def check(self, what: str, holds: bool, found: object = "") -> None:
        """Keep what was looked at; AssertionError where it does not hold."""
        self.send({"checks": [{"what": what, "holds": bool(holds), "found": str(found)}]})
        assert holds, f"{what}: {found}"

    def interleave(self, calls: Mapping[str, Callable[[], object]], rounds: int = 9, sample: float = 0.02) -> Record:
        """`_common.interleave`, with fewer and shorter samples on a tiny run."""
        from _common import interleave

        return interleave(calls, *((2, 0.0) if self.tiny else (rounds, sample)))

    def compile(self, f: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        """`torch.compile`; on a tiny run only traced, for a C++ compiler takes half a minute a function."""
        import torch

        return torch.compile(f, **({"backend": "aot_eager"} if self.tiny else {}), **options)

    def copy_rate(self) -> float:
        """Bytes a second, read and written, of a copy of half a gigabyte, measured beside what is compared with it."""
        import torch

        source = torch.zeros(2 ** (16 if self.tiny else 27), device=self.device)
        target = torch.empty_like(source)
        return 2 * source.nbytes / self.interleave({"copy": lambda: target.copy_(source)}, 5)["copy"]["median_ms"] * 1e3

    def free(self) -> None:
        """Forget compiled code and give memory back."""
        import gc

        import torch

        if "torch._dynamo" in sys.modules:  # else there is nothing compiled, and a second of imports to find that out
            torch.compiler.reset()
        gc.collect()
        if self.gpu:
            torch.cuda.empty_cache()


def missing(names: Sequence[str]) -> list[str]:
    """Those of the modules that are not installed; nothing is imported."""

    def absent(name: str) -> bool:
        try:
            return importlib.util.find_spec(name) is None
        except (ImportError, ValueError):
            return True

    return [name for name in names if absent(name)]


def digest() -> str:
    """Of everything that a result may depend on: a rerun repeats what another state of the sources has found."""
    sources = hashlib.sha256()
    for folder in ("gantext", "texledger/src", "benchmarks", "notebooks", "tests/kernels"):
        for file in sorted((ROOT / folder).rglob("*")):
            if file.suffix in (".py", ".md") and not (folder == "notebooks" and file.suffix == ".py"):
                sources.update(str(file.relative_to(ROOT)).encode() + file.read_bytes())
    return sources.hexdigest()[:12]


def clean(value: Any, digits: int = 5) -> Any:
    """What JSON can hold: floats to so many digits, None for NaN and infinity, words for the rest."""
    if isinstance(value, Mapping):
        return {str(key): clean(each, digits) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(each, digits) for each in value]
    if isinstance(value, float):
        return float(f"{value:.{digits}g}") if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def write(path: Path, text: str | bytes) -> None:
    """Whole or not at all."""
    draft = path.with_name(f"{path.name}.tmp")
    draft.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    draft.replace(path)


def about(device: str) -> Record:
    """Date, device and versions, for the record; in a child, for it imports PyTorch."""
    import torch
    from _common import device_name

    versions = {"python": platform.python_version()}
    for name in ("torch", "triton", "numpy", "scipy", "scikit-learn", "numba", "transformers", "accelerate"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    import gantext

    found: Record = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "device": torch.cuda.get_device_name() if device == "cuda" else device_name(),
        "gpu": device == "cuda",
        "versions": {**versions, "gantext": gantext.__version__},
    }
    if device == "cuda":
        found |= {"capability": list(torch.cuda.get_device_capability()), "cuda": torch.version.cuda}
        found["memory_gb"] = torch.cuda.get_device_properties(0).total_memory / 1e9
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            asked = "driver_version,clocks.sm,clocks.mem,clocks.max.sm,clocks.max.mem,power.limit,temperature.gpu"
            command = ["nvidia-smi", f"--query-gpu={asked}", "--format=csv,noheader"]
            answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
            found["nvidia_smi"] = dict(zip(asked.split(","), answer.splitlines()[0].split(", "), strict=False))
    return found


# The children. -----------------------------------------------------------------------------------------------------


def serve(link: Connection, file: str, device: str, tiny: bool, folder: str) -> None:
    """A child: run the items that it is sent the names of, with the seconds for each, until it is sent none."""
    os.setsid()  # so that it can be ended with its own children
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process decides
    sys.path[:0] = [str(path) for path in PATHS if str(path) not in sys.path]
    ahead, lock = threading.Event(), threading.Lock()
    asked: list[tuple[str, float]] = []

    def listen() -> None:  # without the main process there is nobody to work for
        with contextlib.suppress(EOFError, OSError):
            while one := link.recv():
                asked.append(one)
                ahead.set()
        os._exit(0)

    def send(message: Record) -> None:
        with lock:
            link.send(clean(message))

    threading.Thread(target=listen, daemon=True).start()
    with contextlib.suppress(ImportError):
        from tqdm import tqdm

        tqdm.set_lock(threading.RLock())  # its own is shared by processes, and left behind by one that is killed
    try:
        items = {each.name: each for each in load(file)}
        bench = Bench(send, device, tiny, Path(folder))
        send({"about": about(device)})
    except BaseException:
        send({"end": CRASHED, "error": traceback.format_exc(limit=20)})
        raise
    while True:
        ahead.wait()
        ahead.clear()
        name, seconds = asked.pop()
        send(perform(items[name], bench, seconds))


def perform(each: Item, bench: Bench, seconds: float) -> Record:
    """How an item that has so many seconds ends: verdict, number, traceback."""
    import torch

    goals: list[str] = []
    plain = bench.send

    def send(message: Record) -> None:
        goals.extend(claim["verdict"] for claim in message.get("claims", []))
        plain(message)

    bench.send = send
    bench.end = time.monotonic() + seconds
    torch.manual_seed(0)
    end: Record = {}
    try:
        with torch.random.fork_rng(devices=[]):
            number = each.work(bench)
        if bench.gpu:
            torch.cuda.synchronize()  # an error of a kernel belongs to the item that started it
        judged = [verdict for verdict in goals if verdict != "not run"]
        verdict = MEASURED if not judged else NOT_MET if "fails" in judged else MET
        end = {"end": PASSES if each.group in "bd" and verdict == MEASURED else verdict, "number": number or ""}
    except Leave as reason:
        end = {"end": LEFT_OUT, "number": str(reason)}
    except AssertionError as error:
        end = {"end": FAILS, "number": shorten(str(error)), "error": traceback.format_exc(limit=-12)}
    except BaseException as error:
        broken = bench.gpu and any(word in str(error) for word in ("CUDA error", "device-side assert", "illegal"))
        end = {"end": RAISED, "number": shorten(f"{type(error).__name__}: {error}"), "broken": broken}
        end["error"] = traceback.format_exc(limit=-12)
    finally:
        bench.send = plain
    with contextlib.suppress(Exception):
        bench.free()
    return end


def shorten(text: str, most: int = 160) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"


def load(file: str) -> list[Item]:
    """The list of a file of items, whose module is not the main one."""
    if not ITEMS:
        spec = importlib.util.spec_from_file_location("gpu_items", file)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules["gpu_items"] = module
        spec.loader.exec_module(module)
    return ITEMS


class Child:
    """A process that runs items, and what it has said."""

    def __init__(self, start: Callable[[Connection], Any]) -> None:
        self.link, theirs = multiprocessing.Pipe()
        self.process = start(theirs)
        theirs.close()
        self.ready = False

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self.process.pid:
                os.killpg(self.process.pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError, AttributeError):
            self.process.kill()
        self.process.join(10)
        self.link.close()


# The main process. -------------------------------------------------------------------------------------------------


@dataclass
class Book:
    """All records, and the files in which they are kept: one for each group, and `gpu.json` for the results page."""

    folder: Path
    items: Sequence[Item]
    source: str
    about: Record = field(default_factory=dict)
    records: dict[str, Record] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)  # items that are apart end at any time

    def __post_init__(self) -> None:
        for path in self.folder.glob("[a-f]-*.json"):  # what an earlier run has found stays until it is found anew
            with contextlib.suppress(ValueError, KeyError, TypeError):
                kept = json.loads(path.read_text(encoding="utf-8"))
                self.records |= {record["item"]: {"chapter": None, **record} for record in kept["items"]}

    def done(self, each: Item, device: str) -> bool:
        """Whether an earlier run in this folder has a final verdict for the same sources and device."""
        kept = self.records.get(each.name, {})
        return kept.get("verdict") in DONE and kept.get("source") == self.source and kept.get("device") == device

    def keep(self, each: Item, record: Record) -> None:
        self.records[each.name] = record
        order = {one.name: k for k, one in enumerate(self.items)}
        mine = [r for r in self.records.values() if r["group"] == each.group]
        mine.sort(key=lambda r: order.get(r["item"], len(order)))
        kept = {"schema": 1, "group": GROUPS[each.group], **self.about, "source": self.source, "items": clean(mine)}
        text = json.dumps(kept, indent=1, allow_nan=False, ensure_ascii=False)
        write(self.folder / f"{each.group}-{GROUPS[each.group]}.json", text + "\n")

    def publish(self) -> None:
        """`gpu.json`, in the shape of the files in `benchmarks/results`: what was found on this device."""
        records = [self.records[each.name] for each in self.items if each.name in self.records]
        mine = [r for r in records if r.get("device") == self.about.get("device")]
        facts = [[r["title"], name, words(value)] for r in mine for name, value in r["facts"].items() if name != "tail"]
        tables = [{"title": "Every item", "head": HEAD, "rows": [line(r) for r in mine]}]
        tables += [{"title": "What else was found", "head": ["item", "what", "value"], "rows": facts}] if facts else []
        page = {
            "schema": 1,
            "title": f"Everything on one device: {self.about.get('device', 'unknown')}",
            "chapter": None,
            **self.about,
            "source": self.source,
            "rows": [],
            "claims": [],
            "tables": tables,
            "parts": [part(r) for r in mine if r["rows"] or r["claims"]],
        }
        text = json.dumps(clean(page), indent=1, allow_nan=False, ensure_ascii=False)
        write(self.folder / "gpu.json", text + "\n")


def part(record: Record) -> Record:
    """What the results page shows of an item beside the others: measurements, goals, and of when they are."""
    kept = {key: record[key] for key in ("item", "title", "chapter", "date", "source", "rows", "claims")}
    return {**kept, "title": record["title"][:1].upper() + record["title"][1:]}


HEAD = ["item", "verdict", "number", "seconds"]


def line(record: Record) -> list[str]:
    return [record["title"], record["verdict"], record["number"], f"{record['seconds']:.1f}"]


def words(value: object) -> str:
    """For the page: without the places of this machine's files."""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return re.sub(r"(?<![\w.)\]])/(?:[\w.+-]+/)+(?=[\w.+-])", "", text.replace(f"{ROOT}/", ""))


def blank(each: Item, verdict: str, number: str = "") -> Record:
    record: Record = {"item": each.name, "group": each.group, "title": each.title, "verdict": verdict}
    record |= {"chapter": each.chapter, "number": number, "seconds": 0.0}
    return {**record, "rows": [], "claims": [], "checks": [], "facts": {}}


class Run:
    """One pass over the list within so many minutes."""

    def __init__(self, given: argparse.Namespace, file: str, items: Sequence[Item]) -> None:
        self.given, self.file, self.items = given, file, items
        self.end = time.monotonic() + 60 * given.minutes
        self.tiny = given.tiny
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(PRELOADED)
        self.child: Child | None = None
        self.book = Book(given.out, ITEMS, digest())  # also what an earlier run with other items has found

    def start(self) -> Child:
        arguments = self.file, self.given.device, self.tiny, str(self.given.out)

        def begin(link: Connection) -> Any:
            process = self.context.Process(target=serve, args=(link, *arguments), daemon=False)
            process.start()
            return process

        return Child(begin)

    def prepare(self) -> None:
        """The first child says what the device is."""
        self.child = self.start()
        if not self.child.link.poll(120):
            raise SystemExit("gpu.py: PyTorch did not start within two minutes.")
        with contextlib.suppress(EOFError):
            said = self.child.link.recv()
            if "about" in said:
                self.book.about, self.child.ready = said["about"], True
                return
            print(said.get("error", ""), file=sys.stderr)
        raise SystemExit(f"gpu.py: nothing runs on the device {self.given.device!r}.")

    def go(self) -> None:
        self.prepare()
        queue = [each for each in self.items if not self.settled(each)]
        put_off: list[Item] = []
        while queue or put_off:
            if not any(each.apart for each in queue):  # what was put off comes right behind those that are apart
                queue, put_off = put_off + queue, []
            first = queue[0]
            spare = self.end - time.monotonic() - RESERVED * 60 * self.given.minutes
            if not first.apart and any(each.apart for each in queue) and spare < 0.5 * self.budget(first):
                put_off.append(queue.pop(0))
                continue
            together = [first]
            if first.apart:  # with its neighbours that are apart as well
                together = list(itertools.takewhile(lambda each: each.apart, queue))
            queue = queue[len(together) :]
            if first.apart:
                self.side_by_side(together)
            else:
                self.child = self.one(first, self.child)
        if self.child:
            self.child.kill()

    def settled(self, each: Item) -> bool:
        """Whether nothing is left to do for an item: found before, or not to be had here."""
        if not self.given.again and self.book.done(each, self.book.about["device"]):
            say(f"{each.name}: {self.book.records[each.name]['verdict']}, from an earlier run")
            return True
        absent = missing(each.needs)
        if absent or (each.gpu and self.given.device != "cuda"):
            self.finish(each, blank(each, LEFT_OUT, f"needs {', '.join(absent)}" if absent else "needs a GPU"))
            return True
        return False

    def budget(self, each: Item) -> float:
        return each.tiny if self.tiny else each.seconds

    def one(self, each: Item, child: Child | None) -> Child | None:
        """Run an item in the child; None where the child is lost."""
        budget = min(self.budget(each), self.end - time.monotonic())
        if budget < 0.15 * self.budget(each):
            self.finish(each, blank(each, NOT_REACHED, "the minutes were over"))
            return child
        child = child or self.start()
        began, record = time.monotonic(), blank(each, TIMED_OUT)
        deadline = began + budget + (0 if child.ready else 60)  # a new child imports first
        say(f"{each.name} ...")
        with contextlib.suppress(OSError):
            child.link.send((each.name, budget))
        while True:
            if not child.link.poll(max(0.0, deadline - time.monotonic())):
                cut = f"stopped after {time.monotonic() - began:.0f} s; kept: {kept(record)}"
                self.finish(each, {**record, "verdict": TIMED_OUT, "number": cut}, began)
                child.kill()
                return None
            try:
                said = child.link.recv()
            except (EOFError, OSError):
                child.process.join(5)
                code = f"the process ended with {child.process.exitcode}"
                self.finish(each, {**record, "verdict": CRASHED, "number": code}, began)
                child.kill()
                return None
            if "about" in said:
                child.ready = True
                began, deadline = time.monotonic(), time.monotonic() + budget
            elif "end" in said:
                found = {"verdict": said["end"], "number": said.get("number", ""), "error": said.get("error")}
                self.finish(each, {**record, **{k: v for k, v in found.items() if v is not None}}, began)
                if said.get("broken") or not child.ready:
                    child.kill()
                    return None
                return child
            else:
                for key, value in said.items():
                    if key == "facts":
                        record["facts"] |= value
                    else:
                        record[key] += value
                self.stamp(record, began)
                with self.book.lock:
                    self.book.keep(each, record)

    def side_by_side(self, together: Sequence[Item]) -> None:
        """Items that are not timed, in threads that each watch a child of their own."""
        waiting, lock = list(together), threading.Lock()

        def work() -> None:
            while True:
                with lock:
                    if not waiting:
                        return
                    each = waiting.pop(0)
                child = self.one(each, None)
                if child:
                    child.kill()

        jobs = min(len(together), self.given.jobs or max(1, (os.cpu_count() or 2) // 2))
        threads = [threading.Thread(target=work, daemon=True) for _ in range(jobs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.2)  # so that an interrupt is heard

    def stamp(self, record: Record, began: float) -> None:
        here = self.book.about
        record |= {"seconds": time.monotonic() - began, "device": here.get("device"), "date": here.get("date")}
        record["source"] = self.book.source

    def finish(self, each: Item, record: Record, began: float | None = None) -> None:
        self.stamp(record, began if began is not None else time.monotonic())
        with self.book.lock:
            earlier = self.book.records.get(each.name)
            if earlier and earlier.get("verdict") in DONE and record["verdict"] in (NOT_REACHED, LEFT_OUT):
                return  # an older result is better than none; it has its own date and sources
            self.book.keep(each, record)
            self.book.publish()
        say(f"{each.name}: {record['verdict']}  {record['number']}  ({record['seconds']:.1f} s)")
        if record["verdict"] in BAD and record.get("error"):
            say(record["error"])

    def table(self) -> str:
        rows = [HEAD, *(line(self.book.records[e.name]) for e in self.items if e.name in self.book.records)]
        widths = [min(60, max(len(row[k]) for row in rows)) for k in range(4)]
        return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def kept(record: Record) -> str:
    counts = {key: len(record[key]) for key in ("rows", "claims", "checks", "facts") if record[key]}
    return ", ".join(f"{count} {key}" for key, count in counts.items()) or "nothing"


say = functools.partial(print, file=sys.stderr, flush=True)


def main(file: str, arguments: Sequence[str] | None = None) -> int:
    """The command line of a file of items. Returns 1 if something failed, 130 if it was interrupted."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--minutes", type=float, default=8.0, help="how long it may take in all (default 8)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results; a rerun goes on in it")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="sizes at which nothing is learnt but that it runs")
    parser.add_argument("--only", default="*", help="items by name, comma-separated, with * and ?")
    parser.add_argument("--again", action="store_true", help="also what this folder has from the same sources")
    parser.add_argument("--jobs", type=int, default=0, help="how many items that are not timed run side by side")
    given = parser.parse_args(arguments)
    if not (math.isfinite(given.minutes) and given.minutes > 0):
        parser.error(f"--minutes is {given.minutes}, must be > 0.")
    names = given.only.split(",")
    items = [each for each in load(file) if any(fnmatch.fnmatch(each.name, pattern) for pattern in names)]
    if not items:
        parser.error(f"--only {given.only}: no such item; there are {', '.join(each.name for each in ITEMS)}.")
    if absent := missing(["torch", "numpy"]):
        parser.error(f"{' and '.join(absent)} missing: nothing can be run.")
    given.out = given.out.resolve()
    try:
        given.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out {given.out} cannot be made ({error}): name a folder that can be written.")
    if given.device == "cpu" and not missing(["triton"]):
        os.environ["TRITON_INTERPRET"] = "1"  # the kernels run here too, a thousand times slower
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ["HF_HUB_OFFLINE"] = "1"
    sys.path[:0] = [str(path) for path in PATHS if str(path) not in sys.path]
    os.environ["PYTHONPATH"] = os.pathsep.join([*map(str, PATHS), *filter(None, [os.environ.get("PYTHONPATH")])])
    stack = contextlib.ExitStack()
    from gantext._files import held  # now that it is on the path

    try:
        stack.enter_context(held("gpu.py", given.out))
    except ValueError as error:
        parser.error(str(error))
    run, code = Run(given, file, items), 0
    try:
        run.go()
    except KeyboardInterrupt:
        code = 130
        say("interrupted: what was found is kept; the same command goes on")
    finally:
        for process in multiprocessing.active_children():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid or 0, signal.SIGKILL)
        stack.close()
    if run.book.about:
        run.book.publish()
    print(run.table(), flush=True)
    return code or int(any(run.book.records.get(e.name, {}).get("verdict") in BAD for e in items))
