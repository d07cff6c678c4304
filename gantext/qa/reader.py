"""Reading comprehension by a prefix-LM: training, and answers over several passages.

The chapter is `reading-comprehension`. What is read and aimed at is made by `gantext.qa.sources`, from the records of
`gantext.qa.questions`; the model is `gantext.seq2seq.transformer.Transformer`, decoding `gantext.seq2seq.decoding`.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import operator
import os
import random
import reprlib
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer
from torch.overrides import TorchFunctionMode

from gantext._checks import check_count, check_number, check_type
from gantext._training import Checkpoint, affordable, agree, average_gradients, known, layout, resolve
from gantext.qa.questions import Passage, Record
from gantext.qa.sources import batch, sample, source
from gantext.seq2seq.decoding import beam_search, squares
from gantext.seq2seq.transformer import Transformer

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["Reading", "answer", "fit", "muon"]
_COMPARED = 100  # records whose tokens tell one tokenizer from another


def muon(model: nn.Module, rate: float = 2e-3) -> list[Optimizer]:
    """Muon for the matrices between hidden layers, at ten times the rate, and AdamW for all else.

    Args:
        model: whose parameters named "blocks." or "previous." and of two dimensions are matrices between hidden layers.
        rate: of AdamW, > 0.
    Raises:
        TypeError, ValueError: no module, no such matrices or nothing else in it, no such rate.

    Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024.

    >>> from gantext.seq2seq.transformer import Config
    >>> [len(optimizer.param_groups[0]["params"]) for optimizer in muon(Transformer(Config(9, width=8, layers=1)))]
    [4, 14]
    """
    check_type("muon", "model", model, nn.Module, "Pass the Transformer itself.")
    rate = check_number("muon", "rate", rate, 0)
    hidden, others = [], []
    for name, p in model.named_parameters():
        (hidden if p.dim() == 2 and name.startswith(("blocks.", "previous.")) else others).append(p)
    if not hidden or not others:
        lacks = "matrices named 'blocks.'" if not hidden else "parameters not named 'blocks.'"
        raise ValueError(
            f"muon: model is a {type(model).__name__} without {lacks}, must have both kinds, as a Transformer. For "
            "another model build torch.optim.Muon of its hidden matrices."
        )
    return [_Muon(hidden, 10 * rate, weight_decay=0.0), AdamW(others, rate, betas=(0.9, 0.99))]


class _Muon(Muon):
    """Muon that makes its updates orthogonal in float32 where a CPU has no instructions for bfloat16.

    Multiplied without them, matrices of order 128 take some fifty times as long.
    """

    def step(self, closure: Any = None) -> Any:
        emulated = self.param_groups[0]["params"][0].is_cpu and not torch.ops.mkldnn._is_mkldnn_bf16_supported()
        with _Float32() if emulated else nullcontext():
            return super().step(closure)


class _Float32(TorchFunctionMode):
    """What would become bfloat16 is copied as it is."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0].clone() if func is Tensor.bfloat16 else func(*args, **(kwargs or {}))


def fit(
    model: Transformer,
    records: Sequence[Record],
    tokenizer: Any,
    *,
    steps: int,
    batch_size: int = 32,
    warmup: int = 50,
    optimizers: Callable[[nn.Module], Sequence[Optimizer]] = muon,
    distant: bool = False,
    seed: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    save_every: int = 1000,
    progress: bool = True,
    accelerator: Accelerator | None = None,
    **lengths: int,
) -> list[float]:
    """Train on the answers: each record in turn, one of its passages drawn at random, `Transformer.loss`.

    Args:
        model: trained in place, on the accelerator's device; seed before it is built. Several processes take the main
            one's weights.
        records, tokenizer: what is read; see `sample`.
        steps: of `batch_size` records in each process, and in each batch that the accelerator accumulates: P processes
            with k batches of n take the records of one with P k n, and are as it but for rounding and dropout.
            Gradients are clipped to norm 1.
        warmup: steps in which the rates rise linearly from 0; they fall linearly to 0 in the others. 0: none.
        optimizers: from the model to what trains it; the original's is
            `lambda model: [torch.optim.Adam(model.parameters(), 1e-5)]`, with warmup 0.
        distant, lengths: as `sample`.
        seed: of the order of the records and of the passages.
        checkpoint: file to resume from if it exists, written whole every `save_every` steps and at the end. A resumed
            run repeats an unbroken one exactly, dropout excepted. A file of another recipe is refused, and so is one of
            other records or another tokenizer.
        progress: show a bar, on the main process.
        accelerator: an `accelerate.Accelerator`, whose `gradient_accumulation_steps` is the number of batches of a
            step; None makes one, which obeys `accelerate launch` and accumulates nothing.
    Returns:
        The loss of every step, the mean over all of its target tokens.
    Raises:
        TypeError, ValueError: no records, counts out of range; as `sample` and `Transformer.loss`.
        FloatingPointError: a loss is not finite.
        torch.OutOfMemoryError: a batch does not fit; says which does.
    Warns:
        UserWarning: at the end, if answers were not asked for, with their number and the reasons, as `sample` counts.

    The commonest surprise: for hundreds of steps the loss stands on a plateau: the model does not copy yet.
    """
    from tqdm import tqdm

    steps, batch_size = check_count("fit", "steps", steps), check_count("fit", "batch_size", batch_size)
    save_every = check_count("fit", "save_every", save_every)
    warmup = check_count("fit", "warmup", warmup, 0)
    _check("fit", model, records)
    if not records:
        raise ValueError("fit: records is empty, must have at least one. See gantext.qa.questions.")
    check_type("fit", "optimizers", optimizers, Callable, "Write a function from the model to a list of them.")
    seed = check_count("fit", "seed", seed, 0)
    known(lengths, ("length", "question_length", "longest"), inspect.signature(fit).parameters, "sample")
    lengths = {name: operator.index(value) for name, value in lengths.items()}
    dropped: Counter[str] = Counter()
    accelerator = resolve(accelerator)
    agree(model.to(accelerator.device).train())
    used = list(optimizers(model))
    rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in used]
    recipe = {
        "model": [repr(model.config), layout(model)],
        "records": len(records),
        "steps": steps,
        "batch_size": batch_size,
        "warmup": warmup,
        "distant": distant,
        "seed": seed,
        "lengths": lengths,
    }
    if checkpoint is not None:
        first = itertools.islice(records, _COMPARED)
        read = (sample(record, 0, tokenizer, distant=distant, dropped=None, **lengths) for record in first)
        recipe |= {"records": [len(records), _checksum(records)], "tokenizer": _checksum(read)}

    def differentiated(samples: list[tuple[list[int], int]], weight: float) -> Tensor:
        """Of the loss times a weight, larger for a batch with more targets, as they count in one batch of all."""
        tokens, prefix, ends = batch(samples)
        with accelerator.autocast():
            loss = model.loss(tokens.to(accelerator.device), prefix, ends) * weight
        accelerator.backward(loss)
        return loss.detach()

    scaler, batches = accelerator.scaler, accelerator.gradient_accumulation_steps
    rank, processes = accelerator.process_index, accelerator.num_processes
    mine = batches * batch_size
    file = Checkpoint(checkpoint, [model, *used], recipe, accelerator)
    with file:
        done, before = file.load(steps)
        losses: list[float] = before or []
        draws = _draws(records, processes * mine, random.Random(1000 * seed))
        steps_left = itertools.islice(draws, done, steps)
        quiet = not (progress and accelerator.is_main_process)
        for step in tqdm(range(done, steps), initial=done, total=steps, desc="reading", disable=quiet):
            chosen = next(steps_left)[rank * mine : (rank + 1) * mine]
            found = [
                sample(record, number, tokenizer, distant=distant, dropped=dropped, **lengths)
                for record, number in chosen
            ]
            parts = [found[k : k + batch_size] for k in range(0, mine, batch_size)]
            targets = [sum(len(tokens) - start for tokens, start in part) for part in parts]
            every: Any = accelerator.reduce(torch.tensor(sum(targets), device=accelerator.device), "sum")
            weights = [count * batches * processes / every.item() for count in targets]  # 1 on average
            model.zero_grad()
            with affordable(lambda n, found=found: differentiated(found[:n], 1.0), batch_size, accelerator):
                values = [differentiated(part, weight) for part, weight in zip(parts, weights, strict=True)]
            for optimizer in used:
                average_gradients(accelerator, optimizer)
                if scaler is not None:
                    scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            share = min((step + 1) / max(warmup, 1), 1.0) * min((steps - step) / max(steps - warmup, 1), 1.0)
            for optimizer, base in zip(used, rates, strict=True):
                for group, rate in zip(optimizer.param_groups, base, strict=True):
                    group["lr"] = rate * share
                scaler.step(optimizer) if scaler is not None else optimizer.step()
            if scaler is not None:  # once for all of them: Accelerate's own optimizers would do so at each
                scaler.update()
            loss: Any = accelerator.reduce(torch.stack(values).mean(), "mean")
            losses.append(loss.item())
            if not losses[-1] < float("inf"):
                found = f"the loss is {losses[-1]} in step {step + 1}"
                raise FloatingPointError(f"fit: {found}, must be finite. Lower the rate.")
            if (step + 1) % save_every == 0 or step + 1 == steps:
                file.save(step + 1, losses)
    model.eval()
    if dropped:
        warnings.warn(
            f"fit: {dropped.total()} of {(steps - done) * mine} samples have an answer that was not asked for: "
            + ", ".join(f"{count} {reason}" for reason, count in dropped.most_common())
            + ". They were trained as passages without answer. Raise length, or take another tokenizer.",
            stacklevel=2,
        )
    return losses


def _checksum(values: Iterable[object]) -> int:
    return functools.reduce(lambda sum_, x: zlib.crc32(repr(x).encode("utf-8", "backslashreplace"), sum_), values, 0)


def _check(name: str, model: Transformer, records: Sequence[Record]) -> None:
    check_type(name, "model", model, Transformer, "Take that which is wrapped, as `.module`.")
    if isinstance(records, str | Record):
        found = type(records).__name__
        raise TypeError(f"{name}: records is a {found}, must be a list of Records. Put it in brackets.")
    check_type(name, "records", records, Sequence, "Make a list of it.")
    for record in records:
        check_type(name, "one of records", record, Record, "See gantext.qa.questions.")
        if not record.passages or not all(isinstance(passage, Passage) for passage in record.passages):
            found = f"the passages {reprlib.repr(record.passages)}" if record.passages else "no passages"
            rule = "must have at least one Passage, and no others. Leave it out."
            raise ValueError(f"{name}: record {record.name!r} has {found}, {rule}")


def _draws(records: Sequence[Record], size: int, rng: random.Random) -> Iterator[list[tuple[Record, int]]]:
    """Batches without end of a record and the number of one of its passages; each record before one comes again."""
    order: list[int] = []
    while True:
        while len(order) < size:
            order = rng.sample(range(len(records)), len(records)) + order  # the last ones come first
        chosen = [records[order.pop()] for _ in range(size)]
        yield [(record, rng.randrange(len(record.passages))) for record in chosen]


class Reading(NamedTuple):
    """An answer and where it comes from.

    `places` has for each passage the characters (start, end) at which the answer first stands, or None; `alive` says
    which passages voted; `empty` is the probability each gave the empty target.
    """

    text: str
    tokens: list[int]
    score: float
    places: tuple[tuple[int, int] | None, ...]
    alive: tuple[bool, ...]
    empty: tuple[float, ...]


def answer(
    model: Transformer,
    records: Sequence[Record],
    tokenizer: Any,
    *,
    vote: Callable[[Tensor, Tensor], Tensor] = squares,
    exclude: bool = True,
    spans: bool = True,
    beams: int = 1,
    steps: int = 32,
    min_tokens: int = 0,
    batch_size: int = 32,
    **lengths: int,
) -> list[Reading]:
    """Read every passage of each record and answer its question.

    Args:
        model, tokenizer, lengths: as in `fit`.
        records: the passages' own answers are not looked at.
        vote, exclude, beams, steps, min_tokens: of `gantext.seq2seq.decoding.beam_search`.
        spans: answer with a piece of a passage only.
        batch_size: records at a time, >= 1.
    Returns:
        A `Reading` of each record. Its text is what stands in the passage, capitals and blanks included, of the first
        passage that voted and has it; else what the tokenizer makes of the tokens. "" if no passage survives.
    Raises:
        TypeError, ValueError: as `source` and `beam_search`; a record without passages.
    """
    batch_size = check_count("answer", "batch_size", batch_size)
    _check("answer", model, records)
    device, found = model.bias.device, []
    for first in range(0, len(records), batch_size):
        part = records[first : first + batch_size]
        read = [[source(tokenizer, p.text, record.question, **lengths) for p in record.passages] for record in part]
        Q, N, L = len(part), max(map(len, read)), max(len(s.tokens) for row in read for s in row)
        tokens, sizes = torch.zeros(Q, N, L, dtype=torch.int64), torch.zeros(Q, N, dtype=torch.int64)
        copied = torch.zeros(Q, N, L, dtype=torch.bool)
        for q, row in enumerate(read):
            for n, s in enumerate(row):
                sizes[q, n] = len(s.tokens)
                tokens[q, n, : len(s.tokens)] = torch.tensor(s.tokens)
                copied[q, n, 1 : 1 + len(s.spans)] = True
        decoded = beam_search(
            model,
            tokens.to(device),
            sizes.to(device),
            separator=tokenizer.sep_token_id,
            beams=beams,
            steps=steps,
            valid=(sizes > 0).to(device),
            spans=copied.to(device) if spans else None,
            exclude=exclude,
            vote=vote,
            min_tokens=min_tokens,
        )
        scores, alive, empty = decoded.scores[:, 0].tolist(), decoded.alive.tolist(), decoded.separator.tolist()
        for q, (row, best) in enumerate(zip(read, decoded.best(), strict=True)):
            places = tuple(s.find(best) for s in row)
            voters = [(s, place) for s, place, votes in zip(row, places, alive[q], strict=False) if votes and place]
            text = voters[0][0].passage[slice(*voters[0][1])] if voters else tokenizer.decode(best) if best else ""
            n = len(row)
            found.append(Reading(text, best, scores[q], places, tuple(alive[q][:n]), tuple(empty[q][:n])))
    return found
