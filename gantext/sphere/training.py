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
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from torch import Tensor

from gantext._checks import check_count, check_number
from gantext.kernels import BACKENDS, sphere_cpu
from gantext.kernels.sphere import MODES, Batch, Mode, batch_update
from gantext.sphere.geometry import projx
from gantext.sphere.processes import ROWS, World, interrupts
from gantext.sphere.vocabulary import Tokens, alias_table, keep_chance, plan

BATCH = 2**14  # tuples
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
    """Tables of subsampling and of negatives (count^0.75) for the compiled trainer."""

    keep: NDArray[np.uint32]
    limit: NDArray[np.uint32]
    alias: NDArray[np.int32]

    @classmethod
    def of(cls, counts: NDArray[np.int64], sample: float) -> Chances:
        keep = (keep_chance(counts, sample) * (2**32 - 1)).astype(np.uint32)
        return cls(keep, *alias_table(counts.astype(np.float64) ** 0.75))


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

    def shuffled(epoch: int) -> list[NDArray[np.int64]]:
        return plan(tokens, rounds * lanes, np.random.default_rng([settings.seed, epoch]))

    owned = Lanes(run, jobs)

    def work(chunk: int) -> tuple[float, float, float]:
        epoch = run.position // rounds
        seed = np.random.SeedSequence([settings.seed, epoch, chunk]).generate_state(1, np.uint64)[0]
        left = [max(FLOOR, 1 - (run.position + k) / total) * settings.rate for k in (0, 1)]
        if settings.batch_size is None:
            mine = owned.of(chunk // world.size % jobs)
            return sequential(run, tokens, chances, settings, mine, chunks[chunk], left, seed)
        return batched(run, tokens, chances, settings, chunks[chunk], left, seed, backend)

    bar = tqdm(total=total, initial=run.position, disable=not progress or world.rank > 0, unit="round", desc="JoSE")
    with bar, interrupts() as interrupted, ThreadPoolExecutor(jobs) as pool:
        while run.position < total:
            epoch, turn = divmod(run.position, rounds)
            if turn == 0 or not chunks:
                chunks[:] = shuffled(epoch)
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


def batched(
    run: Run,
    tokens: Tokens,
    chances: Chances,
    settings: Settings,
    pieces: NDArray[np.int64],
    rates: Sequence[float],
    seed: np.uint64,
    backend: str | None,
) -> tuple[float, float, float]:
    """Train on these pieces in batches: tuples, 0, and the sum of losses."""
    rng = torch.Generator(run.U.device).manual_seed(int(seed >> np.uint64(1)))
    hinges = tuples(tokens, chances, settings, pieces, rng)
    run.touched[hinges[-1][3].unique().cpu().numpy()] = True
    count = max(1, math.ceil(len(hinges[0][0]) / (settings.batch_size or 1)))
    how: dict[str, Any] = {"margin": settings.margin, "mode": settings.mode, "backend": backend}
    seen, loss = 0.0, torch.zeros((), device=run.U.device, dtype=torch.float32)
    batches = (zip(*(t.tensor_split(count) for t in hinge), strict=True) for hinge in hinges)
    for k, parts in enumerate(zip(*batches, strict=True)):
        rate = rates[0] + (rates[1] - rates[0]) * k / count
        for h, part in enumerate(parts):
            batch = Batch(run.U, run.V, run.D, *part)
            if settings.mode == "reference":
                batch = batch._replace(context=None) if h else batch._replace(document=None)
            loss += batch_update(batch, rate=rate, **how) * len(batch.centre)
            seen += len(batch.centre)
    return seen, 0.0, float(loss.item())


def tuples(
    tokens: Tokens, chances: Chances, settings: Settings, pieces: NDArray[np.int64], rng: torch.Generator
) -> list[tuple[Tensor, ...]]:
    """(centre, negative, context, document) of a chunk, shuffled; for "reference" a second set for documents."""
    place = rng.device
    put = lambda x: torch.from_numpy(x.astype(np.int64)).to(place)
    draw = lambda n: torch.rand(n, generator=rng, device=place, dtype=torch.float64)
    spans = [tokens.ids[tokens.starts[k] : tokens.starts[k + 1]] for k in pieces]
    ids = put(np.concatenate([*spans, np.zeros(0, np.int32)]))
    piece = put(np.repeat(np.arange(len(pieces)), [len(span) for span in spans]))
    stay = draw(len(ids)) * 2**32 <= put(chances.keep)[ids]
    ids, piece = ids[stay], piece[stay]
    document = put(tokens.owners[pieces])[piece]
    reach = (draw(len(ids)) * settings.window).long() + 1
    centre, context = [], []
    for gap in range(1, min(settings.window + 1, len(ids))):
        near = piece[gap:] == piece[:-gap]
        right = (near & (reach[:-gap] >= gap)).nonzero()[:, 0]  # the cursor, its neighbour to the right
        left = (near & (reach[gap:] >= gap)).nonzero()[:, 0]
        context += [right, left + gap]
        centre += [right + gap, left]
    limit, alias = put(chances.limit), put(chances.alias)

    def negatives(at: Tensor, cursor: Tensor, pairs: bool) -> tuple[Tensor, ...]:
        at, cursor = (t.repeat_interleave(settings.negatives) for t in (at, cursor))
        column = (draw(len(at)) * len(limit)).long()
        negative = torch.where(draw(len(at)) * 2**32 < limit[column], column, alias[column])
        stay = negative != ids[at]
        if pairs:
            stay &= negative != ids[cursor]
        chosen = stay.nonzero()[:, 0]
        chosen = chosen[torch.randperm(len(chosen), generator=rng, device=place)]
        at, cursor = at[chosen], cursor[chosen]
        return ids[at], negative[chosen], ids[cursor], document[cursor]

    none = [torch.zeros(0, dtype=torch.int64, device=place)]
    sets = [negatives(torch.cat(centre or none), torch.cat(context or none), True)]
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
    for k in which.tolist():
        ids = torch.from_numpy(tokens.ids[ends[k] - tokens.lengths[k] : ends[k]].astype(np.int64)).to(run.U.device)
        run.D[k] = projx(chance[ids] @ run.U[ids]) if len(ids) else none
