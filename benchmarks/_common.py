"""What every benchmark shares: the environment's record, interleaved timing, and an atomic JSON file."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from tqdm import tqdm

import gantext
from gantext._files import held, whole
from gantext.statistics import half_width

if TYPE_CHECKING:  # the benchmarks of kernels need none of it
    from gantext.gan.features import Ruler
    from gantext.gan.images import Images

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def single_threaded() -> None:
    """Restart the script once with one BLAS thread: processor time counts threads that only wait."""
    if not torch.cuda.is_available() and os.environ.get("OPENBLAS_NUM_THREADS") != "1":
        os.environ["OPENBLAS_NUM_THREADS"] = "1"  # read when NumPy is imported
        os.execv(sys.executable, [sys.executable, *sys.argv])


def device() -> torch.device:
    """CUDA if there is one, else the CPU on one thread (see `seconds`). Call it first."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    torch.set_num_threads(1)
    return torch.device("cpu")


def device_name() -> str:
    """The model of the device, for a CPU with the threads in use."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return f"{model}, threads in use: {torch.get_num_threads()}"


def environment(*packages: str) -> dict[str, Any]:
    """Date, device, versions and threads: the part of a result file that says what was measured on."""
    versions = {name: importlib.metadata.version(name) for name in ("torch", "numpy", *packages)}
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "device": device_name(),
        "versions": {"python": platform.python_version(), **versions, "gantext": getattr(gantext, "__version__", "0")},
        "threads": torch.get_num_threads(),
        "load_before": None if load is None else round(load, 2),  # other work on the same cores: trust ratios only
    }


def tests_pass(path: str) -> bool:
    """Run a test file; its report goes to stderr."""
    command = [sys.executable, "-m", "pytest", str(ROOT / path), "-q"]
    return subprocess.run(command, cwd=ROOT, stdout=sys.stderr, check=False).returncode == 0


def begin(description: str | None, tests: str, *packages: str) -> tuple[int, torch.device, dict[str, Any]]:
    """Rounds asked for, device and record of a benchmark that is only run where the tests of its operation pass."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=9, help="samples per call, at least 7")
    rounds = max(7, parser.parse_args().rounds)
    single_threaded()
    if not tests_pass(tests):
        sys.exit(f"{tests} fails: nothing is reported until it passes.")
    place = device()
    torch.manual_seed(0)
    return rounds, place, environment(*packages)


def speed_claim(
    text: str,
    least: float,
    rows: Sequence[dict[str, Any]],
    *,
    rival: str | None = None,
    unit: str = "times as fast",
    remark: Callable[[dict[str, Any]], str] = lambda row: "",
) -> dict[str, str]:
    """Whether every row's ratio, that to `rival` if given, is at least `least`; where not, with a remark on the row."""

    def ratio(row: dict[str, Any]) -> float:
        results = row["results"]
        return results[rival]["median_ms"] / results["ours"]["median_ms"] if rival else row["ratio"]

    place = lambda row: f"{row['what']}, {row['size']}"
    slow, fast = min(rows, key=ratio), max(rows, key=ratio)
    behind = [f"{place(row)} ({ratio(row):.2f}{remark(row)})" for row in rows if ratio(row) < least]
    return {
        "claim": text,
        "measured": f"{ratio(slow):.2f} to {ratio(fast):.2f} {unit}",
        "verdict": "fails" if behind else "holds",
        "where": "below it: " + "; ".join(behind) if behind else f"every size; least at {place(slow)}",
    }


def seconds(call: Callable[[], object], repeats: int) -> float:
    """Mean time of one call: CUDA events on a GPU; on a CPU its processor time, which other work stretches little."""
    if torch.cuda.is_available():
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        for _ in range(repeats):
            call()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1e3 / repeats
    begin = time.process_time()
    for _ in range(repeats):
        call()
    return (time.process_time() - begin) / repeats


def interleave(
    calls: Mapping[str, Callable[[], object]], rounds: int = 9, sample: float = 0.03
) -> dict[str, dict[str, float]]:
    """Time several calls side by side, the order turned round every time, so that drift and noise meet all alike.

    Returns median, minimum and maximum of `rounds` samples in milliseconds; a sample repeats its call for about
    `sample` seconds.
    """
    repeats = {}
    for name, call in calls.items():
        call()  # warm-up: allocator, thread pool, lazily built kernels
        repeats[name] = max(1, round(sample / max(seconds(call, 1), 1e-6)))
    times: dict[str, list[float]] = {name: [] for name in calls}
    for k in range(rounds):
        for name in list(calls)[:: 1 if k % 2 == 0 else -1]:
            times[name].append(1e3 * seconds(calls[name], repeats[name]))
    return {name: {"median_ms": statistics.median(t), "min_ms": min(t), "max_ms": max(t)} for name, t in times.items()}


def sweep(keep: Callable[..., None], runs: Sequence[tuple[Any, ...]], path: Callable[..., Path], jobs: int) -> None:
    """Call `keep(*run)` for each run whose file `path(*run)` is not there yet, `jobs` of them side by side.

    Nobody else may do so in these folders at the same time: ValueError.
    """
    with contextlib.ExitStack() as stack:
        for folder in sorted({path(*run).parent for run in runs}):
            stack.enter_context(alone(folder))
        missing = [run for run in runs if not path(*run).exists()]
        pool = stack.enter_context(ProcessPoolExecutor(jobs))
        bar = stack.enter_context(tqdm(total=len(runs), initial=len(runs) - len(missing)))
        for done in as_completed(pool.submit(keep, *run) for run in missing):
            done.result()
            bar.update()


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Make the folder of a sweep; another process that sweeps in it is refused meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    with held("sweep", folder):
        yield


def store(file: Path, kept: dict[str, Any]) -> None:
    """Keep a run; an interrupted call leaves no file."""
    with whole(file) as draft:
        torch.save(kept, draft)


def kept_ruler(file: Path, digits: Images, steps: int) -> Ruler:
    """The features of a classifier of labelled digits, trained once: rounding would make another of it elsewhere."""
    from gantext.gan import features

    assert digits.labels is not None
    if not file.exists():
        made: Any = features.classifier_ruler(digits.take(), digits.labels, steps=steps).features
        store(file, made.state_dict())
    net: Any = features.classifier_ruler(digits.take(slice(64)), digits.labels[:64], steps=1).features  # its layers
    net.load_state_dict(torch.load(file, weights_only=True))
    return features.Ruler(f"classifier of {len(digits)} digits, {steps} steps, seed 0", net)


def searched(files: Mapping[float, Path], end: str) -> dict[float, float]:
    """Distances to the digits that were trained on, by rate, of the runs that are there; diverged is infinity."""
    kept = {rate: torch.load(file, weights_only=True) for rate, file in files.items() if file.exists()}
    return {rate: (run[end] or {}).get("frechet, seen", torch.inf) for rate, run in kept.items()}


def not_run(missing: str, remedy: str) -> NoReturn:
    """End a script whose data is not there, with success: the other scripts of `make compare` go on."""
    print(f"not run: {missing} {remedy}", file=sys.stderr)
    sys.exit(0)


def detectable(n: int, power: float = 0.8) -> float:
    """Least true difference, in standard deviations of one pair's, that the paired t-test finds so often at 5 %."""
    from scipy import optimize, stats

    edge: Any = stats.t.ppf(0.975, n - 1)
    found = lambda d: stats.nct.sf(edge, n - 1, d * n**0.5) + stats.nct.cdf(-edge, n - 1, d * n**0.5)
    root: Any = optimize.brentq(lambda d: found(d) - power, 0.01, 6 / n**0.5)
    return float(root)


def paired(family: Sequence[Sequence[float]]) -> list[dict[str, Any]]:
    """What a table says of differences that were taken seed by seed, all of one family.

    Of each its mean, half of the 95 % interval, Student's p, that after Holm's correction for the family, and the true
    difference that would have been found four times in five.
    """
    from scipy.stats import ttest_1samp

    made: list[dict[str, Any]] = []
    for gaps in family:
        test: Any = ttest_1samp(gaps, 0) if any(gaps) else None  # all alike: SciPy divides by zero
        made.append({
            "n": len(gaps), "mean": statistics.fmean(gaps), "half": half_width(gaps),
            "p": float(test.pvalue) if test else 1.0, "detectable": detectable(len(gaps)) * statistics.stdev(gaps),
        })  # fmt: skip
    holm(made)
    return rounded(made)


def holm(family: Collection[dict[str, Any]]) -> None:
    """Give every test of a family beside its `p` the one after Holm's correction for all of them, `holm`."""
    largest = 0.0
    for rank, one in enumerate(sorted(family, key=lambda one: one["p"])):
        largest = one["holm"] = max(largest, min(1.0, (len(family) - rank) * one["p"]))


def paired_table(title: str, compared: Sequence[Mapping[str, Any]], digits: int = 2) -> dict[str, Any]:
    """Of what `paired` says, for a page."""
    rows = [
        [f"{one['of']} − {one['minus']}", f"{one['mean']:+.{digits}f} ± {one['half']:.{digits}f}".replace("-", "−"),
         f"{one['holm']:.2g}", f"{one['detectable']:.{digits}f}"]
        for one in compared
    ]  # fmt: skip
    return {"title": title, "head": ["difference", "mean ± 95 %", "p after Holm", "found in 80 %"], "rows": rows}


def spread(values: Sequence[float]) -> str:
    """Mean and 95 % interval in words, rounded at the same place.

    To three digits of the mean at most, and two of the interval behind its point; an interval above zero keeps one.
    """
    mean, half = statistics.fmean(values), half_width(values) if len(values) > 1 else 0.0
    needed = lambda x, digits: digits - 1 - int(f"{x:.{digits - 1}e}".partition("e")[2])
    wanted = [needed(mean, 3)] * bool(mean) + [max(0, needed(half, 2))] * bool(half)
    place = max(min(wanted, default=0), needed(half, 1)) if half else min(wanted, default=0)
    return " ± ".join(f"{round(x, place):.{max(0, place)}f}" for x in (mean, half))


def next_rate(found: Mapping[float, float], ladder: Sequence[float], first: Sequence[float]) -> float | None:
    """What a search of the least loss has to try next, given losses by rate: those of `first`, and on along the ladder.

    None if the best of them has been tried between two others, or stands at an end of the ladder.
    """
    if lacking := [rate for rate in first if rate not in found]:
        return lacking[0]
    at = ladder.index(min(found, key=lambda rate: found[rate]))
    return next((rate for rate in ladder[max(0, at - 1) : at + 2] if rate not in found), None)


def products() -> str:
    """The type in which a descent multiplies on this CPU: bfloat16 where it has instructions for it, else float32."""
    return "bfloat16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "float32"


def descend(
    optimizer: torch.optim.Optimizer, loss: Callable[[], torch.Tensor], steps: int, warm: int, title: str | None = None
) -> None:
    """Steps with a warm-up, then linear decay; gradients of norm 1 at most, products of the loss in `products()`.

    With a title a bar is shown.
    """
    learned = [p for group in optimizer.param_groups for p in group["params"]]
    decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: min(1, (k + 1) / warm) * (1 - k / steps))
    for _ in tqdm(range(steps), desc=title, disable=title is None):
        with torch.autocast("cpu", torch.bfloat16, enabled=products() == "bfloat16"):
            value = loss()
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        decay.step()


def rounded(value: Any, digits: int = 4) -> Any:
    """Floats of a nested structure to so many significant digits."""
    if isinstance(value, dict):
        return {key: rounded(item, digits) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item, digits) for item in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


def write_json(name: str, result: Mapping[str, Any]) -> Path:
    """Write `benchmarks/results/NAME.json`; an interrupted run leaves the old file whole."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    with whole(path) as draft:
        draft.write_text(json.dumps(rounded(dict(result)), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return path
