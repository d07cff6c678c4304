"""Questions and passages as tokens: the sources that a prefix-LM reads, and the targets it is trained on.

The chapter is `reading-comprehension`. A source is `[CLS] passage [SEP] question [SEP]`, a target `answer [SEP]`; where
a passage does not hold the answer, the target is `[SEP]` alone. Records come from `gantext.qa.questions`;
`gantext.qa.reader` trains on what is made here, and answers.

A tokenizer is `Words`, or any fast one of Hugging Face's transformers that has a classifier and a separator token.
"""

from __future__ import annotations

import operator
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gantext._checks import check_count, check_type
from gantext.qa.questions import TOKEN, Record

__all__ = ["Source", "Words", "batch", "sample", "source"]


class Words:
    """A tokenizer of words, Chinese characters and punctuation marks, called as those of Hugging Face are.

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
        if isinstance(texts, str):
            raise TypeError(f"Words: texts is a str, must be several. Write [{texts[:20]!r}].")
        counts: Counter[str] = Counter()
        for text in texts:
            check_type("Words", "one of texts", text, str, "Decode it.")
            counts.update(map(_same, TOKEN.findall(text)))
        self.words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *sorted(word for word, n in counts.items() if n >= least)]
        self.numbers = {word: number for number, word in enumerate(self.words)}
        self.pad_token_id, self.unk_token_id, self.cls_token_id, self.sep_token_id = range(4)

    def __len__(self) -> int:
        return len(self.words)

    def __call__(self, text: str, **_: Any) -> dict[str, list[Any]]:
        check_type("Words", "text", text, str, "Give one at a time.")
        found = list(TOKEN.finditer(text))
        ids = [self.numbers.get(_same(match[0]), self.unk_token_id) for match in found]
        return {"input_ids": ids, "offset_mapping": [match.span() for match in found]}

    def decode(self, tokens: Iterable[int]) -> str:
        """The words with blanks between them."""
        found = [operator.index(token) for token in tokens]
        if wrong := [token for token in found if not 0 <= token < len(self)]:
            raise ValueError(f"decode: tokens has {wrong[0]}, must be from 0 to {len(self) - 1}. Take this one's.")
        return " ".join(self.words[token] for token in found)


def _same(word: str) -> str:
    """One spelling of the same letters: an accent may be part of its letter, or stand behind it."""
    return word if word.isascii() else unicodedata.normalize("NFC", word)


class Source(NamedTuple):
    """What the model reads: tokens `[CLS] passage [SEP] question [SEP]`; token k + 1 is `passage[slice(*spans[k])]`.

    A token may be a part of that only: a byte-level tokenizer cuts characters into several.
    """

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
    """
    return _source(tokenizer, passage, question, length, question_length)[0]


def _source(
    tokenizer: Any, passage: str, question: str, length: int = 256, question_length: int = 64
) -> tuple[Source, list[int], list[tuple[int, int]]]:
    """`source`, and all the passage's tokens and their spans, those that are cut off too."""
    length = check_count("source", "length", length, 3)
    question_length = check_count("source", "question_length", question_length, 2)
    start, end = (getattr(tokenizer, f"{kind}_token_id", None) for kind in ("cls", "sep"))
    if start is None or end is None:
        found = f"cls_token_id {start} and sep_token_id {end}"
        raise ValueError(f"source: tokenizer has {found}, must have both. Take that of a BERT.")
    if not getattr(tokenizer, "is_fast", True):
        raise ValueError("source: tokenizer is a slow one, must know places. Load it with use_fast=True.")
    read = []
    for argument, text in (("passage", passage), ("question", question)):
        check_type("source", argument, text, str, "Decode it.")
        found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        if not found["input_ids"]:
            raise ValueError(f"source: {argument} is {text!r}, must have at least one token. Leave it out.")
        read.append((list(found["input_ids"]), [_trimmed(text, *span) for span in found["offset_mapping"]]))
    (words, spans), (asked, _) = read
    kept = length - 2
    tokens = [start, *words[:kept], end, *asked[: question_length - 1], end]
    return Source(tokens, spans[:kept], passage), words, spans


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """A token's place without the blanks around it, which belong to it in byte-level and Unigram tokenizers."""
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end


def sample(
    record: Record,
    number: int,
    tokenizer: Any,
    *,
    distant: bool = False,
    longest: int = 32,
    dropped: Counter[str] | None = None,
    **lengths: int,
) -> tuple[list[int], int]:
    """A training sequence from one passage: source and target, and the length of the source.

    The target consists of the passage's own tokens, since a tokenizer may cut an answer alone otherwise; those that
    make up the answer exactly, at `Passage.start`, or where it first stands as whole words.

    Args:
        record, tokenizer: what is asked, and how it is read.
        number: of the passage, from 0.
        distant: label by distant supervision: the target is the first of `record.answers` whose blank-separated parts
            all occur in the passage as whole words: as it stands there, else its parts joined by commas.
        longest: tokens of a target without its separator, >= 1.
        dropped: counts the answers that the passage is said to hold and that are not asked for, by the reason.
        lengths: `length` and `question_length` of `source`.
    Returns:
        Tokens `[CLS] passage [SEP] question [SEP] answer [SEP]`, and s, at which the answer begins.
    Raises:
        TypeError, ValueError: no such passage, an answer that does not stand at its start; as `source`.

    The commonest surprise: only what the model can see and copy counts. An answer that does not stand in the part of
    the passage which is kept, or is not a run of whole tokens there ("5" in "5km"), has the empty target.

    Example:
        >>> from gantext.qa.questions import Passage
        >>> record = Record("f", "b", (Passage("a: int, b: float", "float"),), ("float",))
        >>> sample(record, 0, Words([record.passages[0].text], least=1))
        ([2, 6, 5, 9, 4, 7, 5, 8, 3, 7, 3, 8, 3], 11)
    """
    check_count("sample", "longest", longest)
    if check_count("sample", "number", number, 0) >= len(record.passages):
        raise ValueError(f"sample: number is {number}, must be from 0 to {len(record.passages) - 1}. Choose a passage.")
    passage = record.passages[number]
    start = passage.start
    if start is not None and (start < 0 or not passage.text.startswith(passage.answer, start)):
        found = f"record {record.name!r} has start {start} for the answer {passage.answer!r}"
        raise ValueError(f"sample: {found}, must be where it stands. Write None to have it looked for.")
    read, words, spans = _source(tokenizer, passage.text, record.question, **lengths)
    kept = len(read.spans)

    def cut(answer: str, start: int | None = None) -> tuple[list[int], str]:
        """The tokens of an answer, or none and why."""
        why = "not in the passage" if start is None and answer not in passage.text else "not whole words or tokens"
        for low in _places(passage.text, answer) if start is None else [start]:
            inside = [k for k, (a, b) in enumerate(spans) if a < low + len(answer) and b > low]
            if inside and all(low <= spans[k][0] and spans[k][1] <= low + len(answer) for k in inside):
                if inside[-1] < kept:
                    return words[inside[0] : inside[-1] + 1], ""
                why = "cut off"
        return [], why

    target, why = [], ""
    if not distant and passage.answer:
        target, why = cut(passage.answer, passage.start)
    for answer in record.answers if distant else ():
        parts = [cut(part) for part in answer.split()]
        if parts and all(tokens for tokens, _ in parts):
            comma = list(tokenizer(",", add_special_tokens=False)["input_ids"])
            joined = [token for tokens, _ in parts for token in [*comma, *tokens]][len(comma) :]
            target, why = cut(answer)[0] or cut(",".join(answer.split()))[0] or joined, ""
            break
        if parts and all(tokens or reason != "not in the passage" for tokens, reason in parts):
            why = next(reason for tokens, reason in parts if not tokens)
    if why and dropped is not None:
        dropped[why] += 1
    return [*read.tokens, *target[:longest], tokenizer.sep_token_id], len(read.tokens)


def _places(text: str, answer: str) -> Iterator[int]:
    """Where the answer stands as whole words: a word goes on neither before nor behind it."""
    at = text.find(answer)
    while at >= 0:
        if not _inside_word(text, at) and not _inside_word(text, at + len(answer)):
            yield at
        at = text.find(answer, at + 1)


def _inside_word(text: str, at: int) -> bool:
    """Whether a word goes on from the character before to the one at this place. Chinese characters are words."""
    if not 0 < at < len(text):
        return False
    return unicodedata.category(text[at])[0] == "M" or bool(TOKEN.fullmatch(text, at - 1, at + 1))


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
