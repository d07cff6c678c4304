"""Reading comprehension by a prefix-LM: questions as tokens, training, and answers over several passages.

The chapter is `reading-comprehension`. A source is `[CLS] passage [SEP] question [SEP]`, a target `answer [SEP]`; where
a passage does not hold the answer, the target is `[SEP]` alone. The data is `gantext.qa.questions`, the model
`gantext.seq2seq.transformer.Transformer`, decoding `gantext.seq2seq.decoding`.

A tokenizer is `Words`, or any fast one of Hugging Face's transformers that has a classifier and a separator token.
"""

from __future__ import annotations

import itertools
import os
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer

from gantext._checks import check_count, check_number
from gantext._training import Checkpoint, average_gradients, layout, resolve
from gantext.qa.questions import TOKEN, Record
from gantext.seq2seq.decoding import beam_search, squares
from gantext.seq2seq.transformer import Transformer

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["Reading", "Source", "Words", "answer", "batch", "fit", "muon", "sample", "source"]


class Words:
    """A tokenizer of words and punctuation marks, called as those of Hugging Face are.

    Args:
        texts: from which the words are taken.
        least: occurrences from which a word has a number of its own, >= 1; rarer ones are all `[UNK]`.

    The commonest surprise: `[UNK]` can be generated, if there is one in a passage; `Source.find` then reads the answer
    off the passage itself.

    Example:
        >>> words = Words(["a: float", "b: float"], least=2)
        >>> words.words[4:], words("c: float")
        ([':', 'float'], {'input_ids': [1, 4, 5], 'offset_mapping': [(0, 1), (1, 2), (3, 8)]})
    """

    def __init__(self, texts: Iterable[str], *, least: int = 8) -> None:
        least = check_count("Words", "least", least)
        counts = Counter(word for text in texts for word in TOKEN.findall(text))
        self.words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *sorted(word for word, n in counts.items() if n >= least)]
        self.numbers = {word: number for number, word in enumerate(self.words)}
        self.pad_token_id, self.unk_token_id, self.cls_token_id, self.sep_token_id = range(4)

    def __len__(self) -> int:
        return len(self.words)

    def __call__(self, text: str, **_: Any) -> dict[str, list[Any]]:
        found = list(TOKEN.finditer(text))
        ids = [self.numbers.get(match[0], self.unk_token_id) for match in found]
        return {"input_ids": ids, "offset_mapping": [match.span() for match in found]}

    def decode(self, tokens: Iterable[int]) -> str:
        """The words with blanks between them."""
        return " ".join(self.words[token] for token in tokens)


class Source(NamedTuple):
    """What the model reads: tokens `[CLS] passage [SEP] question [SEP]`; token k + 1 is `passage[slice(*spans[k])]`."""

    tokens: list[int]
    spans: list[tuple[int, int]]
    passage: str

    @property
    def words(self) -> list[int]:
        """The passage's tokens."""
        return self.tokens[1 : 1 + len(self.spans)]

    def find(self, answer: Sequence[int]) -> tuple[int, int] | None:
        """Where in the passage's text these tokens first stand one after the other; None if nowhere."""
        words, wanted = self.words, list(answer)
        for k in range(len(words) - len(wanted) + 1 if wanted else 0):
            if words[k : k + len(wanted)] == wanted:
                return self.spans[k][0], self.spans[k + len(wanted) - 1][1]
        return None


def source(tokenizer: Any, passage: str, question: str, *, length: int = 256, question_length: int = 64) -> Source:
    """A passage and a question as tokens.

    Args:
        tokenizer: `Words`, or a fast tokenizer of Hugging Face with `cls_token_id` and `sep_token_id`.
        passage, question: not without tokens.
        length: tokens of the passage with its two special ones, >= 3; the rest is cut off.
        question_length: of the question with its separator, >= 2; the rest is cut off.
    Raises:
        TypeError, ValueError: not text, empty, lengths too small, a tokenizer without these tokens.

    The commonest surprise: what is cut off cannot be found, see `sample`.
    """
    length = check_count("source", "length", length, 3)
    question_length = check_count("source", "question_length", question_length, 2)
    start, end = (getattr(tokenizer, f"{kind}_token_id", None) for kind in ("cls", "sep"))
    if start is None or end is None:
        raise ValueError(
            f"source: tokenizer has cls_token_id {start} and sep_token_id {end}, must have both. Take that of a BERT."
        )
    read = []
    for argument, text, most in (("passage", passage, length - 2), ("question", question, question_length - 1)):
        if not isinstance(text, str):
            raise TypeError(f"source: {argument} is {type(text).__name__}, must be str. Decode it.")
        found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        if not found["input_ids"]:
            raise ValueError(f"source: {argument} is {text!r}, must have at least one token. Leave it out.")
        read.append((list(found["input_ids"][:most]), [tuple(span) for span in found["offset_mapping"][:most]]))
    (words, spans), (asked, _) = read
    return Source([start, *words, end, *asked, end], spans, passage)


def sample(
    record: Record, number: int, tokenizer: Any, *, distant: bool = False, longest: int = 32, **lengths: int
) -> tuple[list[int], int]:
    """A training sequence from one passage: source and target, and the length of the source.

    Args:
        record, tokenizer: what is asked, and how it is read.
        number: of the passage, from 0.
        distant: label as the original does, by distant supervision: the target is the first of `record.answers` whose
            blank-separated parts all occur in the passage, joined by commas, whatever the passage was said to answer.
        longest: tokens of a target without its separator.
        lengths: `length` and `question_length` of `source`.
    Returns:
        Tokens `[CLS] passage [SEP] question [SEP] answer [SEP]`, and s, at which the answer begins.
    Raises:
        ValueError: no such passage; as `source`.

    The commonest surprise: only what the model can see counts. An answer that does not stand in the part of the passage
    which is kept has the empty target; the original looks for it among characters, and trains on what it cannot see.

    Example:
        >>> from gantext.qa.questions import Passage
        >>> record = Record("f", "b", (Passage("a: int, b: float", "float"),), ("float",))
        >>> sample(record, 0, Words([record.passages[0].text], least=1))
        ([2, 6, 5, 9, 4, 7, 5, 8, 3, 7, 3, 8, 3], 11)
    """
    if not 0 <= number < len(record.passages):
        raise ValueError(f"sample: number is {number}, must be from 0 to {len(record.passages) - 1}. Choose a passage.")
    passage = record.passages[number]
    read = source(tokenizer, passage.text, record.question, **lengths)
    kept = passage.text[: read.spans[-1][1]]
    answer = passage.answer
    if distant:
        whole = (a for a in record.answers if a and all(part in kept for part in a.split()))
        answer = next(whole, "").replace(" ", ",")
    elif answer not in kept:
        answer = ""
    target = tokenizer(answer, add_special_tokens=False, return_offsets_mapping=True)["input_ids"] if answer else []
    return [*read.tokens, *target[:longest], tokenizer.sep_token_id], len(read.tokens)


def batch(samples: Sequence[tuple[list[int], int]], *, pad: int = 0) -> tuple[Tensor, list[int], list[int]]:
    """Sequences of different length as one tensor: tokens (B, S) int64, the sources' lengths, the valid lengths.

    >>> batch([([2, 5, 3, 3], 3), ([2, 3], 1)])[0]
    tensor([[2, 5, 3, 3],
            [2, 3, 0, 0]])
    """
    if not samples:
        raise ValueError("batch: samples is empty, must have at least one. Skip empty batches.")
    lengths = [len(tokens) for tokens, _ in samples]
    rows = [tokens + [pad] * (max(lengths) - len(tokens)) for tokens, _ in samples]
    return torch.tensor(rows), [prefix for _, prefix in samples], lengths


def muon(model: nn.Module, rate: float = 2e-3) -> list[Optimizer]:
    """Muon for the matrices between hidden layers, at ten times the rate, and AdamW for all else.

    Muon makes every update orthogonal, so that all directions of a matrix learn equally fast. The circuit that copies
    forms earlier than with AdamW for all; the chapter `reading-comprehension` measures by how much.

    Args:
        model: whose parameters named "blocks." or "previous." and of two dimensions are matrices between hidden layers.
        rate: of AdamW, > 0.
    Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024.

    The commonest surprise: an embedding is a matrix too, but its rows are not mixed: Muon is not for it.

    >>> from gantext.seq2seq.transformer import Config
    >>> [len(optimizer.param_groups[0]["params"]) for optimizer in muon(Transformer(Config(9, width=8, layers=1)))]
    [4, 14]
    """
    rate = check_number("muon", "rate", rate, 0)
    hidden, others = [], []
    for name, p in model.named_parameters():
        (hidden if p.dim() == 2 and name.startswith(("blocks.", "previous.")) else others).append(p)
    return [Muon(hidden, 10 * rate, weight_decay=0.0), AdamW(others, rate, betas=(0.9, 0.99))]


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
        model: trained in place, on the accelerator's device; seed before it is built.
        records, tokenizer: what is read; see `sample`.
        steps: of `batch_size` records in each process. Gradients are clipped to norm 1.
        warmup: steps in which the rates rise linearly from 0; they fall linearly to 0 in the others. 0: none.
        optimizers: from the model to what trains it; the original's is
            `lambda model: [torch.optim.Adam(model.parameters(), 1e-5)]`, with warmup 0.
        distant, lengths: as `sample`.
        seed: of the order of the records and of the passages.
        checkpoint: file to resume from if it exists, written whole every `save_every` steps and at the end, so that an
            interrupt loses no more than that. A resumed run repeats an unbroken one exactly, dropout excepted, whose
            numbers are PyTorch's own. A file of another recipe is refused.
        progress: show a bar, on the main process.
        accelerator: an `accelerate.Accelerator`; None makes one, which obeys `accelerate launch`.
    Returns:
        The loss of every step, of this process; those before a resumption, of the main process.
    Raises:
        TypeError, ValueError: no records, counts out of range; as `sample` and `Transformer.loss`.
        FloatingPointError: a loss is not finite.

    The commonest surprise: for hundreds of steps the loss stands on a plateau, on which the model knows what types look
    like, but does not copy yet.
    """
    from tqdm import tqdm

    steps, batch_size = check_count("fit", "steps", steps), check_count("fit", "batch_size", batch_size)
    save_every = check_count("fit", "save_every", save_every)
    warmup = check_count("fit", "warmup", warmup, 0)
    if not records:
        raise ValueError("fit: records is empty, must have at least one. See gantext.qa.questions.")
    accelerator = resolve(accelerator)
    model.to(accelerator.device).train()
    used = list(optimizers(model))
    rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in used]
    recipe = {
        "model": [repr(model.config), layout(model)],
        "records": len(records),
        "steps": steps,
        "batch_size": batch_size,
        "warmup": warmup,
        "optimizers": [repr(optimizer) for optimizer in used],
        "distant": distant,
        "seed": seed,
        "lengths": lengths,
    }
    scaler = accelerator.scaler
    file = Checkpoint(checkpoint, [model, *used], recipe, accelerator)
    done, before = file.load(steps)
    losses: list[float] = before or []
    draws = _draws(records, batch_size, random.Random(1000 * seed + accelerator.process_index))
    drawn = itertools.islice(draws, done, steps)
    quiet = not (progress and accelerator.is_main_process)
    for step in tqdm(range(done, steps), initial=done, total=steps, desc="reading", disable=quiet):
        chosen = next(drawn)
        found = [sample(record, number, tokenizer, distant=distant, **lengths) for record, number in chosen]
        tokens, prefix, ends = batch(found)
        with accelerator.autocast():
            loss = model.loss(tokens.to(accelerator.device), prefix, ends)
        model.zero_grad()
        accelerator.backward(loss)
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
        losses.append(loss.item())
        if not losses[-1] < float("inf"):
            raise FloatingPointError(
                f"fit: the loss is {losses[-1]} in step {step + 1}, must be finite. Lower the rate."
            )
        if (step + 1) % save_every == 0 or step + 1 == steps:
            file.save(step + 1, losses)
    model.eval()
    return losses


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
        vote, exclude, beams, steps, min_tokens: of `gantext.seq2seq.decoding.beam_search`. With min_tokens 1 a question
            that some passage can answer is not left empty.
        spans: answer with a piece of a passage only.
        batch_size: records at a time, >= 1.
    Returns:
        A `Reading` of each record. Its text is what stands in the passage, capitals and blanks included, of the first
        passage that voted and has it; else what the tokenizer makes of the tokens. "" if no passage survives.
    Raises:
        TypeError, ValueError: as `source` and `beam_search`; a record without passages.

    The commonest surprise: an answer from the vote need not be any single passage's favourite.
    """
    batch_size = check_count("answer", "batch_size", batch_size)
    if lonely := next((record.name for record in records if not record.passages), None):
        raise ValueError(f"answer: record {lonely!r} has no passages, must have at least one. Leave it out.")
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
