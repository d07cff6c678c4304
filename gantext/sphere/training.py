"""How `gantext.sphere.jose` trains: in rounds of chunks, by threads one tuple after another, or in batches.

Each epoch takes the documents in an order of its own: in that of their topics, the joint hinge learns little beyond the
last topic it saw. A chunk is whole documents, a round one chunk for each thread of each process. Orders and chunks draw
from generators seeded with (seed, epoch, chunk), and the tables change in nothing but rounds: a run that is stopped
between two of them and resumed repeats an unbroken one.
"""

from __future__ import annotations

import math
import numbers
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from torch import Tensor
from torch.nn.functional import pad

from gantext._checks import check_count, check_number, no_autocast
from gantext.kernels import BACKENDS, choose, sphere_cpu
from gantext.kernels.sphere import DTYPES, LONGEST, MODES, Batch, Mode, batch_update
from gantext.sphere.geometry import projx
from gantext.sphere.processes import ROWS, World, interrupts
from gantext.sphere.vocabulary import Tokens, alias_table, keep_chance, plan

BATCH = 2**14  # tuples
RECORDED = 4 * BATCH  # tuples of a batch, at most, whose update is recorded: launches do not hold up a larger one
ROUNDS = 8  # of an epoch, at least
CHUNK = 2**15  # words of a chunk, at most, but for a longer document
HOT = 2**13  # words, the most frequent ones, of whose rows each thread of several has copies
FLOOR = 1e-4  # of the rate at the end


_Result = TypeVar("_Result")
Own = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]]


class Settings(NamedTuple):
    """What a run does; two runs with the same, on the same corpus, are one (but for races between threads)."""

    dimension: int
    mode: Mode
    margin: float
    rate: float
    window: int
    negatives: int
    epochs: int
    sample: float
    jobs: int
    seed: int
    batch_size: int | None
    sync_every: int
    processes: int

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Settings:
        """From the estimator's parameters; TypeError or ValueError for one that will not do."""
        params, jobs, state = dict(params), params["n_jobs"], params["random_state"]
        params["jobs"] = 1 if jobs is None else os.cpu_count() or 1 if jobs == -1 else _count("n_jobs", jobs)
        if params["batch_size"] is None and place(params["device"]).type != "cpu":
            params["batch_size"] = BATCH
        for argument, least in COUNTS.items():
            if argument != "batch_size" or params[argument] is not None:
                params[argument] = _count(argument, params[argument], least)
        for argument, most in (("margin", 4), ("rate", 1), ("sample", math.inf)):
            value = check_number("fit", argument, params[argument], 0, included=argument == "sample")
            if value > most:
                raise ValueError(f"fit: {argument} is {value}, must be in (0, {most}]. Lower it.")
            params[argument] = value
        for argument, known in (("mode", MODES), ("backend", (None, *BACKENDS))):
            if params[argument] not in known:
                rule = f"must be one of {', '.join(map(str, known))}"
                raise ValueError(f"fit: {argument} is {params[argument]!r}, {rule}. See JoSE.")
        try:
            whole = isinstance(state, numbers.Integral)
            params["seed"] = int(state) if whole else int(check_random_state(state).randint(2**31))
        except ValueError:
            params["seed"] = -1
        if params["seed"] < 0:
            raise ValueError(f"fit: random_state is {state}, must be >= 0, a RandomState or None. Use any other int.")
        return cls(**{name: params[name] for name in cls._fields[:-1]}, processes=World.find().size)


COUNTS = {"dimension": 2} | dict.fromkeys(("window", "negatives", "epochs", "min_count", "sync_every", "batch_size"), 1)


def _count(argument: str, value: int, least: int = 1) -> int:
    if (value := check_count("fit", argument, value, least)) >= 2**31:
        raise ValueError(f"fit: {argument} is {value}, must be below 2^31. See its usual values in JoSE.")
    return value


def place(device: str | torch.device, *, there: bool = False) -> torch.device:
    """The device; ValueError for a name that is none, and, if it must be `there`, for one that is not."""
    try:
        found = torch.device(device)
        if there:
            torch.zeros((), device=found).item()  # a device that holds numbers
    except (TypeError, RuntimeError, AssertionError) as error:  # AssertionError: of a PyTorch without CUDA
        raise ValueError(f"fit: device is {device!r}, must be one of this machine. Try 'cpu'. {error}") from error
    return found


@dataclass
class Run:
    """The state of a training run; what a checkpoint keeps. `sums`: tuples, those with a loss, and losses so far."""

    U: Tensor  # (V, p)
    V: Tensor  # (V, p)
    D: Tensor  # (documents, p)
    touched: NDArray[np.bool_]  # (documents,)
    position: int = 0
    sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    history: dict[str, list[float]] = field(default_factory=lambda: {"loss": [], "active": []})
    seen: float | None = None  # tuples of the epochs that this process has seen the end of


class Chances(NamedTuple):
    """Tables of subsampling and of negatives (count^0.75)."""

    keep: NDArray[np.uint32]
    limit: NDArray[np.uint32]
    alias: NDArray[np.int32]

    @classmethod
    def of(cls, counts: NDArray[np.int64], sample: float) -> Chances:
        keep = (keep_chance(counts, sample) * (2**32 - 1)).astype(np.uint32)
        return cls(keep, *alias_table(counts.astype(np.float64) ** 0.75))

    def on(self, device: torch.device) -> list[Tensor]:
        """The three of them on a device, int64, as `tuples` wants them."""
        return [torch.from_numpy(table.astype(np.int64)).to(device) for table in self]


def begin(words: int, documents: int, settings: Settings, device: torch.device) -> Run:
    """Rows uniform on the sphere."""
    rng, tables = np.random.default_rng(settings.seed), []
    for rows in (words, words, documents):
        table = torch.empty(rows, settings.dimension, device=device, dtype=torch.float32)
        for part in table.split(ROWS):
            part.copy_(projx(torch.from_numpy(rng.standard_normal(part.shape, np.float32))))
        tables.append(table)
    U, V, D = tables
    return Run(U, V, D, np.zeros(documents, np.bool_))


class Lanes:
    """Copies of the rows of frequent words, for each of several threads, brought together between two rounds.

    Threads that write the same row wait for each other's cache, and there is hardly a pair without a frequent word:
    with one table for all, two threads are little faster than one. One thread alone has no copies, and rare words have
    none: those rows the threads share, without locks.
    """

    def __init__(self, run: Run, lanes: int) -> None:
        hot = min(HOT, len(run.U)) if lanes > 1 else 0
        self.tables = run.U, run.V
        self.copies = np.empty((2, lanes, hot, run.U.shape[1]), np.float32)
        self.moves = np.zeros((lanes, 2, hot), np.int32)
        self.refresh()

    def of(self, lane: int) -> Own:
        """What `sphere_cpu.train` asks for: copies of U and of V, (H, p), and how often each row has moved, (2, H)."""
        return self.copies[0, lane], self.copies[1, lane], self.moves[lane]

    def refresh(self) -> None:
        """Copy the tables again."""
        hot = self.copies.shape[2]
        if hot > 0:
            for table, copies in zip(self.tables, self.copies, strict=True):
                copies[:] = table[:hot].numpy()

    def merge(self, pool: ThreadPoolExecutor, rate: float) -> None:
        """Bring tables and copies together, each thread some of the rows."""
        lanes, hot = self.copies.shape[1:3]
        if hot == 0:
            return
        U, V = (table.numpy() for table in self.tables)

        def part(k: int) -> None:
            sphere_cpu.merge(U, V, self.copies, self.moves, rate, hot * k // lanes, hot * (k + 1) // lanes)

        _together(pool, part, range(lanes))


def _together(pool: ThreadPoolExecutor, work: Callable[[int], _Result], items: Sequence[int]) -> list[_Result]:
    """Work on the first item in this thread, which is awake, and on each other in one of the pool's."""
    others = [pool.submit(work, item) for item in items[1:]]
    return [work(items[0]), *(each.result() for each in others)]


def train(
    run: Run,
    tokens: Tokens,
    counts: NDArray[np.int64],
    settings: Settings,
    *,
    backend: str | None,
    progress: bool,
    each_epoch: Callable[[], object],
) -> None:
    """Run to the end of the last epoch; KeyboardInterrupt comes between two rounds (two epochs, of many processes)."""
    from tqdm import tqdm

    world, chances = World.find(), Chances.of(counts, settings.sample)
    jobs = settings.jobs if settings.batch_size is None else 1
    lanes = jobs * world.size
    rounds = max(ROUNDS, math.ceil(len(tokens.ids) / (lanes * CHUNK)))
    total = settings.epochs * rounds
    chunks: list[NDArray[np.int64]] = []
    owned = Lanes(run, jobs)
    batches = None if settings.batch_size is None else Batches(run, settings, chances, backend)

    def work(chunk: int) -> tuple[float, float, float]:
        epoch = run.position // rounds
        seed = np.random.SeedSequence([settings.seed, epoch, chunk]).generate_state(1, np.uint64)[0]
        left = [max(FLOOR, 1 - (run.position + k) / total) * settings.rate for k in (0, 1)]
        if batches is None:
            mine = owned.of(chunk // world.size % jobs)
            return sequential(run, tokens, chances, settings, mine, chunks[chunk], left, seed)
        return batches.train(tokens, chunks[chunk], left, seed)

    bar = tqdm(total=total, initial=run.position, disable=not progress or world.rank > 0, unit="round", desc="JoSE")
    with bar, interrupts() as interrupted, ThreadPoolExecutor(jobs) as pool:
        while run.position < total:
            epoch, turn = divmod(run.position, rounds)
            if turn == 0 or not chunks:
                chunks[:] = plan(tokens, rounds * lanes, np.random.default_rng([settings.seed, epoch]))
            here = range(turn * lanes, (turn + 1) * lanes)[world.rank :: world.size]
            for sums in _together(pool, work, here):
                run.sums += sums
            owned.merge(pool, max(FLOOR, 1 - run.position / total) * settings.rate)
            run.position += 1
            bar.update()
            if world.size > 1 and (turn % settings.sync_every == settings.sync_every - 1 or turn == rounds - 1):
                world.average(run.U)
                world.average(run.V)
                owned.refresh()
            if turn == rounds - 1:
                mine = tokens.lengths == 0 if world.main else np.zeros(len(tokens.lengths), np.bool_)  # in no chunk
                mine[tokens.owners[np.concatenate(chunks[world.rank :: world.size])]] = True
                world.collect(run.D, torch.from_numpy(mine).to(run.D.device))
                run.touched[:] = world.sum(torch.from_numpy(run.touched).int()).numpy() > 0
                run.sums[:] = world.sum(torch.from_numpy(run.sums)).numpy()
                stop = world.sum(torch.tensor(len(interrupted), device="cpu")).item() > 0  # of any process
                seen, active, loss = run.sums.tolist()
                run.seen = (run.seen or 0) + seen
                run.history["loss"].append(loss / max(1, seen))
                if settings.batch_size is None:
                    run.history["active"].append(active / max(1, seen))
                bar.set_postfix(epoch=len(run.history["loss"]), loss=f"{run.history['loss'][-1]:.4f}")
                run.sums[:] = 0
                each_epoch()
            else:
                stop = bool(interrupted) and world.size == 1
            if stop:
                raise KeyboardInterrupt


def sequential(
    run: Run,
    tokens: Tokens,
    chances: Chances,
    settings: Settings,
    own: Own,
    pieces: NDArray[np.int64],
    rates: Sequence[float],
    seed: np.uint64,
    frozen: bool = False,
) -> tuple[float, float, float]:
    """Train on these pieces, one tuple after another, compiled: tuples, those with a loss, and the sum of losses."""
    rows = sphere_cpu.Rows(run.U.numpy(), run.V.numpy(), run.D.numpy(), *own, run.touched)
    window, negatives, mode = settings.window, settings.negatives, sphere_cpu.MODE[settings.mode]
    margin, rate, rate_end = (np.float32(x) for x in (settings.margin, *rates))
    found = sphere_cpu.train(
        tokens, pieces, rows, chances, window, negatives, mode, margin, rate, rate_end, seed, frozen
    )
    seen, active, loss = map(float, found)
    return seen, active, loss


def captured(step: Callable[[], object]) -> Callable[[], object]:
    """What repeats a step as a CUDA graph. It runs twice here, to warm up, and should change nothing then."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):  # other threads may use the GPU
        step()
    return graph.replay


class Batches:
    """Trains a run in batches.

    Launching the kernels of a batch from Python takes longer than they run. On a GPU, one update is therefore recorded
    (by `capture`) and repeated: on tuples that are copied into `columns`, (hinges, 4, batch_size), at the rate that is
    copied into `rate`. All batches being of one size then, the rest of `columns` are tuples that are skipped, and
    change no bit.
    """

    def __init__(
        self,
        run: Run,
        settings: Settings,
        chances: Chances,
        backend: str | None,
        capture: Callable[[Callable[[], object]], Callable[[], object]] | None = None,
    ) -> None:
        self.run, self.settings, self.backend, self.size = run, settings, backend, settings.batch_size or 1
        self.chances, self.loss, self.rate = chances.on(run.U.device), run.U.new_zeros(()), run.U.new_zeros(())
        self.columns = torch.zeros(0, dtype=torch.int64, device=run.U.device)
        self.repeat: Callable[[], object] | None = None
        if capture is None and run.U.is_cuda and self.size <= RECORDED and run.U.shape[1] <= LONGEST:
            kernels = choose("batch_update", backend, [run.U, run.V, run.D], DTYPES) == "triton"
            capture = captured if kernels else None
        if capture is not None:
            self.columns = self.columns.new_zeros(1 + (settings.mode == "reference"), 4, self.size)
            try:
                with torch.cuda.device_of(run.U):
                    self.repeat = capture(self.step)
            except Exception as error:  # of the compiler, the driver, the recorder
                warnings.warn(
                    f"fit: batches are launched one by one, which is slower. {type(error).__name__}: {error}",
                    RuntimeWarning,
                    stacklevel=2,
                )

    def batch(self, hinge: int, columns: Sequence[Tensor]) -> Batch:
        """Tables and tuples of a hinge; "reference" has the pairs' and then the documents'."""
        whole = Batch(self.run.U, self.run.V, self.run.D, *columns)
        if self.settings.mode != "reference":
            return whole
        return whole._replace(V=None, context=None) if hinge else whole._replace(D=None, document=None)

    def step(self) -> None:
        """What is recorded."""
        from gantext.kernels.sphere_triton import update

        for k, columns in enumerate(self.columns):
            given = self.batch(k, columns.unbind())
            update(given, self.rate, self.settings.margin, self.settings.mode, self.loss)

    def train(
        self, tokens: Tokens, pieces: NDArray[np.int64], rates: Sequence[float], seed: np.uint64
    ) -> tuple[float, float, float]:
        """Train on these pieces: tuples, 0, and the sum of losses."""
        run, settings, device = self.run, self.settings, self.run.U.device
        rng = torch.Generator(device).manual_seed(int(seed >> np.uint64(1)))
        hinges = tuples(tokens, self.chances, settings, pieces, rng)
        count = max(1, *(math.ceil(len(hinge[0]) / self.size) for hinge in hinges))
        falling = [rates[0] + (rates[1] - rates[0]) * k / count for k in range(count)]
        self.loss.zero_()
        if self.repeat is None:
            how: dict[str, Any] = {"margin": settings.margin, "mode": settings.mode, "backend": self.backend}
            for k, parts in enumerate(zip(*(parted(hinge, count) for hinge in hinges), strict=True)):
                for h, part in enumerate(parts):
                    self.loss += batch_update(self.batch(h, part), rate=falling[k], **how) * len(part[0])
        else:
            full = [padded(hinge, count, self.size).unbind(1) for hinge in hinges]
            for *parts, rate in zip(*full, torch.tensor(falling, dtype=run.U.dtype).to(device).unbind(), strict=True):
                for columns, part in zip(self.columns, parts, strict=True):
                    columns.copy_(part)
                self.rate.copy_(rate)
                self.repeat()
        owners = tokens.owners[pieces]
        seen = torch.zeros(len(run.D), dtype=torch.bool, device=device).index_fill_(0, hinges[-1][3], True)
        run.touched[owners] |= seen[torch.from_numpy(owners).to(device)].cpu().numpy()
        return float(sum(len(hinge[0]) for hinge in hinges)), 0.0, float(self.loss.item())


def parted(hinge: Sequence[Tensor], count: int) -> list[tuple[Tensor, ...]]:
    """Tuples in so many batches, as equal as may be."""
    return list(zip(*(column.tensor_split(count) for column in hinge), strict=True))


def padded(hinge: Sequence[Tensor], count: int, size: int) -> Tensor:
    """The batches of `parted` as (4, count, size), each filled up with (0, 0, 0, 0), which is skipped."""
    columns = torch.stack([*hinge])
    each, more = divmod(columns.shape[1], count)
    full = columns.new_zeros(4, count, size)
    longer = more * (each + 1)
    full[:, :more, : each + 1] = columns[:, :longer].view(4, more, each + 1)
    full[:, more:, :each] = columns[:, longer:].view(4, count - more, each)
    return full


def tuples(
    tokens: Tokens, chances: Sequence[Tensor], settings: Settings, pieces: NDArray[np.int64], rng: torch.Generator
) -> list[tuple[Tensor, ...]]:
    """(centre, negative, context, document) of a chunk, shuffled; for "reference" a second set for documents."""
    place, (keep, limit, alias) = rng.device, chances
    draw = lambda n: torch.rand(n, generator=rng, device=place, dtype=torch.float64)
    spans = [tokens.ids[tokens.starts[k] : tokens.starts[k + 1]] for k in pieces]
    lengths = [len(span) for span in spans]
    words = np.concatenate([*spans, np.zeros(0, np.int32)])
    homes = np.repeat(np.arange(len(pieces), dtype=np.int32), lengths)
    ids, piece = torch.from_numpy(np.stack([words, homes])).to(place).long()
    stay = (draw(len(ids)) * 2**32 <= keep[ids]).nonzero()[:, 0]
    ids, piece = ids[stay], piece[stay]
    document = torch.from_numpy(tokens.owners[pieces]).to(place)[piece]
    reach = (draw(len(ids)) * settings.window).long() + 1
    widest = max(0, min(settings.window, max(lengths, default=0) - 1))
    gap = torch.arange(1, widest + 1, device=place)[:, None]
    ahead = lambda x: pad(x, (0, widest), value=-1).unfold(0, len(x), 1)[1:]  # (gaps, n): what follows at each gap
    near = ahead(piece) == piece
    both = torch.stack([near & (reach >= gap), near & (ahead(reach) >= gap)], 1)  # the cursor is left, or right
    apart, side, left = both.nonzero().unbind(1)
    ends = torch.stack([left, left + apart + 1])
    context, centre = torch.where(side == 0, ends, ends.flip(0))

    def negatives(at: Tensor, cursor: Tensor, pairs: bool) -> tuple[Tensor, ...]:
        at, cursor = (t.repeat_interleave(settings.negatives) for t in (at, cursor))
        word, other = ids[at], ids[cursor]
        column = (draw(len(at)) * len(limit)).long()
        negative = torch.where(draw(len(at)) * 2**32 < limit[column], column, alias[column])
        stay = negative != word
        if pairs:
            stay &= negative != other
        chosen = stay.nonzero()[:, 0]
        chosen = chosen[torch.randperm(len(chosen), generator=rng, device=place)]
        return word[chosen], negative[chosen], other[chosen], document[cursor[chosen]]

    sets = [negatives(centre, context, True)]
    if settings.mode == "reference":
        every = torch.arange(len(ids), device=place)
        sets.append(negatives(every, every, False))
    return sets


def infer(run: Run, tokens: Tokens, counts: NDArray[np.int64], settings: Settings) -> None:
    """Descend on the rows of `run.D` alone, from `start_rows`; each document by itself, whatever stands beside it."""
    chances = Chances.of(counts, settings.sample)
    seeds = np.random.SeedSequence([settings.seed]).generate_state(settings.epochs, np.uint64)
    none = Lanes(run, 1).of(0)

    def work(pieces: NDArray[np.int64]) -> None:
        for epoch, seed in enumerate(seeds):
            rate = settings.rate * (1 - epoch / settings.epochs)
            sequential(run, tokens, chances, settings, none, pieces, (rate, rate), seed, frozen=True)

    chunks = plan(tokens, settings.jobs)
    with ThreadPoolExecutor(settings.jobs) as pool:
        list(pool.map(work, chunks) if settings.jobs > 1 else map(work, chunks))


def start_rows(
    run: Run, tokens: Tokens, counts: NDArray[np.int64], sample: float, which: NDArray[np.intp], none: Tensor
) -> None:
    """Set these document rows to the direction of their words' sum, each weighted with its chance to be kept.

    That direction is the best one for the words alone, the one of largest sum of <u, d>. A document without a known
    word gets `none`, (p,).
    """
    chance = torch.from_numpy(keep_chance(counts, sample)).float().to(run.U.device)
    ends = np.cumsum(tokens.lengths)
    with no_autocast(run.U.device):
        for k in which.tolist():
            ids = torch.from_numpy(tokens.ids[ends[k] - tokens.lengths[k] : ends[k]].astype(np.int64)).to(run.U.device)
            run.D[k] = projx(chance[ids] @ run.U[ids]) if len(ids) else none
