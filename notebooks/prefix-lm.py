# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# (prefix-lm)=
# # Prefix-LM: one Transformer, four masks
#
# One table of zeros and ones, who may look at whom, makes a Transformer a language model, an encoder or a translator. The last, the *prefix-LM* (前缀语言模型), **needs no masked kernel**: two calls of ordinary attention compute it.
#
# Choose mask, prefix length and row; marked is what the row may look at.
#
# ```{widget} prefix-lm
# ```
#
# **Three points**
#
# - **The idea.** A mask is an order: each token has its time; a row sees what is known by its own, {eq}`prefix-lm:cumsum`.
# - **The formula.** Behind a source of $s$ tokens row $i$ sees the first $\max(s, i)$, {eq}`prefix-lm:reach`: hence the two calls, {eq}`prefix-lm:two-call`.
# - **Measured.** Three masks answer a small task equally well; the fourth has less than half the loss and can hardly answer ([experiment](#does-the-mask-matter)).
#
# **Before you start**: matrix products and the softmax. **Ten minutes** to [the verdict](#the-verdict), 46 more for the closed sections.

# %% tags=["setup"]
# NBVAL_IGNORE_OUTPUT
# @title Set-up { display-mode: "form" }
# On Colab: installs this edition of the book's two packages, and what Colab
# lacks; what is there stays as it is. Elsewhere: nothing. Versions differ.
import sys

if "google.colab" in sys.modules:
    import subprocess
    import urllib.request
    from importlib.util import find_spec
    from pathlib import Path

    site = "https://gantext.github.io/gantext/wheels"
    tag = "https://github.com/gantext/gantext/archive/refs/tags/v0.1.0.zip"
    names = ["gantext-0.1.0", "texledger-0.1.0"]
    # beside the notebook, or in the folder of the site's copy where it lies
    beside = [
        sorted(map(str, Path(folder).glob("*-py3-none-any.whl")))
        for folder in (".", "wheels", "../wheels", "../../wheels")
    ]
    found = next(filter(None, beside), [])
    place = "beside the notebook"
    if not found:
        found = [f"{site}/{name}-py3-none-any.whl" for name in names]
        place = "the book's site"
        try:
            urllib.request.urlopen(found[0], timeout=9).close()
        except OSError:
            found = [tag, f"texledger @ {tag}#subdirectory=texledger"]
            place = "the repository"
    lacking = {"ijson": "ijson", "ot": "pot", "gensim": "gensim"}
    found += [lacking[name] for name in lacking if not find_spec(name)]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, *found], check=True)
    print("installed from", place)

import gantext

print(gantext.environment())

# %% tags=["hide-input"]
import inspect
import itertools
import math
import warnings

import matplotlib.pyplot as plt
import mpmath as mp
import numpy as np
import sympy as sp
import torch
from torch.nn import functional as F
from torch.nn.attention.bias import causal_lower_right
from torch.utils.flop_counter import FlopCounterMode

from gantext import at_scale, book
from gantext.book import BLUE, GREEN, GREY, ORANGE, RED
from gantext.docstrings import topics
from texledger import Derived, Indexed, Ledger
from gantext.seq2seq.prefixlm import (
    attention,
    attention_ref,
    mask,
    segment_mask,
)
from gantext.seq2seq.transformer import Config, Transformer

# "gpu": more steps and wider networks in the experiment, nothing else
SCALE = "reduced"
# seeds, steps, width
SIZES = at_scale(SCALE, {"reduced": (3, 150, 48), "gpu": (10, 1500, 128)})

ledger = Ledger("prefix-lm")
step = lambda x: 1 if x >= 0 else 0

book.set_up()


# %% [markdown]
# ## The idea, the formula, the code
#
# Transformer 如戏，全靠 Mask, says Su Jianlin (苏剑林) {cite:p}`su2019onlymask`: the play is a Transformer's, all of the acting is the mask's. In attention row $i$ asks every row $j$ how much it matters, turns the answers, scores $S_{ij}$, into weights $e^{S_{ij}}$ and takes the weighted mean of the values $V_j$; a mask strikes some $j$ from the list. With a *source* of $s$ tokens before a *target* a row sees all of the source, and of the target what is not after itself: **the first $\max(s, i)$ tokens**, counted from 1. $s = 0$ is the language model, $s = n$ the bidirectional encoder.
#
# Fast kernels know two patterns, "everything" and "the triangle"; others are slow or refused. But *one horizontal cut* below the source leaves everything above and the triangle below.
#
# ```{prf:theorem} Two calls
# :label: prefix-lm-theorem
#
# Row $i$ of a prefix-LM gives
#
# $$
# O_{ic} = \frac{\sum_{j=1}^{\max(s, i)} e^{S_{ij}} V_{jc}}{\sum_{j=1}^{\max(s, i)} e^{S_{ij}}}
# $$ (prefix-lm:two-call)
#
# So the first $s$ rows are unmasked attention to the first $s$ keys, the others causal attention to all $n$ keys, with the triangle in the *bottom right* corner.
# ```
#
# A softmax stays within its row, so one result is *put below the other*:

# %%
def by_two_calls(q, k, v, s):
    """q, k, v (..., n, d): patterns that every kernel knows."""
    n, attend = q.shape[-2], F.scaled_dot_product_attention
    source = attend(q[..., :s, :], k[..., :s, :], v[..., :s, :])
    triangle = causal_lower_right(n - s, n)
    target = attend(q[..., s:, :], k, v, attn_mask=triangle)
    return torch.cat([source, target], -2)


# %% [markdown]
# ## Three masks answer alike, the fourth cheats
#
# From a docstring's first words a small network, trained in five ways from one start on the same batches, says where it comes from.

# %% tags=["hide-input"]
places_of_text = (
    "scipy.signal",
    "scipy.stats",
    "sympy.geometry",
    "sympy.stats",
    "torch.distributions",
    "torch.optim",
)
documents, label_numbers = topics(150, 200, labels=places_of_text)
# source without its separator; package, submodule, separator
WORDS, ANSWER = 16, 3
SOURCE, ALL = WORDS + 1, WORDS + 1 + ANSWER
SEEDS, STEPS, WIDTH = SIZES
names = sorted(
    {part for place in places_of_text for part in place.split(".")}
)
counts = {}
for document in documents:
    for word in document:
        counts[word] = counts.get(word, 0) + 1
known = [
    "[SEP]",
    "[UNK]",
    *(f"<{name}>" for name in names),
    *sorted(counts, key=lambda w: (-counts[w], w))[:800],
]
number = {word: k for k, word in enumerate(known)}
texts = [[number.get(word, 1) for word in document] for document in documents]
answers_of = torch.tensor(
    [
        [*(number[f"<{part}>"] for part in places_of_text[k].split(".")), 0]
        for k in label_numbers
    ]
)
MASKS = {
    "triangle, loss on all": mask(0, ALL),
    "triangle": mask(0, ALL),
    "permuted source": mask(0, ALL),
    "prefix-LM": mask(SOURCE, ALL),
    "bidirectional": mask(ALL, ALL),
}


def sequences(chosen, rng=None):
    """Source and answer of these documents; the source starts at a random
    word while training, at the first in the test.
    """
    rows = []
    for k in chosen:
        start = (
            int(rng.integers(max(1, len(texts[k]) - WORDS + 1))) if rng else 0
        )
        rows.append(
            (texts[k][start : start + WORDS] + [1] * WORDS)[:WORDS] + [0]
        )
    return torch.cat([torch.tensor(rows), answers_of[list(chosen)]], 1)


def outputs(model, tokens, M, order=None):
    """Hidden states of these rows, at these positions, under any mask."""
    B, R = tokens.shape
    place = torch.arange(R) if order is None else order
    nothing = torch.full_like(tokens, -1)
    attends = [
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, M[:R, :R])
    ] * len(model.blocks)
    return model.run(
        tokens,
        place.expand(B, R),
        (torch.arange(R) >= SOURCE).long().expand(B, R),
        (nothing, nothing),
        attends,
    )


def train(setting, seed, layers=2, rate=4e-3):
    """One network: its last training losses, and the share of test documents
    whose whole answer it generates.
    """
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(texts))
    test, learn = shuffled[: len(texts) // 5], shuffled[len(texts) // 5 :]
    torch.manual_seed(seed)
    M, losses = MASKS[setting], []
    model = Transformer(
        Config(len(known), width=WIDTH, layers=layers, heads=2, positions=ALL)
    )
    first = 0 if setting.endswith("all") else SOURCE - 1
    adam = torch.optim.AdamW(model.parameters(), lr=rate, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        adam, lambda k: min(1, (k + 1) / 20) * (1 - k / STEPS)
    )
    for _ in range(STEPS):
        tokens, order = sequences(rng.choice(learn, 32), rng), None
        # drawn always, so that all settings see the same batches
        shuffle = torch.from_numpy(rng.permutation(WORDS))
        if setting == "permuted source":
            order = torch.cat([shuffle, torch.arange(WORDS, ALL)])
            tokens = tokens[:, order]
        logits = model.logits(outputs(model, tokens, M, order)[:, first:-1])
        loss = F.cross_entropy(
            logits[:, -ANSWER:].flatten(0, 1), tokens[:, SOURCE:].flatten()
        )
        losses.append(loss.item())
        if first == 0:
            loss = F.cross_entropy(
                logits.flatten(0, 1), tokens[:, 1:].flatten()
            )
        adam.zero_grad()
        loss.backward()
        adam.step()
        schedule.step()
    with torch.no_grad():
        tokens = sequences(test)
        written = tokens[:, :SOURCE]
        for _ in range(ANSWER):
            written = torch.cat(
                [
                    written,
                    model.logits(outputs(model, written, M)[:, -1]).argmax(
                        1, keepdim=True
                    ),
                ],
                1,
            )
    return np.mean(losses[-20:]), (written == tokens).all(
        1
    ).double().mean().item()


# %% tags=["hide-input"] mystnb={"image": {"alt": "The share of answers generated right in five settings, three seeds each. About six in ten for triangle, permuted source and prefix-LM alike; fewer with the loss on all tokens, and for the bidirectional mask fewer than by guessing. The loss beside each row is near zero for the bidirectional mask and largest for the triangle with the loss on all tokens."}}
with torch.random.fork_rng():
    results = {
        setting: np.array([train(setting, seed) for seed in range(SEEDS)])
        for setting in MASKS
    }
guess = max(label_numbers.count(k) for k in set(label_numbers)) / len(
    label_numbers
)

fig, axis = plt.subplots(figsize=(5.4, 1.9), layout="constrained")
for k, (setting, runs) in enumerate(results.items()):
    colour = RED if setting == "bidirectional" else BLUE
    axis.plot(runs[:, 1], [k] * SEEDS, "o", color=colour, alpha=0.6)
    axis.text(1.02, k, f"loss {runs[:, 0].mean():.2f}", va="center")
axis.axvline(guess, color=GREY, linestyle="--")
axis.text(guess + 0.02, 2, "guessing", color=GREY, va="center")
axis.set(
    yticks=range(len(results)),
    yticklabels=results,
    xlabel="answers right, unseen documents",
    xlim=(0, 1),
)
axis.invert_yaxis()
plt.show()


# %% [markdown]
# (prefix-lm-answers)=
# *Right answers on unseen documents, a dot a seed; at the right, the loss; the first row's counts the source, too.*
#
# ## The verdict
#
# - **The two calls are exact** for every prefix, [asserted](#the-mask-in-numbers); nothing leaks by detours {checked}`prefix-lm:transitive`, and the source can be read once and kept, {eq}`prefix-lm:cache`.
# - **Here no mask makes a model better.** Triangle, permuted source and prefix-LM differ no more than seeds do. Not measured: the same from BERT's weights.
# - **The bidirectional mask cheats**: its row $i - 1$ sees the token $i$ to be predicted: by far the least loss, the worst answers.
# - **It saves little**: 0.6 % of a layer for a question on a passage ([counted](#what-it-costs)).
#
# ## The mask in numbers
#
# ```{folded} 6 minutes: the formula beside the two calls, how many pairs a mask admits, bert4keras's running sum, where padding breaks it
# ```
#
# With queries $Q$, keys $K$ and values $V$ of $n$ rows and $d$ columns (one head) and $M_{ij} = 1$ where row $i$ may see row $j$, else $0$,
#
# $$
# S_{ij} = \frac{1}{\sqrt{d}} \sum_{c=1}^{d} Q_{ic} K_{jc}, \qquad A_{ij} = \frac{M_{ij} e^{S_{ij}}}{\sum_{k=1}^{n} M_{ik} e^{S_{ik}}}, \qquad O_{ic} = \sum_{j=1}^{n} A_{ij} V_{jc}
# $$ (prefix-lm:attention)
#
# (Programs add $-\infty$ to the scores instead, which is the same, or a large negative number, [which is not quite](#in-floating-point).) Write $\operatorname{step}(x) = 1$ for $x \ge 0$ and $0$ else. The prefix-LM's "$j \le s$ or $j \le i$" is one comparison with the larger of the two:
#
# $$
# \max\bigl( \operatorname{step}(s - j), \operatorname{step}(i - j) \bigr) = \operatorname{step}\bigl( \max(s, i) - j \bigr)
# $$ (prefix-lm:reach)
#
# This larger one, $r_i = \max(s, i)$, is the *reach* of row $i$. The formula beside the two calls of [the first section](#the-idea-the-formula-the-code):

# %%
def by_formula(q, k, v, s):
    """q, k, v (..., n, d): the scores of all pairs, and a mask."""
    n, d = q.shape[-2:]
    i, j = torch.arange(n)[:, None], torch.arange(n)
    beyond = j >= torch.clamp(i + 1, min=s)  # i and j count from 0 here
    scores = (q @ k.mT / d**0.5).masked_fill(beyond, -torch.inf)
    return scores.softmax(-1) @ v


q, k, v = torch.randn(3, 2, 4, 10, 8)  # 2 texts, 4 heads, 10 tokens
for s in range(1, 10):
    expected = by_formula(q, k, v, s)
    assert torch.allclose(by_two_calls(q, k, v, s), expected, atol=1e-5)
    assert torch.allclose(attention(q, k, v, s), expected, atol=1e-5)
assert not torch.allclose(attention(q, k, v, 3), expected, atol=0.1)
print("formula, two calls and the package agree for every prefix")

# %% [markdown]
# The reference of the package is the same formula:

# %%
# without its docstring
_, _, body = inspect.getsource(attention_ref).split('"""')
print(
    inspect.getsource(attention_ref).split('"""')[0].rstrip() + body.rstrip()
)


# %% [markdown]
# The package's {func}`gantext.seq2seq.prefixlm.mask` computes the left side of {eq}`prefix-lm:reach`:
#
# $$
# M_{ij} = \max\bigl( \operatorname{step}(s - j), \operatorname{step}(i - j) \bigr)
# $$ (prefix-lm:predicate)

# %% tags=["ledger"]
def heads(draw):
    """One head and a mask in which every row sees something."""
    n, d = draw.turn(5, 3, 4), draw.turn(3, 2)
    Q, K, V = (torch.tensor(draw.rng.normal(size=(n, d))) for _ in range(3))
    M = torch.tensor(draw.rng.random((n, n)) < 0.6) | torch.eye(n).bool()
    S = Q @ K.T / math.sqrt(d)
    A = S.masked_fill(~M, -math.inf).softmax(-1)
    O = F.scaled_dot_product_attention(Q[None], K[None], V[None], M[None])[0]
    i, j, c = draw.integer(1, n), draw.integer(1, n), draw.integer(1, d)
    return {
        "Q": Q,
        "K": K,
        "V": V,
        "M": M.double(),
        "S": S,
        "A": A,
        "O": O,
        "n": n,
        "d": d,
        "i": i,
        "j": j,
        "c": c,
    }


ledger.numeric(
    "prefix-lm:attention",
    where=heads,
    draws=8,
    tol=1e-13,
)


# %% tags=["ledger"]
def places(draw):
    """A prefix-LM and one of its cells, more often than not at the edge."""
    n = draw.integer(3, 8)
    s, i = draw.integer(0, n), draw.integer(1, n)
    j = min(
        n, max(1, draw.rng.choice([s, s + 1, i, i + 1, draw.integer(1, n)]))
    )
    return {"s": s, "i": i, "j": int(j), "n": n, "step": step}


ledger.exact(
    "prefix-lm:predicate",
    where=places,
    computed={"M": lambda s, n: sp.Matrix(mask(s, n).int().tolist())},
    draws=40,
    code=mask,
)

# %% tags=["ledger"]
ledger.exact(
    "prefix-lm:reach",
    where=places,
    draws=40,
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Four tables of ten rows and ten columns for the tokens of a passage, a question and an answer. Language model, a lower triangle, 55 pairs. Permuted language model, the same triangle with rows and columns in another order, 55 pairs. Prefix-LM, a full square of seven source tokens above a triangle of three target tokens that also see the whole source, 76 pairs. Bidirectional, everything, 100 pairs."}}
words_shown = [
    "Paris",
    "is",
    "in",
    "France",
    "[SEP]",
    "where",
    "[SEP]",
    "in",
    "France",
    "[SEP]",
]
n, s = len(words_shown), 7
# token i is read as the z_i-th
z = torch.tensor([4, 9, 2, 6, 1, 10, 7, 3, 8, 5])
four = {
    "language model": mask(0, n),
    "permuted language model": z[None] <= z[:, None],
    "prefix-LM": mask(s, n),
    "bidirectional": mask(n, n),
}
fig, axes = plt.subplots(2, 2, figsize=(5.4, 5.6), layout="constrained")
axes = axes.ravel()
for axis, (name, M) in zip(axes, four.items(), strict=True):
    axis.imshow(M, cmap="Blues", vmin=0, vmax=1.5)
    axis.set_xticks(np.arange(-0.5, n), minor=True)
    axis.set_yticks(np.arange(-0.5, n), minor=True)
    axis.grid(which="minor", color="white", linewidth=1)
    axis.tick_params(which="both", length=0)
    axis.set(
        xticks=[],
        yticks=range(n) if axis in axes[::2] else [],
        title=f"{name}\n{int(M.sum())} pairs",
    )
    axis.spines[:].set_visible(False)
for axis in axes[::2]:
    axis.set_yticklabels(words_shown)
axes[2].plot(
    [-0.5, n - 0.5],
    [s - 0.5] * 2,
    [s - 0.5] * 2,
    [-0.5, n - 0.5],
    color=ORANGE,
    linewidth=1.5,
)
plt.show()
assert [int(M.sum()) for M in four.values()] == [55, 55, 76, 100]


# %% [markdown]
# (prefix-lm-four-masks)=
# *Four masks for a passage, a question and an answer: a row for each token, and a column for each in the same order. Filled is what the row may look at; the titles count the filled squares. The orange lines mark the end of the source.*
#
# How many pairs is that? The reaches add up: $s$ rows of reach $s$, then one row each of reach ${s + 1}$ to ${s + t}$ for the $t = n - s$ tokens of the target:
#
# $$
# \sum_{i=1}^{n} \max(s, i) = s^2 + s t + \frac{t (t + 1)}{2}
# $$ (prefix-lm:pairs)
#
# a square for the source, a rectangle for the target's view of it, a triangle. With $s = 7$ and $t = 3$ that is $49 + 21 + 6 = 76$.

# %% tags=["ledger"]
def lengths(draw, least=1):
    s, t = draw.integer(least, 9), draw.integer(1, 9)
    return {"s": s, "t": t, "n": s + t}


ledger.exact(
    "prefix-lm:pairs",
    where=lengths,
    draws=6,
)


# %% [markdown]
# ### The running sum of the segment ids
#
# BERT marks every token with a *segment id*, $g_j = 0$ on the source and $1$ on the target. Su's library bert4keras {cite:p}`su2019bert4kerasmask` gets the mask from them by one running sum and one comparison:
#
# $$
# a_i = \sum_{k=1}^{i} g_k, \qquad M_{ij} = \operatorname{step}(a_i - a_j)
# $$ (prefix-lm:cumsum)
#
# The sum is $a_i = \max(0, i - s)$: *a time at which token $i$ becomes known; a row sees what is known by its own time*. All four masks of {numref}`prefix-lm-four-masks` are of this kind, with times $1, \dots, n$ for the language model, a permutation of them for the permuted one, and one time for all in the bidirectional case; the prefix-LM gives all of the source one time.

# %% tags=["ledger"]
def segments(draw):
    env = places(draw)
    s, n = env["s"], env["n"]
    g = sp.Matrix([0] * s + [1] * (n - s))
    return {
        **env,
        "g": g,
        "a": sp.Matrix([max(0, i - s) for i in range(1, n + 1)]),
        "M": sp.Matrix(mask(s, n).int().tolist()),
    }


ledger.exact(
    "prefix-lm:cumsum",
    where=segments,
    draws=40,
    code=mask,
)


# %% [markdown]
# ### Where padding breaks it
#
# Shorter sequences of a batch are filled up with padding (填充), whose segment id is usually 0 as well. So the padding has the time $a = t$ of the last target token. With $p$ tokens of it the rule admits
#
# $$
# \sum_{i=1}^{n} \sum_{j=n+1}^{n+p} \operatorname{step}(a_i - a_j) = p \qquad \text{for } t \ge 1
# $$ (prefix-lm:padding)
#
# pairs of a real row and a padded key, all in *one* row: the last token of the target sees all of the padding. In training that does no harm: nothing is predicted from the final separator's row. In decoding the last row is the newest token, from which the next one is predicted.
#
# With {eq}`prefix-lm:predicate` the reach of a real row, $\max(s, i) \le n$, ends before the padding. **Right padding needs no mask.** Nor would the running sum need one if padding had the segment id 1.

# %% tags=["ledger"]
def padded(draw):
    # A single token too: there the first row is the last. Draws without a
    # target break the condition and are drawn again.
    s, t = draw.turn((0, 1), (3, 2), (2, 0), (1, 4), (5, 1))
    p = draw.integer(1, 4)
    a = sp.Matrix(list(itertools.accumulate([0] * s + [1] * t + [0] * p)))
    return {"a": a, "n": s + t, "t": t, "p": p, "step": step}


ledger.exact(
    "prefix-lm:padding",
    where=padded,
    draws=8,
)

# %%
for s, t in itertools.product(range(8), range(1, 8)):
    n, g = s + t, torch.tensor([0] * s + [1] * t)
    # real tokens: the two rules agree
    assert torch.equal(segment_mask(g), mask(s, n))
    for p in (1, 3):
        zeros, ones = (
            torch.cat([g, torch.full((p,), fill)]) for fill in (0, 1)
        )
        leak = segment_mask(zeros)[:n, n:]
        # padding with segment 0: the last target row sees it
        assert leak[:-1].sum() == 0 and leak[-1].all()
        # with segment 1: nobody does
        assert not segment_mask(ones)[:n, n:].any()
        # or with the lengths given
        assert torch.equal(
            segment_mask(zeros, n)[:n], mask(s, n + p, lengths=n)[:n]
        )
        # the predicate needs neither
        assert torch.equal(mask(s, n + p)[:n], mask(s, n + p, lengths=n)[:n])
print(
    "56 pairs of lengths: equal on real tokens; padding of segment 0 is seen "
    "by the last target row alone"
)


# %% [markdown]
# ## What a row sees after many layers
#
# ```{folded} 3 minutes: chains of steps, transitive masks, and two masks that leak
# ```
#
# In the second layer row $i$ looks at row $k$, which in the first has looked at row $j$. Might a row learn, by hearsay, of tokens at which it may not look?
#
# The number of chains of $L$ admitted steps from $i$ to $j$ is the entry $i, j$ of the matrix power $M^L$, and in $L$ layers row $i$ depends on input $j$ only if it is not zero. Let the mask come from times, as in {eq}`prefix-lm:cumsum`. If $i$ may see $k$ and $k$ may see $j$, then $a_j \le a_k \le a_i$, and $i$ may see $j$ anyway: there is no chain of two steps where a single step is forbidden,
#
# $$
# M_{ik} M_{kj} (1 - M_{ij}) = 0
# $$ (prefix-lm:transitive)
#
# The mask is *transitive* (传递). By induction a chain of any length leads only where one step leads; and since every row sees itself, nothing gets lost either. With $N = M^L$,
#
# $$
# N = M^{L}, \qquad \operatorname{step}(N_{ij} - 1) = M_{ij}
# $$ (prefix-lm:powers)
#
# **Depth does not change what a row sees** if and only if the mask is transitive (and every row sees itself). *Any* assignment of times gives a mask without hearsay; a mask drawn by hand may leak.

# %% tags=["ledger"]
def known_at(draw, n):
    """Times at which tokens become known, for each kind of mask in turn."""
    s = draw.integer(1, n - 1)
    return draw.turn(
        list(range(1, n + 1)),  # the language model
        [max(0, i - s) for i in range(1, n + 1)],  # the prefix-LM
        [0] * n,  # bidirectional
        (draw.rng.permutation(n) + 1).tolist(),  # permuted
        draw.rng.integers(0, 4, n).tolist(),  # any times
    )


def chained(draw):
    n, L = draw.integer(3, 5), draw.integer(2, 4)
    a = known_at(draw, n)
    M = sp.Matrix(n, n, lambda i, j: step(a[i] - a[j]))
    chains = lambda i, j: sum(
        all(M[x, y] for x, y in itertools.pairwise((i, *middle, j)))
        for middle in itertools.product(range(n), repeat=L - 1)
    )
    i, j, k = (draw.integer(1, n) for _ in range(3))
    return {
        "M": M,
        "N": sp.Matrix(n, n, chains),
        "n": n,
        "L": L,
        "step": step,
        "i": i,
        "j": j,
        "k": k,
    }


ledger.exact(
    "prefix-lm:transitive",
    where=chained,
    draws=60,
)

# %% tags=["ledger"]
ledger.exact(
    "prefix-lm:powers",
    where=chained,
    draws=30,
    weak="N commutes with M, being a power of it: that is the equation",
    also_true={
        "2·(N_ij)": "zero doubled is zero, and any other number of chains "
        "stays at least 1"
    },
)

# %% [markdown]
# Does a network keep to this? Random layers of the package's {class}`gantext.seq2seq.transformer.Transformer` can be asked by automatic differentiation which inputs move which outputs. What is counted are the pairs of an output and an input that moves it.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Tables of eight rows and columns for one, two and three layers, under three masks. With the prefix-LM mask the table of what a row depends on stays the same. With a sliding window of two tokens the band becomes one wider with every layer. With the careless mask, where source rows may see the target, the triangle of the target is full from the second layer on."}}
n, s = 8, 4
i = torch.arange(1, n + 1)
careless = mask(s, n)
careless[:s] = True  # the source looks at everything, the target is causal
drawn = {
    "prefix-LM": mask(s, n),
    "window of 2": (i[None] <= i[:, None]) & (i[:, None] - i[None] < 2),
    "careless: source sees target": careless,
}


def depends(M, layers):
    """Which of the n inputs move which of the n outputs of a random network."""
    torch.manual_seed(0)
    model = (
        Transformer(Config(10, width=16, layers=layers, heads=2))
        .double()
        .eval()
    )
    x = torch.randn(1, n, 16, dtype=torch.float64, requires_grad=True)
    h = x
    for block in model.blocks:
        h = block(
            h, lambda q, k, v: F.scaled_dot_product_attention(q, k, v, M)
        )
    weights = torch.randn(16, dtype=torch.float64)
    return torch.stack(
        [
            torch.autograd.grad(h[0, i] @ weights, x, retain_graph=True)[0][0]
            .abs()
            .amax(1)
            > 0
            for i in range(n)
        ]
    )


for name, M in drawn.items():
    pairs = [int(depends(M, layers).sum()) for layers in (1, 2, 3)]
    print(f"{name}: {pairs} pairs after 1, 2, 3 layers")
fig, axes = plt.subplots(3, 3, figsize=(5.4, 6.2), layout="constrained")
for row, (name, M) in zip(axes, drawn.items(), strict=True):
    for layers, axis in enumerate(row, 1):
        seen = depends(M, layers)
        # as the powers of the mask say
        assert torch.equal(
            seen, torch.linalg.matrix_power(M.double(), layers) > 0
        )
        axis.imshow(seen, cmap="Blues", vmin=0, vmax=1.5)
        axis.imshow(
            np.ma.masked_where(~(seen & ~M).numpy(), np.ones((n, n))),
            cmap="Oranges",
            vmin=0,
            vmax=1.5,
        )
        axis.set_xticks(np.arange(-0.5, n), minor=True)
        axis.set_yticks(np.arange(-0.5, n), minor=True)
        axis.grid(which="minor", color="white", linewidth=1)
        axis.tick_params(which="both", length=0)
        axis.set(
            xticks=[],
            yticks=[],
        )
        above = f"{name}\n1 layer" if layers == 1 else f"{layers} layers"
        axis.set_title(above, loc="left")
        axis.spines[:].set_visible(False)
plt.show()


# %% [markdown]
# (prefix-lm-hearsay)=
# *Which of eight inputs (columns) move which of eight outputs (rows) after one, two and three layers, under three masks. Orange marks hearsay: pairs that the mask does not admit and that a chain of layers connects.*
#
# The sliding window gains one token per layer, as it should. The careless mask lets the *source* see the target: a target row, shielded from its future in the first layer, gets it from the source in the second. In training such a model has before it what it will lack when it generates.
#
# ## Why the prefix may be cached
#
# ```{folded} 3 minutes: closed prefixes, the factor 31, a cache in fifty lines
# ```
#
# A network may keep what it has computed for the source if nothing in it would change when the target grows.
#
# Call the first $m$ rows *closed* if none of them sees beyond $m$: they are a network of their own, whatever comes later. Reaches never decrease, so they are closed exactly if $r_m = m$. Then their keys and values can be kept, layer by layer, for every continuation and every beam (one of several beginnings that a search pursues). For the prefix-LM, $r_m = \max(s, m)$, so the condition is $m \ge s$, and there are
#
# $$
# \sum_{m=1}^{n} \operatorname{step}\bigl( m - \max(s, m) \bigr) = t + 1 \qquad \text{for } s \ge 1
# $$ (prefix-lm:cache)
#
# closed prefixes: the whole source, and the source with $1, 2, \dots, t$ tokens of the target. For the language model every prefix is closed ($s = 0$ and $s = 1$ are the same mask). For the bidirectional encoder, $t = 0$, only the whole is: **no cache at all**.
#
# Without a cache the $r$-th token of the target needs a pass over $s + r - 1$ rows, together
#
# $$
# \sum_{r=0}^{t-1} (s + r) = t s + \frac{t (t - 1)}{2}
# $$ (prefix-lm:rows)
#
# rows, with it $s$ rows once and then one for each further token, $s + t - 1$. For a passage and its question, $s = 320$ tokens, and an answer of $t = 32$ this is $10{,}736$ against $351$, a factor of $31$.

# %% tags=["ledger"]
def sources_and_targets(draw):  # without a source: drawn again
    s, t = draw.turn((1, 3), (4, 2), (0, 4), (2, 5), (6, 1), (3, 0))
    return {"s": s, "t": t, "n": s + t, "step": step}


ledger.exact(
    "prefix-lm:cache",
    where=sources_and_targets,
    draws=7,
    also_true=dict.fromkeys(
        ("max of −(m)", "s for m in max(s, m)"),
        "max(s, −m) is s, and m reaches max(s, m) exactly if it reaches s",
    ),
)

# %% tags=["ledger"]
ledger.exact(
    "prefix-lm:rows",
    where=lengths,
    draws=6,
)

# %% [markdown]
# In a network, layer by layer: the states of the source computed alone, against those computed with a target.

# %%
n, s, L = 12, 7, 3
torch.manual_seed(0)
model = (
    Transformer(Config(50, width=32, layers=L, heads=4, positions=n))
    .double()
    .eval()
)
tokens = torch.randint(50, (1, n))


@torch.no_grad()
def states(rows, M):
    """Hidden states after each layer when only the tokens of these rows are
    there.
    """
    found, M = [], M[rows][:, rows]
    hooks = [
        block.register_forward_hook(
            lambda module, given, out: found.append(out[0])
        )
        for block in model.blocks
    ]
    attend = lambda q, k, v: F.scaled_dot_product_attention(q, k, v, M)
    nothing = torch.full((1, len(rows)), -1)
    model.run(
        tokens[:, rows],
        rows[None],
        torch.zeros_like(rows)[None],
        (nothing, nothing),
        [attend] * L,
    )
    for hook in hooks:
        hook.remove()
    return found


# order[0] is read first
order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
z = order.argsort()
everything = torch.arange(n)
cases = {
    "language model": (everything[:s], mask(0, n)),
    "permuted": (order[:s].sort().values, z[None] <= z[:, None]),
    "prefix-LM": (everything[:s], mask(s, n)),
    "prefix-LM, cut short": (everything[: s - 1], mask(s, n)),
    "bidirectional": (everything[:s], mask(n, n)),
}
for name, (rows, M) in cases.items():
    alone, whole = states(rows, M), states(everything, M)
    gaps = [
        (a - b[rows]).abs().max().item()
        for a, b in zip(alone, whole, strict=True)
    ]
    closed = not M[rows][
        :, [k for k in range(n) if k not in rows.tolist()]
    ].any()
    assert (max(gaps) < 1e-12) if closed else (min(gaps) > 1e-3)
    print(
        f"{name:21}",
        "same in every layer" if closed else "differs from layer 1",
    )


# %% [markdown]
# And a cache in full, as in {mod}`gantext.seq2seq.decoding`: the source goes through the network once, and the target is computed from the keys and values that stay.

# %%
@torch.no_grad()
def with_cache(model, tokens, s):
    """Source rows, then target rows that see the stored keys and values of
    the source.
    """
    n, stored = tokens.shape[1], []
    place, nothing = torch.arange(n)[None], torch.full_like(tokens, -1)

    def remember(q, k, v):
        stored.append((k, v))
        return F.scaled_dot_product_attention(q, k, v)

    def look_back(layer):
        def attend(q, k, v):
            k, v = (
                torch.cat(pair, 2)
                for pair in zip(stored[layer], (k, v), strict=True)
            )
            return F.scaled_dot_product_attention(q, k, v, mask(s, n)[s:])

        return attend

    L, parts = len(model.blocks), (slice(0, s), slice(s, n))
    attends = ([remember] * L, [look_back(layer) for layer in range(L)])
    segments = (place >= s).long()
    return torch.cat(
        [
            model.run(
                tokens[:, p],
                place[:, p],
                segments[:, p],
                (nothing[:, p],) * 2,
                a,
            )
            for p, a in zip(parts, attends, strict=True)
        ],
        1,
    )


with torch.no_grad():
    gap = (
        (with_cache(model, tokens, s) - model.hidden(tokens, s))
        .abs()
        .max()
        .item()
    )
assert gap < 1e-13
print("cached and uncached states differ by less than 1e-13")


# %% [markdown]
# ## A permuted language model is a renaming
#
# ```{folded} 3 minutes: permute the mask or the tokens, and what neither can say
# ```
#
# A *permutation language model* (乱序语言模型), as in XLNet {cite:p}`yang2019xlnet`, reads the tokens of a sentence in some other order, and learns to predict each from those read before. Attention has no idea of order, so only the mask need change; or the order in which rows are handed over.
#
# Let token $i$ be read as the $z_i$-th. Its mask compares these times: $\tilde{M}_{ij} = \operatorname{step}(z_i - z_j)$. Let $P$ be the permutation matrix that sorts the tokens by their time, $P_{ki} = 1$ for $k = z_i$, and $M$ the triangle $M_{kl} = \operatorname{step}(k - l)$. Then
#
# $$
# \tilde{M} = P^{\top} M P
# $$ (prefix-lm:permuted)
#
# because $(P^{\top} M P)_{ij}$ picks $M_{kl}$ at $k = z_i$, $l = z_j$. A weighted mean over keys does not care in what order they stand: for $f(X, M)$, attention of the rows $X$ to themselves under the mask $M$,
#
# $$
# f(P X, M) = P f(X, P^{\top} M P)
# $$ (prefix-lm:equivariance)
#
# Everything else in a Transformer acts on each row by itself, so the law holds for the whole network. **Permute the mask, or permute the tokens together with their positions and keep the triangle: the same states come out.** The article advises the second.

# %% tags=["ledger"]
def renamed(draw):
    n = draw.turn(5, 4, 6)
    z = draw.rng.permutation(n).tolist()
    # Not its own inverse, so that P and its transpose differ.
    while all(z[z[k]] == k for k in range(n)):
        z = draw.rng.permutation(n).tolist()
    P = sp.Matrix(n, n, lambda k, i: int(k == z[i]))
    M = sp.Matrix(n, n, lambda k, l: step(k - l))
    other = sp.Matrix(n, n, lambda i, j: step(z[i] - z[j]))
    return {"P": P, "M": M, "tilde M": other}


ledger.exact("prefix-lm:permuted", where=renamed)


# %% tags=["ledger"]
def attend_to_themselves(X, M):
    X, M = (torch.tensor(np.array(v.tolist(), dtype=float)) for v in (X, M))
    return F.scaled_dot_product_attention(
        X[None], X[None], X[None], (M > 0)[None]
    )[0]


def rows_and_order(draw):
    env = renamed(draw)
    n = env["P"].rows
    return {
        "P": env["P"],
        "M": env["M"],
        "X": torch.tensor(draw.rng.normal(size=(n, 3))),
        "f": attend_to_themselves,
    }


ledger.numeric(
    "prefix-lm:equivariance",
    where=rows_and_order,
    tol=1e-13,
)

# %%
n = 12
triangle, renaming = mask(0, n), z[None] <= z[:, None]
nothing, zeros = torch.full((1, n), -1), torch.zeros(1, n, dtype=torch.int64)
under = lambda M: (
    [lambda q, k, v: F.scaled_dot_product_attention(q, k, v, M)] * L
)
with torch.no_grad():
    by_mask = model.run(
        tokens,
        torch.arange(n)[None],
        zeros,
        (nothing, nothing),
        under(renaming),
    )
    by_order = model.run(
        tokens[:, order],
        order[None],
        zeros,
        (nothing, nothing),
        under(triangle),
    )
    assert (by_mask[:, order] - by_order).abs().max() < 1e-13

    # Two orders that agree on the first six tokens and then go on to
    # different positions: what is predicted next?
    other = torch.cat([order[:6], order[6:].flip(0)])
    elsewhere = model.run(
        tokens[:, other],
        other[None],
        zeros,
        (nothing, nothing),
        under(triangle),
    )
    assert (
        order[6] != other[6]
        and (model.logits(by_order[:, 5]) - model.logits(elsewhere[:, 5]))
        .abs()
        .max()
        < 1e-13
    )
print(
    "the same states by either way; the same prediction for position",
    int(order[6]) + 1,
    "and for position",
    int(other[6]) + 1,
)

# %% [markdown]
# The last lines show what the mask leaves open. The row just read must predict the token read *next*, but is not told *where that token stands*. That is why XLNet has a second stream of attention, with queries that know the position only. (Another way is a `[MASK]` token at that position: see the next section.)
#
# ## Training on the answer
#
# ```{folded} 6 minutes: the shift by one, means over tokens, and what UniLM itself does
# ```
#
# A sequence-to-sequence model is asked for $p(y \mid x)$, the target given the source. One pass makes all of its next-token predictions at once, because no target row sees its future. With the source $x$ and the target $y_1, \dots, y_t$ we have $\log p(y \mid x) = \sum_r \log p(y_r \mid x, y_1, \dots, y_{r-1})$. The row that has seen exactly the source and $y_1, \dots, y_{r-1}$ is the row of $y_{r-1}$, or for $r = 1$ the last row of the source. So **the row $i - 1$ predicts the token $i$**: outputs are shifted by one against inputs. Such a prediction counts if $g_i = 1$, that is, in the target. For a batch of $B$ sequences let $p_{bi}$ be the probability that row $i - 1$ of sequence $b$ gives to its token $i$:
#
# $$
# \ell = -\frac{\sum_{b=1}^{B} \sum_{i=2}^{n} g_{bi} \log p_{bi}}{\sum_{b=1}^{B} \sum_{i=2}^{n} g_{bi}}
# $$ (prefix-lm:likelihood)
#
# Padding has $g_{bi} = 0$ here. Source tokens *cannot* count: with the prefix-LM mask the row before one has already seen it. Nor need their logits (the scores before the softmax) be computed: {meth}`gantext.seq2seq.transformer.Transformer.loss` picks the rows first and multiplies by the vocabulary afterwards.
#
# The mean is over *tokens*. Let $\ell^{(b)}$ be the mean over the $t_b$ target tokens of sequence $b$; then
#
# $$
# \ell = \frac{\sum_{b=1}^{B} t_b\, \ell^{(b)}}{\sum_{b=1}^{B} t_b}
# $$ (prefix-lm:token-mean)
#
# so an answer weighs as much as it is long.

# %% tags=["ledger"]
torch.manual_seed(0)
reader = (
    Transformer(Config(20, width=16, layers=2, heads=2, positions=12))
    .double()
    .eval()
)


def batch_of_answers(draw):
    """Padded sequences; every token's probability, one row after another."""
    B, n = draw.turn(2, 3, 4), 9
    s = [1, *(draw.integer(1, 5) for _ in range(B - 1))]
    t = [draw.integer(1, n - each - (k == 0)) for k, each in enumerate(s)]
    tokens = torch.tensor(draw.rng.integers(0, 20, (B, n)))
    g, p = torch.zeros(B, n), torch.ones(B, n, dtype=torch.float64)
    for b in range(B):
        g[b, s[b] : s[b] + t[b]] = 1
        for i in range(1, s[b] + t[b]):
            # What is there when token i is predicted, and nothing else.
            given = tokens[b : b + 1, : max(i, s[b])]
            with torch.no_grad():
                row = reader.hidden(given, s[b])[0, i - 1]
                p[b, i] = reader.logits(row).softmax(-1)[tokens[b, i]]
    ell = [-(g[b] * p[b].log()).sum() / t[b] for b in range(B)]
    return {
        "g": g,
        "p": p,
        "B": B,
        "n": n,
        "s": s,
        "t": t,
        "tokens": tokens,
        "lengths": [a + b for a, b in zip(s, t, strict=True)],
        "ell^(b)": Indexed(ell),
    }


def loss(tokens, s, lengths):
    s, lengths = ([int(x) for x in v] for v in (s, lengths))
    return reader.loss(tokens.long(), s, lengths).detach()


ledger.implementation(
    "prefix-lm:likelihood",
    where=batch_of_answers,
    function=Transformer.loss,
    call=loss,
    name="ell",
)

# %% tags=["ledger"]
ledger.implementation(
    "prefix-lm:token-mean",
    where=batch_of_answers,
    function=Transformer.loss,
    call=loss,
    name="ell",
)


# %% [markdown]
# ### What UniLM itself does
#
# The mask is UniLM's (Su had found it for himself), but this objective is not. UniLM's own fine-tuning keeps BERT's game {cite:p}`dong2019prefixlm`: *hide* some tokens of the target and let each be predicted **from its own row**. Its program {cite:p}`microsoft2019unilmcode` takes a share $\rho = 0.7$ of the target tokens; of these, 80 % are replaced by `[MASK]`, 10 % by a random token, 10 % stay. The final separator may be among them. When it decodes, it appends a `[MASK]`, reads the prediction from that row, replaces it by the token, and goes on. (bert4keras and this book always shift.)
#
# So a step of training uses 70 % of the target tokens, not all. A step of decoding needs two new rows, the token just chosen and the next `[MASK]`, not one. And the context is damaged: while row $r$ is being trained, tokens before it may be hidden or replaced as well; in decoding all of them are there. If $m$ of $t$ tokens are chosen, row $r$ among them, the chance $\eta_r$ that its whole context is intact is
#
# $$
# \eta_r = \sum_{k=0}^{r-1} \frac{\binom{m-1}{k} \binom{t-m}{r-1-k}}{\binom{t-1}{r-1}} \Bigl( \frac{1}{10} \Bigr)^{k}
# $$ (prefix-lm:intact)
#
# where $k$ counts the chosen ones among the $r - 1$, and each of these stays itself with probability $\frac{1}{10}$. For $t = 32$ the program chooses $m = 22$ (it rounds $0.7 \cdot 31$, without the separator).

# %% tags=["ledger"]
def some_hidden(draw):
    t = draw.integer(4, 6)
    return {"t": t, "m": draw.integer(2, t - 1), "r": draw.integer(1, t)}


def intact(t, m, r):
    """All ways to choose m tokens, r among them; what happens before r."""
    chosen = [
        c
        for c in itertools.combinations(range(1, int(t) + 1), int(m))
        if r in c
    ]
    return sum(
        sp.Rational(1, 10) ** sum(x < r for x in c) for c in chosen
    ) / sp.Integer(len(chosen))


ledger.exact(
    "prefix-lm:intact",
    where=some_hidden,
    computed={"eta_r": intact},
    draws=9,
    also_true=dict.fromkeys(
        ("sum ends one later", "sign of -1", "without -1", "2·(r)"),
        "only the upper end moves, and beyond r − 1 every term is zero: "
        "there are no ways to take fewer than 0 of the t − m",
    ),
)

# %%
shown = {}
for r in (1, 2, 3, 5, 9, 17):
    shown[r] = sum(
        math.comb(21, k)
        * math.comb(10, r - 1 - k)
        / math.comb(31, r - 1)
        / 10**k
        for k in range(r)
    )
print("row r   trained on an intact context")
for r, p in shown.items():
    print(f"{r:5}   with chance {p:.2g}")
assert shown[1] == 1 and shown[5] < 0.03 and shown[17] < 1e-5


# %% [markdown]
# From the ninth token on a training context like those of decoding practically never occurs: it is another task.
#
# ## The gradient of attention
#
# ```{folded} 4 minutes: softmax, values, scores, queries and keys
# ```
#
# Weights that sum to one compete. So the gradient of a weight's score is not "how good is this value" but "how much better than the average".
#
# One row: scores $S$, weights $a = \operatorname{softmax}(S)$. From $a_j = e^{S_j} / \sum_k e^{S_k}$,
#
# $$
# \frac{\partial}{\partial S_k} a_j = a_j (\delta_{jk} - a_k)
# $$ (prefix-lm:softmax)
#
# ($\delta_{jk}$ is $1$ for $j = k$, else $0$): by the quotient rule, the numerator gives $a_j$ if $j = k$, the denominator $-a_j a_k$ always. Write $\bar{x}$ for the gradient of the loss by $x$. With an incoming gradient $\bar{a}$ the chain rule sums over $j$:
#
# $$
# \bar{S} = \bigl( \operatorname{diag}(a) - a a^{\top} \bigr) \bar{a}
# $$ (prefix-lm:softmax-backward)
#
# or $\bar{S}_j = a_j (\bar{a}_j - \sum_k a_k \bar{a}_k)$: the surplus over the mean, times the weight. A masked pair has $a_j = 0$, so its score gets no gradient: **the mask of the forward pass is the mask of the backward pass**.
#
# Now the whole head, {eq}`prefix-lm:attention`, with the incoming gradient $\bar{O}$. From $O = A V$ follow $\bar{A} = \bar{O} V^{\top}$ and
#
# $$
# \bar{V} = A^{\top} \bar{O}
# $$ (prefix-lm:values)
#
# Put $\bar{A}$ into {eq}`prefix-lm:softmax-backward`, row by row. The mean that is subtracted, $\sum_k A_{ik} \sum_c \bar{O}_{ic} V_{kc}$, is an inner product with the output itself, so it can be had without the weights:
#
# $$
# \delta_i = \sum_{c=1}^{d} \bar{O}_{ic} O_{ic}, \qquad \bar{S}_{ij} = A_{ij} \Bigl( \sum_{c=1}^{d} \bar{O}_{ic} V_{jc} - \delta_i \Bigr)
# $$ (prefix-lm:scores)
#
# This is the step that lets FlashAttention {cite:p}`dao2022flash` compute gradients without ever storing the matrix $A$. Since $S = Q K^{\top} / \sqrt{d}$,
#
# $$
# \bar{Q} = \frac{1}{\sqrt{d}} \bar{S} K, \qquad \bar{K} = \frac{1}{\sqrt{d}} \bar{S}^{\top} Q
# $$ (prefix-lm:queries-keys)

# %% tags=["ledger"]
def one_row(draw):
    n = draw.turn(3, 4, 5)
    j = draw.integer(1, n)
    k = j if draw.integer(0, 1) else draw.integer(1, n)
    weights = lambda S: S.apply(mp.exp) / sum(S.apply(mp.exp))
    return {
        "S": draw.matrix(n, 1),
        "a": Derived(weights),
        "j": j,
        "k": k,
        "delta": mp.eye(n),
    }


ledger.numeric(
    "prefix-lm:softmax",
    where=one_row,
    draws=6,
)


# %% tags=["ledger"]
def scores(draw):
    n = draw.turn(4, 3, 5)
    S, given = (
        torch.tensor(draw.rng.normal(size=n)),
        torch.tensor(draw.rng.normal(size=n)),
    )
    hidden = torch.tensor([k == 1 for k in range(n)])  # one key is masked
    weights = torch.where(hidden, 0, S.exp())
    return {
        "S": S,
        "bar a": given,
        "a": weights / weights.sum(),
        "hidden": hidden,
    }


def differentiated(S, hidden, **env):
    """The gradient by the scores, by automatic differentiation."""
    S = S.clone().requires_grad_()
    a = S.masked_fill(hidden, -math.inf).softmax(0)
    return torch.autograd.grad(a @ env["bar a"], S)[0]


ledger.numeric(
    "prefix-lm:softmax-backward",
    where=scores,
    computed={"bar S": differentiated},
    tol=1e-13,
)


# %% tags=["ledger"]
def backward(draw):
    """All gradients of one masked head, by automatic differentiation."""
    env = heads(draw)
    Q, K, V = (env[name].clone().requires_grad_() for name in "QKV")
    S = Q @ K.T / math.sqrt(env["d"])
    O = S.masked_fill(env["M"] == 0, -math.inf).softmax(-1) @ V
    given = torch.tensor(draw.rng.normal(size=O.shape))
    grads = torch.autograd.grad((O * given).sum(), (Q, K, V, S))
    return {
        **env,
        "bar O": given,
        **{
            f"bar {name}": grad
            for name, grad in zip("QKVS", grads, strict=True)
        },
        "delta": (given * O).sum(1).detach(),
    }


ledger.numeric(
    "prefix-lm:values",
    where=backward,
    tol=1e-13,
)

# %% tags=["ledger"]
ledger.numeric(
    "prefix-lm:scores",
    where=backward,
    draws=8,
    tol=1e-13,
)

# %% tags=["ledger"]
ledger.numeric(
    "prefix-lm:queries-keys",
    where=backward,
    tol=1e-13,
)


# %% [markdown]
# ## Proof, gradients and traps
#
# ```{folded} 4 minutes: the proof, partial results by keys, the triangle in the wrong corner, prefixes of their own
# ```
#
# *Proof.* In {eq}`prefix-lm:attention` put $M_{ij} = \operatorname{step}(\max(s, i) - j)$, {eq}`prefix-lm:reach`: both sums end at the reach. For $i \le s$ the reach is $s$ and no key beyond $s$ occurs. For $i = s + r$ with $r = 1, \dots, t$ the reach is $s + r = r + (n - t)$: the $r$-th of these rows sees $n - t$ keys more than the $r$-th row of a triangle that starts at the top left, so that the last one, $r = t$, sees all $n$. $\square$
#
# Had we cut vertically, by *keys*, two partial outputs $O_1$, $O_2$ of the same row, with the sums of exponentials $Z_1$, $Z_2$, would have to be weighted,
#
# $$
# O = \frac{Z_1 O_1 + Z_2 O_2}{Z_1 + Z_2}
# $$ (prefix-lm:merge)
#
# which needs the $Z$'s (kernels return their logarithms, if at all), as in decoding with a prefix that all beams share.
#
# In the backward pass keys and values of the source occur in both calls, and their gradients {eq}`prefix-lm:values` and {eq}`prefix-lm:queries-keys`, sums over the rows that see them, add up.

# %% tags=["ledger"]
def prefixed(draw):
    s, t, d = draw.integer(1, 4), draw.integer(1, 3), 2
    n = s + t
    Q, K, V = (torch.tensor(draw.rng.normal(size=(n, d))) for _ in range(3))
    return {
        "Q": Q,
        "K": K,
        "V": V,
        "S": Q @ K.T / math.sqrt(d),
        "s": s,
        "n": n,
        "i": draw.integer(1, n),
        "c": draw.integer(1, d),
    }


def package(Q, K, V, s):
    Q, K, V = (x[None, None] for x in (Q, K, V))
    return attention(Q, K, V, int(s), backend="two-call")[0, 0]


ledger.numeric(
    "prefix-lm:two-call",
    where=prefixed,
    draws=16,
    computed={"O": package},
    tol=1e-12,
    code=attention,
)


# %% tags=["ledger"]
def cut_by_keys(draw):
    S, V = (
        torch.tensor(draw.rng.normal(size=6)),
        torch.tensor(draw.rng.normal(size=(6, 3))),
    )
    cut, parts = draw.integer(1, 5), {}
    for k, keys in ((1, slice(0, cut)), (2, slice(cut, 6))):
        parts[f"Z_{k}"], parts[f"O_{k}"] = (
            S[keys].exp().sum(),
            S[keys].softmax(0) @ V[keys],
        )
    return {**parts, "S": S, "V": V}


ledger.numeric(
    "prefix-lm:merge",
    where=cut_by_keys,
    computed={"O": lambda S, V: S.softmax(0) @ V},
    tol=1e-13,
)

# %% [markdown]
# PyTorch has, for a GPU, a fused kernel (all of attention in one program) that is aligned at the bottom right, so there the second call is a single one. On an NVIDIA H200 its results were right. Replayed from a CUDA graph (calls recorded once and repeated without Python) the two calls together were 0.9 to 1.5 times as fast as one call with the mask; called from Python in half precision they were slower in three cases of four ([results](../book/results.md)). On a CPU there is no such kernel, and the package works through the target in blocks of rows, each over the keys up to its end ({func}`gantext.seq2seq.prefixlm.attention`).
#
# Forward and backward against the reference in float64, for prefixes of 0, 1, some, all but one and all of the tokens, one for the batch and one for each sequence:

# %%
n, worst = 37, {"float64": 0.0, "float32": 0.0}
cases = [0, 1, 12, n - 1, n, [5, 30, 12], [0, n, 20]]
for prefix, dtype in itertools.product(cases, (torch.float64, torch.float32)):
    torch.manual_seed(0)
    exact = [
        torch.randn(3, 2, n, 8, dtype=torch.float64, requires_grad=True)
        for _ in range(3)
    ]
    used = [x.detach().to(dtype).requires_grad_() for x in exact]
    given = torch.randn(3, 2, n, 8, dtype=torch.float64)
    dense = attention_ref(*exact, prefix)
    split = attention(*used, prefix, backend="two-call")
    pairs = [
        (dense, split),
        *zip(
            torch.autograd.grad(dense, exact, given),
            torch.autograd.grad(split, used, given.to(dtype)),
            strict=True,
        ),
    ]
    name = str(dtype).removeprefix("torch.")
    worst[name] = max(
        worst[name], *((a - b).abs().max().item() for a, b in pairs)
    )
assert worst["float64"] < 1e-13 and worst["float32"] < 1e-5
print(
    f"{len(cases)} prefixes: output and gradients agree to 1e-13 in float64, "
    "to 1e-5 in float32"
)

# %% [markdown]
# ### The classic mistake
#
# PyTorch's flag `is_causal=True` is the triangle for as many queries as keys. For fewer queries, as in the second call, it puts the triangle at the *top left*: the first target row sees one key, the last one $t$. No shape is wrong, and for $t = 1$, the case of decoding with a cache, the newest token sees *only the very first*. FlashAttention's own flag of the same name is aligned at the bottom right since its version 2.1 {cite:p}`dao2023flashcode`.
#
# The smallest case: one query at the end, two keys with equal scores, the values $0$ and $1$. The right answer is their mean.

# %%
newest, keys = torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 2, 1)
values = torch.tensor([[[[0.0], [1.0]]]])
sdpa = F.scaled_dot_product_attention
flag = sdpa(newest, keys, values, is_causal=True).item()
aligned = sdpa(newest, keys, values, causal_lower_right(1, 2)).item()
assert flag == 0 and aligned == 0.5
print(f"is_causal=True: {flag}; causal_lower_right: {aligned}")


# %% [markdown]
# ### Each sequence with its own prefix, and padding
#
# In a batch the prefix length $s_b$ and the length $n_b$ differ. Padding on the right costs nothing, but a call has one shape, hence one prefix length. The package makes the two calls once for each prefix length that occurs, or takes the dense mask where many small calls would be slower. In training one puts equal prefixes into one batch, or pads *within*: UniLM's decoder lays out source, padding, target, hides the padding by the mask and lets the target's positions continue the source's. GPUs with packed ("varlen") kernels know a third way, both calls over a concatenation of all sequences.
#
# ## In floating point
#
# ```{folded} 3 minutes: minus infinity, a large negative number, and rows without a key
# ```
#
# On paper the mask multiplies by zero. Programs *add* $-\infty$ to the scores, or "a very large negative number". The two are the same until a row is empty.
#
# For a row with at least one visible key, adding $-C$ to the masked scores leaves them the weights $w_j = e^{S_j - C(1 - M_j)} / \sum_k e^{S_k - C (1 - M_k)}$. Let the scores of the row spread over $\Delta = \max S - \min S$. The masked keys get most if the only visible key has the lowest score and all others the highest. Number it first; then $w_j = e^{\Delta - C} w_1$ for the others, and together they get
#
# $$
# \sum_{j=2}^{n} w_j = \frac{(n - 1) e^{\Delta - C}}{1 + (n - 1) e^{\Delta - C}}
# $$ (prefix-lm:leak)
#
# and never more. Float32 rounds $e^{x}$ to zero below $x \approx -104$, so $C = 10^{12}$ is as good as infinity, and so would be $C = 10^3$.
#
# But a row with *no* visible key, such as a row of padding in some layouts, gets $-C$ on all of its keys, and softmax does not notice a constant:
#
# $$
# \frac{e^{S_j - C}}{\sum_{k=1}^{n} e^{S_k - C}} = \frac{e^{S_j}}{\sum_{k=1}^{n} e^{S_k}}
# $$ (prefix-lm:shift)
#
# In exact arithmetic **a row in which everything is masked sees everything**. What a machine makes of it depends on its number format:

# %% tags=["ledger"]
def added(S, seen, C):
    """Weights of a row when -C is added to the scores of masked keys."""
    e = [
        mp.exp(x - (0 if visible else C))
        for x, visible in zip(S, seen, strict=True)
    ]
    return mp.matrix(e) / sum(e)


def worst_row(draw):
    n, C = draw.integer(2, 6), draw.real(2, 6)
    low, Delta = draw.real(-2, 2), draw.real(0.5, 3)
    share = (n - 1) * mp.exp(Delta - C) / (1 + (n - 1) * mp.exp(Delta - C))
    seen = [True] + [False] * (n - 1)
    # No other row with this spread, whatever is masked in it, does worse.
    for _ in range(20):
        S = [
            low,
            low + Delta,
            *(low + Delta * draw.real(0, 1) for _ in range(n - 2)),
        ]
        visible = [draw.integer(0, 1) == 1 for _ in range(n - 1)] + [True]
        w = added(S, visible, C)
        assert sum(w[k] for k in range(n) if not visible[k]) <= share
    return {
        "w": added([low] + [low + Delta] * (n - 1), seen, C),
        "n": n,
        "Delta": Delta,
        "C": C,
    }


ledger.numeric(
    "prefix-lm:leak",
    where=worst_row,
)


# %% tags=["ledger"]
def any_row(draw):
    n = draw.turn(4, 3, 5)
    return {
        "S": draw.matrix(n, 1),
        "C": draw.real(1, 5),
        "n": n,
        "j": draw.integer(1, n),
    }


ledger.numeric(
    "prefix-lm:shift",
    where=any_row,
)

# %%
row = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
say = lambda w: (
    "NaN"
    if w.isnan().any()
    else "all zero"
    if (w == 0).all()
    else "uniform"
    if torch.allclose(w, w[0])
    else "as if unmasked"
)
none = torch.zeros(1, 3, dtype=torch.bool)
table = {}
for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
    x = row.to(dtype)
    fused = F.scaled_dot_product_attention(
        torch.ones(1, 1, 1, dtype=dtype),
        x[None, :, None],
        torch.eye(3, dtype=dtype)[None],
        none,
    )[0, 0]
    table[dtype] = [
        say((x - 1e12).softmax(0)),
        say((x - math.inf).softmax(0)),
        say(fused),
    ]
print("an empty row, masked by -1e12, -inf, False")
print(f"{'':10}{'-1e12':16}{'-inf':6}False")
for dtype, cells in table.items():
    print(f"{str(dtype)[6:]:10}{cells[0]:16}{cells[1]:6}{cells[2]}")

# %% [markdown]
# Float64 keeps about four decimals of the scores beside $10^{12}$ and therefore sees everything nearly as if unmasked; float32 and bfloat16 lose the scores and see everything evenly; float16 cannot hold $10^{12}$ and divides zero by zero. PyTorch's fused function defines the empty row as zero. bert4keras changed from $-10^{12}$ to $-\infty$ in 2023; then an empty row is NaN, which spreads to all gradients. {func}`gantext.seq2seq.prefixlm.attention` returns zeros for rows of padding.
#
# ## What it costs
#
# ```{folded} 5 minutes: shares of pairs and of a layer, and two larger savings
# ```
#
# Attention of one head takes $4 d$ operations for each pair ($2 d$ for the score, $2 d$ for the mean; a multiplication and an addition count as two). A kernel that skips what is masked does {eq}`prefix-lm:pairs`, one that does not skip does $n^2$. With $x = s / n$, the share of the source,
#
# $$
# \frac{1}{n^2} \Bigl( s^2 + s t + \frac{t (t + 1)}{2} \Bigr) = \frac{1 + x^2}{2} + \frac{1 - x}{2 n}
# $$ (prefix-lm:share)
#
# of the pairs are admitted: between one half, for a language model, and one. Two calls in which the second does *not* skip its triangle still leave out the rectangle above it,
#
# $$
# \frac{s^2 + t n}{n^2} = 1 - x (1 - x)
# $$ (prefix-lm:rectangle)
#
# which saves at best a quarter, for $x = \frac{1}{2}$. And attention is not all there is. A layer of width $D$ has four $D \times D$ matrices in attention and two $D \times 4D$ in the feed-forward part, $12 D^2$ numbers, each used once per row:
#
# $$
# F = 24 n D^2 + 4 n^2 D
# $$ (prefix-lm:layer)
#
# operations, so that dense attention is the share $\frac{n}{6 D + n}$ of a layer. For BERT-base, $D = 768$, and the 352 tokens of the reading-comprehension task that is 7 %. The mask saves 9 % of these 7 %.

# %% tags=["ledger"]
s_, t_ = sp.symbols("s t", positive=True)

ledger.symbolic(
    "prefix-lm:share",
    where={"s": s_, "t": t_, "n": s_ + t_, "x": s_ / (s_ + t_)},
)

# %% tags=["ledger"]
ledger.symbolic(
    "prefix-lm:rectangle",
    where={"s": s_, "t": t_, "n": s_ + t_, "x": s_ / (s_ + t_)},
)


# %% tags=["ledger"]
def counted(n, D):
    """Operations of one layer, with attention as two matrix products."""
    n, D = int(n), int(D)
    (block,) = Transformer(Config(5, width=D, layers=1, heads=2)).blocks
    plain = lambda q, k, v: (q @ k.transpose(-1, -2)).softmax(-1) @ v
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        block(torch.zeros(1, n, D), plain)
    return counter.get_total_flops()


ledger.exact(
    "prefix-lm:layer",
    where=lambda draw: {
        "n": draw.integer(3, 20),
        "D": 4 * draw.integer(1, 6),
    },
    computed={"F": counted},
    code="gantext.seq2seq.transformer.Block",
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "The admitted share of pairs against the share of the source rises from one half to one along half of one plus x squared; the cost of two calls that do not skip the triangle is one minus x times one minus x, lowest at one half with three quarters. Reading comprehension with 320 plus 32 tokens lies at 0.91, summarising news with 568 plus 200 at 0.77, translation with equal lengths at 0.63."}}
x = np.linspace(0, 1, 101)
jobs = {
    "reading comprehension, 320 + 32": (320, 32),
    "news summary, 568 + 200": (568, 200),
    "translation, 64 + 64": (64, 64),
}
fig, axis = plt.subplots(figsize=(5.4, 4.6), layout="constrained")
axis.plot(x, (1 + x**2) / 2, color=BLUE, label="pairs admitted")
axis.plot(
    x,
    1 - x * (1 - x),
    color=GREY,
    linestyle="--",
    label="two calls without skipping the triangle",
)
axis.plot(x, np.ones_like(x), color=GREY, linestyle=":", label="dense")
for (name, (s, t)), colour, sign in zip(
    jobs.items(), (RED, GREEN, "black"), "osD", strict=True
):
    share = mask(s, s + t).double().mean().item()
    n, D = s + t, 768
    saved = (1 - share) * n / (6 * D + n)
    axis.plot(s / n, share, sign, color=colour, label=name)
    print(
        f"{name}: {100 * share:.0f} % of the pairs; skipping the rest saves "
        f"{100 * (1 - share):.0f} % of attention, "
        f"{100 * saved:.1f} % of a layer of width 768"
    )
axis.set(
    xlabel="share of the source, s / n",
    ylabel="share of the dense work",
    ylim=(0.45, 1.03),
)
fig.legend(loc="outside lower center")
plt.show()

# %% [markdown]
# (prefix-lm-cost)=
# *Work relative to dense attention, against the share of the source in the sequence, for long sequences: if all that is masked is skipped (blue), and if the second call does not skip its triangle (dashed). The marks are three tasks.*
#
# So for questions and short answers the mask's gaps are worth next to nothing; for summaries and translations of long texts, something. The speed is measured in [the results](../book/results.md).
#
# Two larger savings are often overlooked. In the *last* layer the source rows have to supply keys and values, but no queries and no feed-forward part. And logits are needed for target rows alone. For BERT-base and a vocabulary of 21,128 words, the gaps of the mask are 0.5 % of all work, the source rows of the last layer 5.4 %, their logits 13.7 %. ({meth}`gantext.seq2seq.transformer.Transformer.loss` computes no logits for the source; {meth}`gantext.seq2seq.transformer.Transformer.run` cuts the last layer down to the `rows` that are asked for.)

# %%
(s, t), D, depth, vocabulary = (
    jobs["reading comprehension, 320 + 32"],
    768,
    12,
    21_128,
)
n = s + t
work = depth * (24 * n * D**2 + 4 * n**2 * D) + 2 * n * D * vocabulary
saved = {
    "gaps of the mask": depth * 4 * D * (n**2 - mask(s, n).sum().item()),
    "source rows of the last layer": s * (20 * D**2 + 4 * n * D),
    "logits of source rows": 2 * s * D * vocabulary,
}
shares = [round(100 * count / work, 1) for count in saved.values()]
assert shares == [0.5, 5.4, 13.7]
print("share of BERT-base's work, in percent")
for name, share in zip(saved, shares, strict=True):
    print(f"{name:30}{share:5}")

# %% [markdown]
# ## BERT's weights in a prefix-LM
#
# ```{folded} 1 minute: every weight of a BERT in its place
# ```
#
# A bidirectional encoder can be *fine-tuned* into a generator: the article's second promise. {meth}`gantext.seq2seq.transformer.Transformer.from_bert` takes the weights of any BERT from the Hugging Face library {cite:p}`wolf2020hf`. A tiny BERT with random weights shows whether every weight is in its place: the hidden states must be the same, under the bidirectional mask and when the library is handed the prefix-LM mask as a table.

# %%
with warnings.catch_warnings():
    # no progress bars are drawn here
    warnings.filterwarnings("ignore", message="IProgress not found")
    from transformers import BertConfig, BertForMaskedLM

torch.manual_seed(0)
small = BertConfig(
    vocab_size=60,
    hidden_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=48,
    max_position_embeddings=20,
)
bert = BertForMaskedLM(small).eval()
with torch.no_grad():
    for parameter in bert.parameters():
        # also the biases and norms, which start as zeros and ones
        parameter.normal_(std=0.3)
ours = Transformer.from_bert(bert).eval()
tokens, n = torch.randint(60, (2, 15)), 15
for s in (0, 6, n):
    segments = (torch.arange(n) >= s).long().expand(2, n)
    with torch.no_grad():
        theirs = bert.bert(
            tokens,
            attention_mask=mask(s, n).expand(2, 1, n, n),
            token_type_ids=segments,
        ).last_hidden_state
        mine = ours.hidden(tokens, s)
        gap = max(
            (theirs - mine).abs().max().item(),
            (bert.cls(theirs) - ours.logits(mine)).abs().max().item()
            / bert.cls(theirs).abs().max().item(),
        )
    assert gap < 1e-5
    print(f"prefix {s:2} of {n}: hidden states and logits agree to 1e-5")

# %% [markdown]
# On a machine with a network, `Transformer.from_bert(BertForMaskedLM.from_pretrained("bert-base-uncased"))` is a prefix-LM with 110 million weights.
#
# (prefix-lm-matter)=
#
# ## Does the mask matter?
#
# ```{folded} 4 minutes: the experiment in full, five settings, and what one layer cannot tell apart
# ```
#
# A docstring's first words are the source (16 words and a separator), and the target says where it comes from, in two tokens and a separator: "scipy stats", "sympy stats", "torch optim". There are six places. One network of two layers is trained from the same start on the same batches, five times, with only the mask or the counted rows changed:
#
# - the language model's triangle, with the loss on *all* tokens;
# - the triangle, with the loss on the answer only, as in all that follow;
# - the triangle over the source in a random order (positions go along), a new one for each batch;
# - the prefix-LM;
# - the bidirectional mask, shifted by one like the rest.
#
# The answer is generated token by token from the source alone, and must be right as a whole. Guessing the commonest place would be right once in five times. These are the numbers behind {numref}`prefix-lm-answers`:

# %% tags=["hide-input"]
# NBVAL_IGNORE_OUTPUT
# Training ends a little differently on another processor; what must hold is
# asserted.
print(f"{'':22}loss   right (range)")
for setting, runs in results.items():
    low, mean, high = runs[:, 1].min(), runs[:, 1].mean(), runs[:, 1].max()
    loss = runs[:, 0].mean()
    print(f"{setting:22}{loss:.2f}   {mean:.2f} ({low:.2f}, {high:.2f})")
loss, right = (
    {setting: runs[:, column] for setting, runs in results.items()}
    for column in (0, 1)
)
fair = [
    right[setting] for setting in ("triangle", "permuted source", "prefix-LM")
]
assert (
    loss["bidirectional"].max() < 0.5 * loss["prefix-LM"].min()
    and right["bidirectional"].max() < 2 * guess
)
print(
    "prefix-LM minus triangle, seed by seed:",
    np.round(right["prefix-LM"] - right["triangle"], 2),
)
assert (
    np.ptp([each.mean() for each in fair]) < 0.15
    and min(each.mean() for each in fair) > 2 * guess
)
assert right["triangle, loss on all"].mean() < min(
    each.mean() for each in fair
)

# %% [markdown]
# **Why the three are equal.** The answer's rows see the whole source in all of them; what differs is how much the *source* rows see of each other, and for this task that seems to be worth nothing.
#
# **The loss on all tokens** spends most of each step on predicting docstrings, and at this number of steps the answer has not caught up.
#
# A network of *one* layer gives the same answers with the triangle as with the prefix-LM mask: its answer rows take keys and values straight from the embeddings, which know no mask.

# %%
tokens = sequences(range(8))
with torch.no_grad():
    for layers in (1, 2):
        torch.manual_seed(0)
        model = (
            Transformer(
                Config(
                    len(known),
                    width=32,
                    layers=layers,
                    heads=2,
                    positions=ALL,
                )
            )
            .double()
            .eval()
        )
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
        one, other = (
            outputs(model, tokens, MASKS[setting])[:, SOURCE:]
            for setting in ("triangle", "prefix-LM")
        )
        gap = (one - other).abs().max().item()
        assert gap < 1e-12 if layers == 1 else gap > 1e-3
        print(
            f"{layers} layer{'s' if layers > 1 else ''}: answer rows",
            "are the same under both masks" if gap < 1e-12 else "differ",
        )

# %% [markdown]
# ## Two sizes
#
# ```{folded} 1 minute: what a larger SCALE runs, and how long that takes
# ```
#
# Everything on this page is `SCALE = "reduced"`. The articles train no small network of this kind, so there is no size called *paper*.
#
# | Size | `"reduced"` | `"gpu"` |
# | --- | --- | --- |
# | data | docstrings of six submodules | the same |
# | network | two layers of width 48 | two layers of width 128 |
# | steps | 150 | 1,500 |
# | seeds of each setting | 3 | 10 |
# | time on a T4, on an A100 | minutes, two CPU cores | 7 min, 7 min |
#
# The times are arithmetic of operations and bytes, as in {doc}`w-divergence` (`python benchmarks/scales.py --text`): 75,000 steps of 107 operations that are no mere views, each of which takes 50 µs of Python and PyTorch at least. The loops, cut short, have run on an NVIDIA H200 ([record](../book/results.md)).
#
# ## Claims and measurements
#
# UniLM's own figures, for networks of 340 million weights, are quoted, not repeated. Nor is the article's experiment repeated, titles for news: from BERT's weights readable after 1,000 steps, where Su's LSTM had needed tens of times as many.

# %% tags=["hide-input"]
rows = [
    (
        "one network, four masks: LM, permuted LM, seq2seq, bidirectional (Su)",
        "–",
        "drawn, and each checked in a network",
        "CPU",
        "holds; permuted needs the next position besides",
    ),
    (
        "running sum of the segment ids gives the seq2seq mask (bert4keras)",
        "–",
        "equal for 56 pairs of lengths; on padding the last target row differs",
        "exact",
        "holds on real tokens",
    ),
    (
        "source states can be cached",
        "–",
        "equal to 1e-13, layer by layer",
        "CPU, float64",
        "holds; not for the bidirectional mask",
    ),
    (
        "abstractive summaries, CNN/DailyMail, ROUGE-L (UniLM)",
        "40.51",
        "not run",
        "–",
        "not confirmed",
    ),
    (
        "generative question answering, CoQA, F1 (UniLM)",
        "82.5",
        "not run",
        "–",
        "not confirmed",
    ),
    (
        "prefix-LM against triangle, docstring task, answers right",
        "–",
        f"means within 0.15, {SEEDS} seeds; the numbers are above",
        "CPU",
        "no gain from the prefix-LM mask",
    ),
    (
        "bidirectional mask with shift by one",
        "–",
        f"below {2 * guess:.1f} in every seed; guessing {guess:.1f}",
        "CPU",
        "cannot generate",
    ),
    (
        "pairs that the mask saves, reading comprehension 320 + 32",
        "–",
        "9 % of attention, 0.6 % of a layer",
        "counted",
        "small",
    ),
]
book.claims(rows)

# %% [markdown]
# ## Questions that readers asked
#
# The first was asked below the article {cite:p}`su2019onlymask`; the others the article asks in its readers' name, or leaves them to ask.
#
# ### Does `application='unilm'` also hide tokens of the target, as UniLM does in training?
#
# No, the author answers: the name there means the mask of attention alone and has nothing to do with the paper's training. All target tokens are shown and each is predicted from the row before it, {eq}`prefix-lm:likelihood`; UniLM's own program hides seven in ten and predicts them in place, under contexts that decoding never shows, {eq}`prefix-lm:intact`.
#
# ### Must a new mask be drawn for every order of a permuted model?
#
# No. Hand the tokens over in the order in which they are to be read, each with the position it has in the sentence, and keep the triangle: by {eq}`prefix-lm:permuted` and {eq}`prefix-lm:equivariance` the states are the same.
#
# ### Why did these ways of training come with the Transformer? Could a recurrent network not do it?
#
# A recurrent network's row depends on all rows before it and on none after; that is the triangle, built in. There is no table in which anything else could be written. In derivatives:

# %%
torch.manual_seed(0)
recurrent = torch.nn.GRU(4, 4, batch_first=True).double()
row = torch.randn(1, 6, 4, dtype=torch.float64)
run = lambda x: recurrent(x)[0][0]
moved = torch.autograd.functional.jacobian(run, row)[:, :, 0]
# (row, feature, token, feature): which tokens move which rows
assert torch.equal(moved.abs().amax((1, 3)) > 0, mask(0, 6))
print("what a recurrent network sees is the triangle, and nothing else")

# %% [markdown]
# ### Why predict among 21,128 tokens when half of them never occur?
#
# There is no need. The article's program keeps a list of tokens and cuts the embedding, which is the output layer too, down to it. Here that is `keep`; the scores of the tokens that stay are the same numbers.

# %%
keep = torch.arange(0, bert.config.vocab_size, 2)
whole, cut = (
    Transformer.from_bert(bert, keep=kept).double().eval()
    for kept in (None, keep)
)
few = torch.tensor([[1, 4, 2, 7, 3]])
with torch.no_grad():
    expected = whole.logits(whole.hidden(keep[few], 3))[..., keep]
    assert torch.allclose(cut.logits(cut.hidden(few, 3)), expected)
print(f"{len(keep)} of {bert.config.vocab_size} tokens, the same scores")

# %% [markdown]
# ## Where articles and programs disagree
#
# ```{folded} 1 minute: triangles, hiding or shifting, segment ids, permuted masks, large numbers
# ```
#
# **Which triangle.** Two libraries' flags named "causal" mean different corners, and {eq}`prefix-lm:two-call` needs the lower right one. (PyTorch's documentation says "upper left"; only the name misleads.)
#
# **Whether to hide or to shift.** Article and paper share a mask and not an objective, {eq}`prefix-lm:intact`.
#
# **Segment ids of padding.** Harmful in decoding, {eq}`prefix-lm:padding`. UniLM's program hides the padding explicitly, bert4keras by a second mask.
#
# **What a permuted mask is.** "Permute the triangle" is right, {eq}`prefix-lm:permuted`, but does not yet make a model that can be trained by shifting outputs.
#
# **Large negative numbers.** $-10^{12}$ hides only where something else is visible, {eq}`prefix-lm:shift`.
#
# ## What Hugging Face calls this
#
# ```{folded} 2 minutes: a table of names
# ```
#
# | here | in transformers |
# | --- | --- |
# | one sequence, source and target | decoder-only models: `input_ids` holds both; encoder–decoders: `input_ids` and `decoder_input_ids` |
# | the loss counts the target alone; each token is predicted from the *true* ones before it (teacher forcing) | `labels`, with $-100$ where nothing is predicted. Decoder-only models shift them inside; T5 and BART make `decoder_input_ids` from them, shifted right |
# | `mask(s, n)`, the prefix-LM | T5 is an encoder–decoder; T5's paper compares it with this mask. PaliGemma sees its prompt in both directions (`token_type_ids`). BERT takes the mask itself as `attention_mask` of shape $(B, 1, n, n)$, as [here](#berts-weights-in-a-prefix-lm) |
# | `lengths`, padding on the right | `attention_mask` of 0 and 1; decoder-only models are padded on the *left* to generate |
# | {class}`gantext.seq2seq.cache.Cache` | `past_key_values`, a `DynamicCache`; encoder–decoders: `EncoderDecoderCache`, one for self- and one for cross-attention |
# | `beams`, `steps`, `min_tokens` | `num_beams`, `max_new_tokens`, `min_new_tokens` |
# | the score is the plain sum of logarithms | `length_penalty=0.0`; the usual $1$ divides the sum by the length |
# | `spans`, `allow` | `prefix_allowed_tokens_fn`, a Python function for each beam and step; `suppress_tokens` |
# | `sample(samples=3, top_p=0.9, temperature=1.0)` | `do_sample=True, num_return_sequences=3, top_p=0.9, temperature=1.0` |
# | conditional norms ({doc}`conditional-layer-norm`) | none. Adapters (`add_adapter`, the library PEFT) are also few new weights in a trained model, but one set for each task, not computed from a condition |

# %% tags=["hide-input"]
from transformers import (
    Cache as HuggingFaceCache,
    DynamicCache,
    EncoderDecoderCache,
    GenerationConfig,
    PreTrainedModel,
)
from transformers.generation import GenerationMixin

names = [
    "num_beams",
    "max_new_tokens",
    "min_new_tokens",
    "length_penalty",
    "suppress_tokens",
    "do_sample",
    "num_return_sequences",
    "top_p",
    "temperature",
]
assert all(hasattr(GenerationConfig(), name) for name in names) and hasattr(
    PreTrainedModel, "add_adapter"
)
assert (
    "prefix_allowed_tokens_fn"
    in inspect.signature(GenerationMixin.generate).parameters
)
assert issubclass(DynamicCache, HuggingFaceCache) and issubclass(
    EncoderDecoderCache, HuggingFaceCache
)
print("every name of the right column is there")


# %% [markdown]
# ## Exercises
#
# ```{exercise} How many chains · ★★
# :label: prefix-lm-ex-chains
#
# For the language model's triangle $M$, how many chains of $L$ steps lead from token $i$ back to token $j$? And in how many layers does a sliding window, where a row sees itself and the $w - 1$ tokens before it, reach from $i$ to $j$?
# ```
#
# ```{solution-start} prefix-lm-ex-chains
# :class: dropdown
# ```
#
# A chain $i \ge k_1 \ge \dots \ge k_{L-1} \ge j$ distributes the distance $i - j$ over $L$ steps, each of which may be zero. That is choosing where to put $L - 1$ bars among $i - j$ stars:
#
# $$
# N_{ij} = \binom{i - j + L - 1}{L - 1} \qquad \text{for } i \ge j
# $$ (prefix-lm:chains)
#
# Each step of the window covers at most $w - 1$, so $L (w - 1) \ge i - j$ layers are needed and suffice.

# %% tags=["ledger"]
def triangle_power(draw):
    n, L = draw.integer(3, 6), draw.integer(2, 5)
    power = sp.Matrix(n, n, lambda i, j: step(i - j)) ** L
    i, j = draw.integer(1, n), draw.integer(1, n)  # i < j: drawn again
    return {"N": power, "L": L, "i": i, "j": j}


ledger.exact(
    "prefix-lm:chains",
    where=triangle_power,
    draws=12,
)

# %%
i = torch.arange(20)
for w, layers in itertools.product((2, 3, 5), (1, 2, 4)):
    window = ((i[None] <= i[:, None]) & (i[:, None] - i[None] < w)).double()
    reached = torch.linalg.matrix_power(window, layers) > 0
    assert torch.equal(
        reached,
        (i[None] <= i[:, None]) & (i[:, None] - i[None] <= layers * (w - 1)),
    )
print(
    "windows of 2, 3, 5 tokens in 1, 2, 4 layers reach back as far as stated"
)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Three passages and a question · ★★
# :label: prefix-lm-ex-times
#
# Three passages shall each be read without knowledge of the others, then a question that sees all three, then an answer from left to right. No token may learn anything of later parts. Is there an assignment of times $a_i$ for it? If not, is there a mask that does not leak, and what may be cached?
# ```
#
# ```{solution-start} prefix-lm-ex-times
# :class: dropdown
# ```
#
# Of two different times one is earlier, and the later passage would see the earlier one; equal times see each other. So there is no such assignment. But a transitive mask need not come from times: of two tokens it may let *neither* see the other. Passages see themselves, the question sees passages and itself, answers see all that and earlier answers. Each passage is closed by itself, so its keys and values can be computed once and used for every question, and in any combination, if its positions are counted from its own start.

# %%
# three passages, the question, three answer tokens
part = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 4, 5, 6])
M = (part[None] == part[:, None]) | (
    (part[:, None] >= 3) & (part[None] <= part[:, None])
)
twice = torch.linalg.matrix_power(M.double(), 2) > 0
assert torch.equal(twice, M)  # transitive: no hearsay
# each passage is closed
assert all(not M[part == p][:, part != p].any() for p in range(3))
comparable = M | M.T
# which no assignment of times can do: of two times one is not later than the
# other
assert not comparable[0, 3]
print("transitive; each passage can be cached by itself")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} One off · ★
# :label: prefix-lm-ex-off
#
# A program for a flexible attention kernel counts from 0 and writes `kv <= prefix` where `kv < prefix` is meant. Which rows see what they should not, and what happens in training?
# ```
#
# ```{solution-start} prefix-lm-ex-off
# :class: dropdown
# ```
#
# The first target token becomes part of what all see. The last row of the source, which has to predict it, now sees it: one answer token is leaked, the loss of the first token goes to zero, and the others are learned as usual. With short answers that is most of the loss. In generation the first token is a guess.

# %%
n, s = 8, 5
j = torch.arange(n)
wrong = (j[None] <= s) | (j[None] <= j[:, None])
extra = (wrong & ~mask(s, n)).nonzero().tolist()
assert extra == [[row, s] for row in range(s)]
print("admitted too much (row, key), counted from 0:", extra)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} The gradient that vanishes · ★★★
# :label: prefix-lm-ex-saturated
#
# By {eq}`prefix-lm:softmax-backward`, how large can the gradient of a score be if one weight is $1 - \varepsilon$? What does the factor $\frac{1}{\sqrt{d}}$ have to do with it?
# ```
#
# ```{solution-start} prefix-lm-ex-saturated
# :class: dropdown
# ```
#
# $\bar{S}_j = a_j (\bar{a}_j - \sum_k a_k \bar{a}_k)$. For the large weight the bracket is $\sum_{k \ne j} a_k (\bar{a}_j - \bar{a}_k)$, at most $\varepsilon$ times the spread of $\bar{a}$; for the others the factor $a_j \le \varepsilon$ is in front. So all are at most $\varepsilon$ times the spread: a softmax that has made up its mind does not learn. Without $\frac{1}{\sqrt{d}}$ the scores of random queries and keys with entries of variance 1 have the standard deviation $\sqrt{d}$, here 8, and the largest weight is nearly one from the start.

# %%
torch.manual_seed(0)
d, n = 64, 30
q, k = (
    torch.randn(2000, d, dtype=torch.float64),
    torch.randn(2000, n, d, dtype=torch.float64),
)
raw = (k @ q[..., None]).squeeze(-1)
given = torch.rand(2000, n, dtype=torch.float64)
size = {}
for name, S in (("without", raw), ("with", raw / math.sqrt(d))):
    a = S.softmax(-1)
    back = a * (given - (a * given).sum(-1, keepdim=True))
    eps = 1 - a.amax(-1)
    assert (
        back.abs().amax(-1) <= eps * (given.amax(-1) - given.amin(-1)) + 1e-12
    ).all()
    size[name] = a.amax(-1).median().item()
assert size["without"] > 0.9 and size["with"] < 0.3
print(
    f"median of the largest weight: {size['with']:.1f} with the factor, "
    f"{size['without']:.1f} without"
)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Ten times the steps · ★★
# :label: prefix-lm-ex-scale
#
# Set `SCALE = "gpu"`: ten times the steps, a wider network, ten seeds. Which two of the five settings should come closer to each other, and which should stay apart however long one trains? What does the paired difference of the seeds, with its interval, say of prefix-LM and triangle?
# ```
#
# ```{solution-start} prefix-lm-ex-scale
# :class: dropdown
# ```
#
# The loss on all tokens should catch up with the loss on the answer: it spends its steps on other predictions, not on wrong ones. The bidirectional mask should stay a guess: its loss has nothing to do with the task, for at row $i - 1$ the answer is an input. (Neither was run for this page.) For the last question, the cell that you will want, here with the three seeds that were run above:

# %%
from gantext.statistics import half_width

gaps = right["prefix-LM"] - right["triangle"]
low, high = gaps.mean() - half_width(gaps), gaps.mean() + half_width(gaps)
assert low < gaps.mean() < high and abs(gaps.mean()) < 0.15
print(f"{len(gaps)} seeds; zero inside the interval: {low < 0 < high}")

# %% [markdown]
# ```{solution-end}
# ```
#
# ## What the ledger holds

# %%
kinds = {}
for entry in ledger.entries.values():
    kinds[entry.kind] = kinds.get(entry.kind, 0) + 1
print(
    "\n".join(
        f"{kind:15s}{count:3d}" for kind, count in sorted(kinds.items())
    )
)
ledger

# %% [markdown]
# ## References
#
# ```{bibliography}
# :filter: docname in docnames
# :labelprefix: P
# ```
