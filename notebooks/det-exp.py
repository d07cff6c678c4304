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
# (det-exp)=
# # Volume in a flow: det(exp A) = exp(Tr A)
#
# Exponentiate a square matrix and take the determinant (行列式), or exponentiate the sum of its diagonal, the trace (迹): the results are equal, for every matrix; what can fail is the floating-point arithmetic around them.
#
# A wind blows at the point $x$ with velocity $Ax$ and carries a square along, $x(t) = \exp(tA)\,x(0)$. The area below is *measured* from the corners; the number beside it knows nothing of the square. Shear and saddle leave the area as it is: their traces are zero.
#
# ```{widget} det-exp
# ```
#
# **Three points**
#
# - **The idea.** A linear flow multiplies all volumes by one factor, which grows like money at compound interest. The rate of interest is the trace.
# - **The formula.** $\det(\exp A) = \exp(\operatorname{Tr} A)$, {eq}`det-exp:main`: in unit time the flow of $\dot x = Ax$ multiplies volumes by $e^{\operatorname{Tr} A}$.
# - **Measured.** At a spread of 44 of the eigenvalues, the log-determinant of $\exp A$ in float64 is off by more than $0.5$, the trace by less than $10^{-13}$.
#
# **Before you start**: determinants, eigenvalues, derivatives. **Ten minutes** to [the verdict](#the-verdict), 45 more for the closed sections. A tick opens what a machine computed to test the equation. After Su Jianlin (苏剑林) {cite:p}`su2019detexp`.

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
import time
from fractions import Fraction

import matplotlib.pyplot as plt
import mpmath as mp
import numpy as np
import scipy.integrate
import scipy.linalg
import sympy as sp
import torch

from gantext import at_scale, book
from gantext.book import BLUE, GREEN, GREY, ORANGE, RED
from gantext.kernels import expm_formula
from gantext.matexp import expm, expm_ref, logdet_expm
from texledger import Law, Ledger, Superscript

# "gpu" for a Colab GPU; "large": larger still (the article has no sizes)
SCALE = "reduced"
SIZES = at_scale(
    SCALE,
    {
        "reduced": {
            "orders": (2, 4, 8, 16, 32, 64, 128, 256),
            "probes": 200_000,
            "repeats": 5,
        },
        "gpu": {
            "orders": (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
            "probes": 1_000_000,
            "repeats": 20,
        },
        "large": {
            "orders": (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048),
            "probes": 4_000_000,
            "repeats": 20,
        },
    },
)
DEVICE = "cuda" if SCALE != "reduced" and torch.cuda.is_available() else "cpu"

ledger = Ledger("det-exp", where={"^*": Superscript("adjoint")})


def square(draw, **kind):
    """A random square matrix, of order 2, 3 and 4 in turn: even and odd."""
    return draw.matrix(draw.turn(2, 3, 4), **kind)


book.set_up(threads=None)
torch.set_default_dtype(torch.float64)


# %% [markdown]
# ## The formula, and the proof it was written for
#
# The exponential of a square matrix is the series of the number, $\exp A = I + A + \frac12 A^2 + \frac16 A^3 + \dots$; it always converges. And for every $A \in \mathbb{C}^{n \times n}$
#
# $$
# \det(\exp A) = \exp(\operatorname{Tr} A)
# $$ (det-exp:main)
#
# The left side from the definition: halve $A$, sum the series, square back.

# %%
def exponential(A, halvings=8, terms=12):
    X = A / 2**halvings
    term = total = torch.eye(len(A))
    for k in range(1, terms):
        term = term @ X / k  # X^k / k!
        total = total + term
    return torch.linalg.matrix_power(total, 2**halvings)


generator = torch.Generator().manual_seed(0)
A = torch.randn(6, 6, generator=generator)
left = torch.linalg.det(exponential(A))  # n³, many times
right = torch.exp(torch.trace(A))  # n - 1 additions
print(f"det exp A = {left:.8f}\nexp Tr A  = {right:.8f}")

# %% [markdown]
# One "exquisite" (非常精妙) proof was Su's main reason to write. Let $f(t) = \det \exp(tA)$ be the factor by which volumes have grown at time $t$. A short time $h$ later $\exp(tA)$ has been multiplied by $I + hA$, up to $h^2$, and with it $f$ by $\det(I + hA) = 1 + h \operatorname{Tr} A$, again up to $h^2$: all products but the diagonal's have two off-diagonal factors. So
#
# $$
# f'(t) = f(t) \operatorname{Tr} A, \qquad f(0) = 1
# $$ (det-exp:ode)
#
# A capital of 1 at the interest $\operatorname{Tr} A$: $f(t) = e^{t \operatorname{Tr} A}$, and $t = 1$ is the theorem ([in full](#first-proof-jacobis-formula-and-a-differential-equation)).
#
# ## What rounding does to the two sides
#
# If the eigenvalues of $A$ span a range of 44, $\exp A$ mixes numbers as far apart as $1$ and $e^{44}$; rounding buries the small ones, which the determinant needs just as much. Its logarithm is off by about $u\, e^{\text{spread}}$, $u$ the unit roundoff; the trace is not.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Error of the log-determinant against the spread of the eigenvalues. For float32 and float64 the error computed from exp A climbs exponentially, parallel to the dashed lines u times e to the spread and somewhat below them, and reaches one at a spread of about 20 and 40. The error of the trace stays at the bottom of the plot."}}
# the core's two sides, and the package's functions
assert torch.allclose(left, right, rtol=1e-10)
assert torch.allclose(exponential(A), expm(A), rtol=1e-10)
assert torch.allclose(left.log(), logdet_expm(A), rtol=1e-10)

spreads = np.arange(2, 49, 2)
generator = torch.Generator().manual_seed(5)
rotations = torch.linalg.qr(torch.randn(9, 8, 8, generator=generator)).Q
errors = {name: [] for name in ("float32", "float64", "trace")}
for spread in spreads:
    # their sum, the trace, is 1
    eigenvalues = torch.linspace(-spread / 2, spread / 2, 8) + 0.125
    S = rotations @ torch.diag(eigenvalues) @ rotations.mT
    S = (S + S.mT) / 2
    for name in ("float32", "float64"):
        computed = torch.linalg.slogdet(
            expm(S.to(getattr(torch, name)))
        ).logabsdet.double()
        errors[name].append(
            (computed - 1).abs().nan_to_num(torch.inf).median().item()
        )
    errors["trace"].append((logdet_expm(S) - 1).abs().median().item())
    unmixed = torch.linalg.slogdet(expm(torch.diag(eigenvalues))).logabsdet
    assert abs(unmixed - 1) < 1e-12

at = {int(spread): k for k, spread in enumerate(spreads)}
assert errors["float32"][at[4]] < 1e-4 and errors["float32"][at[24]] > 0.5
assert errors["float64"][at[10]] < 1e-9 and errors["float64"][at[44]] > 0.5
assert max(errors["trace"]) < 1e-13

fig, axis = plt.subplots(figsize=(5.4, 3), layout="constrained")
for name, colour, u in (
    ("float32", ORANGE, 2.0**-24),
    ("float64", BLUE, 2.0**-53),
):
    axis.semilogy(
        spreads,
        errors[name],
        "o-",
        color=colour,
        ms=4,
        label=f"from exp A, {name}",
    )
    axis.semilogy(
        spreads,
        u * np.exp(spreads),
        "--",
        color=colour,
        lw=1,
        label=rf"$u\,e^{{\mathrm{{spread}}}}$, {name}",
    )
axis.semilogy(
    spreads,
    np.maximum(errors["trace"], 1e-17),
    "s-",
    color=GREEN,
    ms=4,
    label="trace, float64",
)
axis.axhline(1, color=GREY, lw=0.8)
axis.set(
    xlabel="spread of the eigenvalues",
    ylabel="absolute error",
    ylim=(1e-17, 1e4),
)
fig.legend(fontsize=10, loc="outside upper center", ncols=2)
plt.show()


# %% [markdown]
# *Error of the log-determinant, in symmetric matrices of order 8 with trace 1: medians of nine. At the grey line, an error of 1, no digit is left.*
#
# ## The verdict
#
# - **Holds** for every square matrix {checked}`det-exp:main`. Compute the right side: it keeps all digits, while the left has lost them at a spread of 24 in float32 and 44 in float64; and it takes less than a fiftieth of [the time](#the-cost-of-the-two-sides) at order 256.
# - **Fails**, as often read: $\ln \det B = \operatorname{Tr} \ln B$ is true of principal logarithms only up to multiples of $2\pi i$ {checked}`det-exp:log-form`; and a program for $\exp A$ that passes the determinant's test may be [wrong all along the diagonal](#det-exp-overscaling).
# - **Not known**: how much the gap between an exact flow and its discrete steps, [measured for linear fields](#det-exp-cnf), matters in large trained flows.
#
# ## The same picture on paper
#
# ```{folded} 1 minute: four winds at fixed times, for readers without the slider
# ```

# %% tags=["hide-input"] mystnb={"image": {"alt": "Four panels, one for each matrix. In each, a square with a letter F is carried along by the flow and drawn at times 0, 0.6 and 1.2. The growing rotation turns and enlarges it, the shear slants it at equal area, the saddle stretches it one way and squeezes it the other at equal area, the contraction shrinks it."}}
def shoelace(points):
    """Signed area of the polygon with these corners, shape (k, 2)."""
    x, y = points.T
    return 0.5 * float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))


winds = {
    "growing rotation": [[0.2, -1.2], [1.2, 0.2]],
    "shear": [[0.0, 1.0], [0.0, 0.0]],
    "saddle": [[0.6, 0.0], [0.0, -0.6]],
    "contraction": [[-0.5, 0.4], [-0.1, -0.3]],
}
corners = np.array([[0.2, 0.1], [1.2, 0.1], [1.2, 1.1], [0.2, 1.1]])
letter = np.array(
    [
        [0.5, 0.3],
        [0.5, 0.9],
        [0.9, 0.9],
        [0.5, 0.9],
        [0.5, 0.62],
        [0.78, 0.62],
    ]
)
grid = np.stack(
    np.meshgrid(np.arange(-1.5, 3.6, 0.75), np.arange(-1.5, 2.9, 0.75)),
    axis=-1,
).reshape(-1, 2)

fig, axes = plt.subplots(2, 2, figsize=(5.4, 5.2), layout="constrained")
for axis, (name, rows) in zip(axes.flat, winds.items(), strict=True):
    A = np.array(rows)
    axis.quiver(*grid.T, *(A @ grid.T), color="#999999", width=0.004)
    for t, colour in ((0.0, GREY), (0.6, ORANGE), (1.2, BLUE)):
        flow = scipy.linalg.expm(t * A)
        image = corners @ flow.T
        area = shoelace(image)
        assert abs(area - math.exp(t * np.trace(A))) < 1e-12
        axis.fill(
            *image.T,
            facecolor=colour,
            edgecolor=colour,
            alpha=0.35,
            label=f"t = {t:.1f}: area {area:.3f}",
        )
        axis.plot(*(letter @ flow.T).T, color=colour)
    axis.set(
        title=f"{name}, Tr A = {np.trace(A):.1f}".replace("-", "−"),
        aspect="equal",
        xlim=(-1.8, 3.8),
        ylim=(-1.8, 2.9),
    )
    axis.legend(
        loc="lower right",
        fontsize=10,
        handlelength=1,
        labelspacing=0.2,
        borderpad=0.1,
        frameon=True,
        framealpha=0.9,
        edgecolor="none",
    )
plt.show()


# %% [markdown]
# *What four winds (arrows) make of a square at the times 0, 0.6 and 1.2, with its area by the shoelace formula.*
#
# Each area is $e^{t \operatorname{Tr} A}$, asserted to twelve digits.
#
# ## The definition, and what follows at once
#
# ```{folded} 5 minutes: the series, its bound and its derivative; invertibility, rotations; sine, cosine, logarithm
# ```
#
# For $A \in \mathbb{C}^{n \times n}$ the exponential (矩阵指数) is
#
# $$
# \exp A = \sum_{k=0}^{\infty} \frac{A^k}{k!}
# $$ (det-exp:exp)
#
# Since $\|A^k / k!\| \le \|A\|^k / k!$ in any submultiplicative norm (one with $\|XY\| \le \|X\| \|Y\|$), it converges absolutely, for every $A$, and
#
# $$
# \|\exp A\|_2 \le e^{\|A\|_2}
# $$ (det-exp:norm-bound)
#
# where $\|\cdot\|_2$ is the spectral norm, the largest stretch of a unit vector. A power series may be differentiated term by term: $\frac{d}{dt} \frac{t^k A^k}{k!} = A\,\frac{t^{k-1} A^{k-1}}{(k-1)!}$, hence
#
# $$
# \frac{d}{dt} \exp(tA) = A \exp(tA) = \exp(tA)\,A
# $$ (det-exp:flow)
#
# This is why $x(t) = \exp(tA)\,x(0)$ solves $\dot x = Ax$. A linear map multiplies volumes by the absolute value of its determinant, so the volume of a region at time $t$ is
#
# $$
# V(t) = V(0)\, e^{t \operatorname{Tr} A}
# $$ (det-exp:volume)

# %% tags=["ledger"]
def carried_star(draw):
    """A region cut into 2ⁿ simplices, one in each orthant."""
    A, n = square(draw), draw.turn(2, 3, 4)
    tips = [(draw.real(0.5, 1.5), draw.real(-1.5, -0.5)) for _ in range(n)]

    def V(t):
        flow = mp.expm(t * A, method="taylor")
        edges = [flow * mp.diag(some) for some in itertools.product(*tips)]
        return sum(abs(mp.det(E)) for E in edges) / mp.factorial(n)

    return {"A": A, "t": draw.real(0.5, 1.5), "V": V}


ledger.numeric(
    "det-exp:volume",
    where=carried_star,
)

# %% tags=["ledger"]
ledger.numeric(
    "det-exp:main",
    where=lambda draw: {"A": square(draw, complex=True)},
)

# %% tags=["ledger"]
ledger.implementation(
    "det-exp:exp",
    where=lambda draw: {"A": square(draw)},
    function=expm,
)


# %% tags=["ledger"]
def positive_or_not(draw):
    """Positive definite matrices attain the bound, others do not."""
    X = square(draw, complex=True)
    return {"A": X.H * X + mp.eye(X.rows) if draw.number < 3 else X}


ledger.numeric(
    "det-exp:norm-bound",
    where=positive_or_not,
    draws=6,
    also_true={"exp of −(A)": "−A has the same norm"},
)

# %% tags=["ledger"]
ledger.numeric(
    "det-exp:flow",
    where=lambda draw: {"A": square(draw), "t": draw.real(0.5, 1.5)},
)

# %% [markdown]
# ````{prf:corollary} What follows at once
# :label: det-exp-corollaries
#
# The exponential of a matrix is always invertible, with inverse
#
# $$
# \exp(-A) \exp A = I
# $$ (det-exp:inverse)
#
# For real $A$ its determinant is positive,
#
# $$
# \det \exp A > 0
# $$ (det-exp:positive)
#
# so $\exp(A)$ never reverses orientation. A real skew-symmetric matrix $K = -K^{\top}$ has trace zero and its exponential is a rotation:
#
# $$
# (\exp K)^{\top} \exp K = I, \qquad \det \exp K = 1
# $$ (det-exp:rotation)
#
# And although $\exp(A)\exp(B)$ is in general not $\exp(A+B)$, the two have the same determinant:
#
# $$
# \det(\exp(A) \exp(B)) = \det \exp(A + B)
# $$ (det-exp:product)
# ````
#
# ```{prf:proof}
# $A$ and $-A$ commute, so {eq}`det-exp:inverse` is the binomial theorem applied to the product of two series, as for numbers. For real $A$ the right side of {eq}`det-exp:main`
# is the exponential of a real number. If $K^{\top} = -K$, transposing the series gives $(\exp K)^{\top} = \exp(-K)$, the inverse; and the diagonal of $K$ is zero.
# Finally, both sides of {eq}`det-exp:product` are $e^{\operatorname{Tr} A + \operatorname{Tr} B}$.
# ```

# %% tags=["ledger"]
ledger.numeric(
    "det-exp:inverse",
    where=lambda draw: {"A": square(draw)},
)


# %% tags=["ledger"]
def shifted(draw):
    """Determinants from large to small, and turns by more than π/2."""
    X = square(draw)
    return {"A": X + 3 * (X - X.T) + draw.turn(3, 0, -3) * mp.eye(X.rows)}


ledger.numeric(
    "det-exp:positive",
    where=shifted,
    draws=9,
    also_true={"exp of −(A)": "−A is as real as A"},
)


# %% tags=["ledger"]
def skew(draw):
    X = square(draw)
    return {"K": X - X.T}


ledger.numeric(
    "det-exp:rotation",
    where=skew,
    also_true={"exp of −(K)": "−K is skew as well: det exp(−K) = 1 too"},
)

# %% tags=["ledger"]
ledger.numeric(
    "det-exp:product",
    where=lambda draw: {"A": square(draw), "B": square(draw)},
)


# %% [markdown]
# ### Sine, cosine and logarithm of a matrix
#
# The article feeds other power series with a matrix, $\sin A = A - \frac{A^3}{3!} + \dots$ and $\cos A = I - \frac{A^2}{2!} + \dots$. What holds of numbers holds of matrices that commute: if $AB = BA$, then
#
# $$
# \sin(A + B) = \sin(A) \cos(B) + \sin(B) \cos(A)
# $$ (det-exp:sine-sum)
#
# because the proof for numbers only rearranges products. Without $AB = BA$ it fails, as $e^{A+B} = e^A e^B$ does. But $f(P \Lambda P^{-1}) = P f(\Lambda) P^{-1}$ for every series that converges.
#
# The logarithm has two definitions. One takes *any* $B$ with $\exp B = A$, which is not unique, not even among real matrices: for every integer $n$
#
# $$
# \exp \Bigl( (\alpha + 2 \pi n) \begin{pmatrix} 0 & -1 \\ 1 & 0 \end{pmatrix} \Bigr) = \begin{pmatrix} \cos \alpha & -\sin \alpha \\ \sin \alpha & \cos \alpha \end{pmatrix}
# $$ (det-exp:turns)
#
# is the same rotation. The other is the series $\ln(I + A) = A - \frac{A^2}{2} + \frac{A^3}{3} - \dots$, which names one matrix and undoes the exponential, for $\|A\|_2 < 1$ as the article says; [the spectral radius](#det-exp-series) is the sharp measure.

# %% tags=["ledger"]
def commuting(draw):
    """Two polynomials in one matrix."""
    X = square(draw)
    A, B = X + draw.real() * X * X, draw.real() * X - X * X
    return {"A": A, "B": B, "sin": mp.sinm, "cos": mp.cosm}


even_cosine = "cosine is even"
ledger.numeric(
    "det-exp:sine-sum",
    where=commuting,
    also_true={
        "cos of −(A)": even_cosine,
        "cos of −(B)": even_cosine,
    },
    weak="A and B commute, and so do their sines and cosines",
)

# %% tags=["ledger"]
any_turns = "n is any whole number: turns may be doubled or taken back"
ledger.numeric(
    "det-exp:turns",
    where=lambda draw: {"alpha": draw.real(0.3, 3), "n": draw.turn(1, -1, 2)},
    also_true={"cos of −(alpha)": even_cosine}
    | dict.fromkeys(
        (
            "sign of 2·pi·n",
            "2·(2·pi·n)",
            "without 2·pi·n",
            "without the factor n",
        ),
        any_turns,
    ),
)

# %%
X = 0.3 * np.random.default_rng(2).standard_normal((4, 4))
assert np.linalg.norm(X, 2) < 1
power, series = np.eye(4), np.zeros((4, 4))
for k in range(1, 2000):
    power = power @ X
    series = series + (-1) ** (k + 1) / k * power
assert np.allclose(scipy.linalg.expm(series), np.eye(4) + X, atol=1e-12)
Y = X.T  # does not commute with X
left_side = scipy.linalg.sinm(X + Y)
right_side = scipy.linalg.sinm(X) @ scipy.linalg.cosm(Y)
right_side = right_side + scipy.linalg.sinm(Y) @ scipy.linalg.cosm(X)
assert np.abs(left_side - right_side).max() > 0.01
print("the series of ln(I + X) undoes exp; sin(X + Xᵀ) has no such sum")


# %% [markdown]
# ## Five proofs
#
# The first and the fourth make the figure at the top of the page exact, the second and the third are algebra, the fifth a computer can do with symbols.
#
# ### First proof: Jacobi's formula and a differential equation
#
# ```{folded} 3 minutes: cofactors, the adjugate, the derivative of a determinant
# ```
#
# The core's proof is made exact by the derivative of a determinant, Jacobi's formula. Let $M$ be an $n \times n$ matrix with entries $m_{ij}$ and let $c_{ij}$ be the cofactor (代数余子式) of $m_{ij}$: $(-1)^{i+j}$ times the determinant that is left when row $i$ and
# column $j$ are struck out. Expansion along row $i$ reads
#
# $$
# \det M = \sum_{j=1}^{n} m_{ij}\, c_{ij}
# $$ (det-exp:laplace)
#
# The adjugate (伴随矩阵) $\operatorname{adj} M$ has the entry $c_{ji}$ in row $i$, column $j$. By {eq}`det-exp:laplace` the diagonal of $M \operatorname{adj}(M)$ is $\det M$; off the diagonal it is the expansion of a
# determinant with two equal rows, zero. So
#
# $$
# M \operatorname{adj}(M) = \det(M)\, I
# $$ (det-exp:adjugate)

# %% tags=["ledger"]
def cofactors(draw):
    M = square(draw)
    n = M.rows
    c, i = M.cofactor_matrix(), draw.integer(1, n)
    return {"M": M, "m": M, "c": c, "n": n, "i": i}


ledger.exact(
    "det-exp:laplace",
    where=cofactors,
)

# %% tags=["ledger"]
ledger.exact(
    "det-exp:adjugate",
    where=lambda draw: {"M": square(draw)},
)

# %% [markdown]
# ```{prf:lemma} Jacobi's formula
# :label: det-exp-jacobi-lemma
#
# The gradient of the determinant, as a function of the $n^2$ entries, is
#
# $$
# \nabla_M \det M = \operatorname{adj}(M)^{\top}
# $$ (det-exp:det-gradient)
#
# and along a differentiable curve $M(t)$
#
# $$
# \frac{d}{dt} \det M(t) = \operatorname{Tr}\bigl(\operatorname{adj}(M(t))\, M'(t)\bigr)
# $$ (det-exp:jacobi)
#
# Where $M(t)$ is invertible, this is
#
# $$
# \frac{d}{dt} \det M(t) = \det(M(t)) \operatorname{Tr}\bigl(M(t)^{-1} M'(t)\bigr)
# $$ (det-exp:jacobi-inverse)
# ```
#
# ```{prf:proof}
# In the expansion {eq}`det-exp:laplace` along row $i$ none of the cofactors $c_{i1}, \dots, c_{in}$ contains an entry of row $i$. So the determinant is a linear function of $m_{ij}$ with slope $c_{ij}$:
# $\partial \det M / \partial m_{ij} = c_{ij}$, which is {eq}`det-exp:det-gradient`. By the chain rule $\frac{d}{dt} \det M = \sum_{i,j} c_{ij} m'_{ij}$. Since $c_{ij}$ stands in row $j$, column $i$ of the adjugate, this sum
# is $\sum_j (\operatorname{adj}(M) M')_{jj}$, the trace in {eq}`det-exp:jacobi`. Where $\det M \ne 0$, {eq}`det-exp:adjugate` says $\operatorname{adj} M = \det(M) M^{-1}$.
# ```

# %% tags=["ledger"]
ledger.gradient(
    "det-exp:det-gradient",
    where=lambda draw: {"M": square(draw)},
    of=torch.linalg.det,
    wrt="M",
)


# %% tags=["ledger"]
def generic(t):
    """Nine unknown functions of t."""
    return sp.Matrix(3, 3, lambda i, j: sp.Function(f"m_{i + 1}{j + 1}")(t))


ledger.symbolic(
    "det-exp:jacobi",
    where={"M": generic, "t": sp.Symbol("t")},
)


# %% tags=["ledger"]
def curve(draw):
    A, t = square(draw), draw.real(0.2, 1)
    B = draw.matrix(A.rows)
    return {"M": lambda s: A + s * B + s * s * A * B, "t": t}


ledger.numeric(
    "det-exp:jacobi-inverse",
    where=curve,
)

# %% [markdown]
# For $M(t) = \exp(tA)$, $M^{-1} M' = A$ by {eq}`det-exp:flow`, and {eq}`det-exp:jacobi-inverse` is {eq}`det-exp:ode`, which $e^{t \operatorname{Tr} A}$ solves. Nothing else does: the derivative of the quotient is $f' e^{-t \operatorname{Tr} A} - f \operatorname{Tr}(A)\, e^{-t \operatorname{Tr} A}$, and with {eq}`det-exp:ode`
#
# $$
# \frac{d}{dt} \bigl( f(t)\, e^{-t \operatorname{Tr} A} \bigr) = 0
# $$ (det-exp:constant)
#
# So $f(t) e^{-t \operatorname{Tr} A} = f(0) = 1$, and $t = 1$ is the theorem. Automatic differentiation sees the rate:

# %%
A = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
f = lambda t: torch.linalg.det(exponential(t * A))
for time_now in (0.0, 0.7, 1.3):
    t = torch.tensor(time_now)
    value, slope = torch.func.jvp(f, (t,), (torch.ones(()),))
    assert torch.allclose(slope / value, torch.trace(A), rtol=1e-9)
print(f"f'/f at three times: {slope / value:.6f}; Tr A = {A.trace():.6f}")


# %% tags=["ledger"]
def determinant_in_time(draw):
    A = square(draw)
    f = lambda t: mp.det(mp.expm(t * A, method="taylor"))
    return {"A": A, "t": draw.real(0.3, 1), "f": f}


ledger.numeric(
    "det-exp:ode",
    where=determinant_in_time,
)

# %% tags=["ledger"]
ledger.numeric(
    "det-exp:constant",
    where=determinant_in_time,
)


# %% [markdown]
# ### Second proof: diagonalise, then let density finish
#
# ```{folded} 4 minutes: eigenvalues, and why density finishes the proof
# ```
#
# **Intuition.** In the basis of its eigenvectors a matrix acts on each axis separately, and on one axis the theorem is $e^{\lambda} = e^{\lambda}$.
#
# Let $A = P \Lambda P^{-1}$ with $\Lambda$ diagonal. Since $(P \Lambda P^{-1})^k = P \Lambda^k P^{-1}$, the series {eq}`det-exp:exp` gives
#
# $$
# \exp(P \Lambda P^{-1}) = P \exp(\Lambda)\, P^{-1}
# $$ (det-exp:similar)
#
# The exponential of a diagonal matrix is taken entry by entry. With $\det P \cdot \det P^{-1} = 1$, and with $\lambda_1, \dots, \lambda_n$ for the diagonal of $\Lambda$,
#
# $$
# \det \exp A = \prod_{i=1}^{n} e^{\lambda_i} = \exp \sum_{i=1}^{n} \lambda_i = e^{\operatorname{Tr} \Lambda}
# $$ (det-exp:eigenvalues)
#
# It remains that $\operatorname{Tr} \Lambda = \operatorname{Tr} A$. For an $n \times m$ matrix $X$ and an $m \times n$ matrix $Y$ both
# $\operatorname{Tr}(XY)$ and $\operatorname{Tr}(YX)$ are the sum of all $x_{ij} y_{ji}$, so
#
# $$
# \operatorname{Tr}(XY) = \operatorname{Tr}(YX)
# $$ (det-exp:cyclic)
#
# and with $X = P\Lambda$, $Y = P^{-1}$ the traces of $A$ and $\Lambda$ agree. The theorem holds for every diagonalisable (可对角化) matrix.

# %% tags=["ledger"]
def diagonalisable(draw):
    P = square(draw, complex=True)
    eigenvalues = draw.matrix(P.rows, 1, complex=True)
    Lambda = mp.diag(list(eigenvalues))
    A = P * Lambda * P**-1
    return {
        "A": A,
        "P": P,
        "Lambda": Lambda,
        "lambda": eigenvalues,
        "n": P.rows,
    }


ledger.numeric(
    "det-exp:similar",
    where=diagonalisable,
)

# %% tags=["ledger"]
ledger.numeric(
    "det-exp:eigenvalues",
    where=diagonalisable,
)

# %% tags=["ledger"]
ledger.exact(
    "det-exp:cyclic",
    where=lambda draw: (
        lambda n: {"X": draw.matrix(n, 3), "Y": draw.matrix(3, n)}
    )(draw.turn(2, 3, 4)),
)


# %% [markdown]
# **The rest by density.** $\bigl(\begin{smallmatrix}0&1\\0&0\end{smallmatrix}\bigr)$ is not diagonalisable. But every matrix is a limit of diagonalisable ones, and both sides of {eq}`det-exp:main` are continuous. The article calls this route laborious; it takes two steps.
#
# *Distinct eigenvalues are the rule.* Whether the eigenvalues $\lambda_1, \dots, \lambda_n$ of $A$ are distinct can be read off the entries: the discriminant (判别式) of the
# characteristic polynomial is a polynomial $D$ in the entries of $A$, and
#
# $$
# D(A) = \prod_{j=2}^{n} \prod_{i=1}^{j-1} (\lambda_i - \lambda_j)^2
# $$ (det-exp:discriminant)
#
# It is not the zero polynomial, because $D(\operatorname{diag}(1, \dots, n)) \ne 0$. The zeros of a non-zero polynomial contain no ball, so matrices with $D(A) \ne 0$ are
# dense; and distinct eigenvalues make a matrix diagonalisable.
#
# *An explicit sequence.* Every complex matrix has a Schur form $A = U T U^{*}$, with $U$ unitary (its columns orthonormal, $U^{*} U = I$) and $T$ upper triangular (next proof). Let $\Delta = \operatorname{diag}(1, 2, \dots, n)$ and
#
# $$
# A_{\varepsilon} = U (T + \varepsilon \Delta)\, U^{*}, \qquad \|A_{\varepsilon} - A\|_2 = \varepsilon n
# $$ (det-exp:perturbation)
#
# The eigenvalues of $A_\varepsilon$ are $t_{ii} + \varepsilon i$. Each two of them coincide for at most one $\varepsilon$, so for all small $\varepsilon > 0$ they are distinct, and the
# theorem holds for $A_\varepsilon$. Write $\Lambda(\varepsilon)$ for the diagonal matrix of its eigenvalues and let $\varepsilon$ go to zero:
#
# $$
# \lim_{\varepsilon \to 0} \exp \operatorname{Tr} \Lambda(\varepsilon) = \det \exp A
# $$ (det-exp:limit)
#
# while $\operatorname{Tr} \Lambda(\varepsilon) = \operatorname{Tr} A_\varepsilon \to \operatorname{Tr} A$. That completes the second proof.

# %% tags=["ledger"]
def known_eigenvalues(draw):
    n = draw.turn(2, 3, 4)
    P = draw.matrix(n)
    while P.det() == 0:
        P = draw.matrix(n)
    eigenvalues = draw.matrix(n, 1)
    A = P * sp.diag(*eigenvalues) * P.inv()
    D = lambda M: M.charpoly().discriminant()  # knowing no eigenvalue
    return {"A": A, "lambda": eigenvalues, "n": n, "D": D}


ledger.exact(
    "det-exp:discriminant",
    where=known_eigenvalues,
    also_true={"D of −(A)": "−A has the same squared differences"},
)


# %% tags=["ledger"]
def perturbed(draw):
    A = square(draw, complex=True)
    U, T = mp.schur(A)
    Delta, epsilon = mp.diag(range(1, A.rows + 1)), draw.real(0.1, 0.5)
    shifted = mp.matrix(T)
    for i in range(A.rows):
        shifted[i, i] += epsilon * (i + 1)
    return {
        "A": A,
        "U": U,
        "T": T,
        "Delta": Delta,
        "varepsilon": epsilon,
        "n": A.rows,
        "A_varepsilon": U * shifted * U.H,
    }


ledger.numeric(
    "det-exp:perturbation",
    where=perturbed,
)


# %% tags=["ledger"]
def jordan_block(draw):
    n = draw.turn(3, 2)
    U, _ = mp.qr(draw.matrix(n))
    J = mp.diag([draw.real()] * n)
    J[: n - 1, 1:] += mp.eye(n - 1)  # not diagonalisable
    shift = mp.diag(range(1, n + 1))

    def Lambda(epsilon):
        A = U * (J + epsilon * shift) * U.H
        return mp.diag(mp.eig(A, left=False, right=False))

    return {"A": U * J * U.H, "Lambda": Lambda}


ledger.numeric(
    "det-exp:limit",
    where=jordan_block,
    draws=2,
    digits=30,
    also_true={"Lambda of −(varepsilon)": "it is a limit from both sides"},
)

# %% [markdown]
# The check of {eq}`det-exp:limit` runs on rotated Jordan blocks (one number along the diagonal, ones just above it). As $\varepsilon$ leaves zero the eigenvalues part, with eigenvectors nearly parallel (a large condition number). The determinant does not notice: its ratio to $e^{\operatorname{Tr} A}$ tends to 1.

# %%
J = np.array([[0.3, 1, 0], [0, 0.3, 1], [0, 0, 0.3]])
print("epsilon   condition      ratio")
for epsilon in (1e-1, 1e-2, 1e-3):
    perturbed_J = J + epsilon * np.diag([1, 2, 3])
    values, vectors = np.linalg.eig(perturbed_J)
    ratio = np.exp(values.sum()).real / np.exp(np.trace(J))
    assert abs(ratio - np.exp(6 * epsilon)) < 1e-9
    print(f"{epsilon:7.0e}{np.linalg.cond(vectors):12.1e}{ratio:11.6f}")


# %% [markdown]
# ### Third proof: make it triangular
#
# ```{folded} 2 minutes: the Schur form, the shortest complete proof
# ```
#
# **Intuition.** When triangular matrices are added or multiplied, diagonal entries meet only diagonal entries.
#
# ```{prf:lemma} Schur form
# :label: det-exp-schur
#
# Every $A \in \mathbb{C}^{n \times n}$ has a factorisation
#
# $$
# A = U T U^{*}, \qquad U^{*} U = I
# $$ (det-exp:schur)
#
# with $T$ upper triangular.
# ```
#
# ```{prf:proof}
# By induction on $n$; for $n = 1$ there is nothing to do. Over $\mathbb{C}$ the characteristic polynomial has a root, so $A$ has a unit eigenvector $u$, $Au = \lambda u$. Complete $u$ to an
# orthonormal basis, the columns of a unitary matrix $W$ with $u$ first. The first column of $W^{*} A W$ is $W^{*} \lambda u = \lambda e_1$: below its first row stand zeros, and beside them a matrix of order
# $n - 1$, which has a Schur form $V T' V^{*}$ by induction. Then $U = W \operatorname{diag}(1, V)$ does it.
# ```

# %% tags=["ledger"]
def schur_form(draw):
    A = square(draw, complex=True)
    U, T = mp.schur(A)
    angles = [draw.real(-3, 3) for _ in range(A.rows)]
    phases = mp.diag(list(map(mp.expj, angles)))  # it is unique up to these
    U, T = U * phases, phases.H * T * phases
    return {"A": A, "U": U, "T": T, "t": T, "n": A.rows}


ledger.numeric("det-exp:schur", where=schur_form)


# %% [markdown]
# If $T$ and $T'$ are upper triangular, so is $TT'$, and its $i$-th diagonal entry is $\sum_j t_{ij} t'_{ji} = t_{ii} t'_{ii}$, since of each pair $t_{ij}$, $t'_{ji}$ with $i \ne j$ one is zero.
# Hence powers act on the diagonal alone,
#
# $$
# (T^k)_{ii} = t_{ii}^k
# $$ (det-exp:triangular-power)
#
# and so does the series {eq}`det-exp:exp`: $\exp T$ is upper triangular with diagonal $e^{t_{ii}}$. The determinant of a triangular matrix is the product of its diagonal:
#
# $$
# \det \exp T = \prod_{i=1}^{n} \sum_{k=0}^{\infty} \frac{t_{ii}^k}{k!} = \prod_{i=1}^{n} e^{t_{ii}} = e^{\operatorname{Tr} T}
# $$ (det-exp:exp-triangular)
#
# Finally $\exp(U T U^{*}) = U \exp(T)\, U^{*}$, as in {eq}`det-exp:similar`, and neither determinant nor trace changes when $A$ is written in another basis:
#
# $$
# \det \exp A = \det(U \exp(T)\, U^{*}) = \det \exp T = e^{\operatorname{Tr} T} = e^{\operatorname{Tr} A}
# $$ (det-exp:schur-proof)
#
# This is the shortest complete proof. It repairs the argument "the eigenvalues of $\exp A$ are $e^{\lambda_i}$, so their product is $e^{\sum \lambda_i}$", which takes for granted that multiplicities (重数) agree.

# %% tags=["ledger"]
def triangular_power(draw):
    T = square(draw).upper_triangular()
    i, k = draw.integer(1, T.rows), draw.integer(3, 6)
    return {"T": T, "t": T, "i": i, "k": k}


ledger.exact(
    "det-exp:triangular-power",
    where=triangular_power,
)

# %% tags=["ledger"]
ledger.numeric(
    "det-exp:exp-triangular",
    where=schur_form,
)

# %% tags=["ledger"]
ledger.numeric(
    "det-exp:schur-proof",
    where=schur_form,
)

# %% [markdown]
# (det-exp-steps)=
# ### Fourth proof: many small steps
#
# ```{folded} 3 minutes: compound interest, with a bound and a picture
# ```
#
# **Intuition.** Walk along the flow in $m$ equal straight steps. Volumes multiply, and the determinant of one small step is easy.
#
# First, the steps lead to the right place:
#
# $$
# \exp A = \lim_{m \to \infty} \Bigl( I + \frac{A}{m} \Bigr)^m
# $$ (det-exp:product-limit)
#
# Put $X = \exp(A/m)$ and $Y = I + A/m$ and exchange the factors of $X^m$ for those of $Y^m$ one at a time:
#
# $$
# X^m - Y^m = \sum_{k=0}^{m-1} X^{m-1-k} (X - Y)\, Y^k
# $$ (det-exp:telescope)
#
# Both $\|X\|$ and $\|Y\|$ are at most $e^{\|A\|/m}$, and $\|X - Y\| \le \frac12 (\|A\|/m)^2 e^{\|A\|/m}$ because $X - Y$ is the tail of the series from $k = 2$ on. So the $m$ terms add up to no more than
#
# $$
# \Bigl\| \exp A - \Bigl( I + \frac{A}{m} \Bigr)^m \Bigr\|_2 \le \frac{\|A\|_2^2\, e^{\|A\|_2}}{2m}
# $$ (det-exp:euler-bound)
#
# which goes to zero.

# %% tags=["ledger"]
ledger.numeric(
    "det-exp:product-limit",
    where=lambda draw: {"A": square(draw)},
)

# %% tags=["ledger"]
ledger.exact(
    "det-exp:telescope",
    where=lambda draw: {
        "X": square(draw),
        "Y": square(draw),
        "m": draw.integer(4, 6),
    },
)


# %% tags=["ledger"]
def nearly_attaining(draw):
    """Three of any kind, then positive definite ones in many steps."""
    X = square(draw, complex=True)
    if draw.number < 3:
        return {"A": X, "m": draw.integer(1, 12)}
    return {"A": X.H * X + mp.eye(X.rows), "m": 10**4}


ledger.numeric(
    "det-exp:euler-bound",
    where=nearly_attaining,
    draws=6,
)

# %% [markdown]
# Second, one step. In the expansion of $\det(I + \varepsilon A)$ over permutations, a permutation that is not the identity moves at least two indices and so contributes at least $\varepsilon^2$. The identity contributes
# $\prod_i (1 + \varepsilon a_{ii}) = 1 + \varepsilon \operatorname{Tr} A + O(\varepsilon^2)$. Hence
#
# $$
# \frac{d}{d\varepsilon} \det(I + \varepsilon A) \Big|_{\varepsilon = 0} = \operatorname{Tr} A
# $$ (det-exp:first-order)
#
# Third, all steps together: $\det(I + A/m)^m = \bigl(1 + \tfrac{1}{m}\operatorname{Tr} A + O(m^{-2})\bigr)^m$ tends to $e^{\operatorname{Tr} A}$. The determinant is continuous, so with {eq}`det-exp:product-limit`
#
# $$
# \det \exp A = \lim_{m \to \infty} \det \Bigl( \Bigl( I + \frac{A}{m} \Bigr)^m \Bigr) = e^{\operatorname{Tr} A}
# $$ (det-exp:compound)
#
# The distance of $m$ steps from the limit follows from $\log(1 + x) = x - \frac{x^2}{2} + \dots$ on each eigenvalue $\lambda_i / m$ of $A/m$:
#
# $$
# \lim_{m \to \infty} m \Bigl( \operatorname{Tr} A - m \log \det \Bigl( I + \frac{A}{m} \Bigr) \Bigr) = \frac{1}{2} \operatorname{Tr} A^2
# $$ (det-exp:slope)
#
# The log-volume of $m$ straight steps is off by about $-\operatorname{Tr}(A^2) / 2m$; this error returns [in flows that are trained](#det-exp-cnf).

# %% tags=["hide-input"] mystnb={"image": {"alt": "A unit square and the five parallelograms into which one, two, four and eight straight steps and the exact flow of a growing rotation carry it. The outer corner's zigzag path bends ever closer to the spiral of the exact flow, and the areas, written beside them, fall from 3.17 for one step to 2.23, the exponential of the trace."}}
wind = np.array([[0.4, -1.1], [1.1, 0.4]])
unit = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)
exact_area = math.exp(np.trace(wind))
fig, axis = plt.subplots(figsize=(5.2, 4.6), layout="constrained")
axis.fill(*unit.T, facecolor="none", edgecolor=GREY, linestyle=":")
fine_times = np.linspace(0, 1, 60)
spiral = [scipy.linalg.expm(s * wind) @ unit[2] for s in fine_times]
axis.plot(*np.array(spiral).T, color="black", linewidth=1)
gaps = {}
for m, colour in ((1, RED), (2, ORANGE), (4, GREEN), (8, BLUE)):
    step = np.eye(2) + wind / m
    path = [np.linalg.matrix_power(step, k) @ unit[2] for k in range(m + 1)]
    end = unit @ np.linalg.matrix_power(step, m).T
    gaps[m] = np.trace(wind) - math.log(shoelace(end))
    axis.fill(*end.T, facecolor="none", edgecolor=colour, linewidth=1.6)
    axis.plot(*np.array(path).T, "o-", color=colour, markersize=4)
    axis.annotate(
        f"m = {m}: area {shoelace(end):.2f}",
        (0.02, 0.96 - 0.08 * len(gaps)),
        xycoords="axes fraction",
        color=colour,
    )
end = unit @ scipy.linalg.expm(wind).T
axis.fill(*end.T, facecolor="#00000022", edgecolor="black")
axis.annotate(
    f"flow: area {exact_area:.2f}", (0.02, 0.56), xycoords="axes fraction"
)
axis.set(aspect="equal", xlim=(-2.4, 1.7))
plt.show()
limit = np.trace(wind @ wind) / 2
assert abs(shoelace(end) - exact_area) < 1e-12
assert round(math.exp(np.trace(wind) - gaps[1]), 2) == 3.17
assert round(exact_area, 2) == 2.23
gap = np.trace(wind) - 64 * math.log(np.linalg.det(np.eye(2) + wind / 64))
assert abs(64 * gap / limit - 1) < 0.02
assert gaps[1] < gaps[2] < gaps[4] < gaps[8] < 0  # each nearer

# %% [markdown]
# *One, two, four and eight straight steps from the dotted square, the paths of its outer corner, and the flow itself (filled).*
#
# Each step multiplies the area by the same factor: compound interest, paid out $m$ times.

# %% tags=["ledger"]
ledger.numeric(
    "det-exp:first-order",
    where=lambda draw: {"A": square(draw), "varepsilon": mp.mpf(0)},
)

# %% tags=["ledger"]
ledger.numeric(
    "det-exp:compound",
    where=lambda draw: {"A": square(draw)},
)

# %% tags=["ledger"]
ledger.numeric(
    "det-exp:slope",
    where=lambda draw: {"A": square(draw)},
)


# %% [markdown]
# ### Fifth proof: bookkeeping with symbols
#
# ```{folded} 4 minutes: characteristic polynomial, Jordan form, any function of a matrix
# ```
#
# **Intuition.** Determinant and trace are two coefficients of the characteristic polynomial: product and sum of the eigenvalues, counted with multiplicity.
#
# The characteristic polynomial (特征多项式) of a $3 \times 3$ matrix $A$, whatever its nine entries, is
#
# $$
# \det(\lambda I - A) = \lambda^3 - \operatorname{Tr}(A)\, \lambda^2 + \frac{1}{2} \bigl( \operatorname{Tr}(A)^2 - \operatorname{Tr}(A^2) \bigr) \lambda - \det A
# $$ (det-exp:charpoly)
#
# and multiplying out its linear factors gives
#
# $$
# (\lambda - \lambda_1) (\lambda - \lambda_2) (\lambda - \lambda_3) = \lambda^3 - (\lambda_1 + \lambda_2 + \lambda_3)\, \lambda^2 + (\lambda_1 \lambda_2 + \lambda_1 \lambda_3 + \lambda_2 \lambda_3)\, \lambda - \lambda_1 \lambda_2 \lambda_3
# $$ (det-exp:vieta)
#
# Comparing coefficients: trace = sum, determinant = product of the eigenvalues, each taken as often as it is a root. (For order $n$ the same comparison is made at $\lambda^{n-1}$ and at the constant term.) It remains to know that $\exp A$ has the eigenvalues $e^{\lambda_i}$ *with the same multiplicities*. For that bring $A$ to its
# Jordan form (若尔当标准形), blocks $\lambda I + N$ of order $m$, where $N$ has ones just above the diagonal and $N^m = 0$. As $\lambda I$ and $N$ commute,
#
# $$
# \exp(\lambda I + N) = e^{\lambda} \sum_{k=0}^{m-1} \frac{N^k}{k!}
# $$ (det-exp:jordan)
#
# is upper triangular with $m$ equal diagonal entries, so
#
# $$
# \det \exp(\lambda I + N) = e^{m \lambda} = e^{\operatorname{Tr}(\lambda I + N)}
# $$ (det-exp:jordan-det)
#
# and the blocks multiply up to the theorem. As a reader of the article remarked, $f$ of a block is triangular as well, with $f(\lambda)$ on its diagonal, for every power series $f$ whose disc of convergence holds the eigenvalues. So
#
# $$
# \det f(A) = \prod_{i=1}^{n} f(\lambda_i)
# $$ (det-exp:function)
#
# Only for $f(x) = c\, e^{ax}$ is this product a function of the sum alone.

# %% tags=["ledger"]
def repeated_eigenvalue(draw):
    """A Jordan block in any basis, and a function that is no exponential."""
    n = draw.turn(3, 2, 4)
    P = draw.matrix(n) + mp.eye(n)
    eigenvalues = mp.matrix([draw.real() for _ in range(n)])
    eigenvalues[1] = eigenvalues[0]
    J = mp.diag(list(eigenvalues))
    J[0, 1] = 1
    of_matrix = lambda X: mp.sinm(X) + mp.expm(X, method="taylor")
    of_number = lambda x: mp.sin(x) + mp.exp(x)
    f = lambda X: (of_matrix if isinstance(X, mp.matrix) else of_number)(X)
    return {"A": P * J * P**-1, "lambda": eigenvalues, "f": f, "n": n}


ledger.numeric(
    "det-exp:function",
    where=repeated_eigenvalue,
    digits=20,
    tol=1e-15,
)

# %% tags=["ledger"]
entries = sp.Matrix(3, 3, sp.symbols("a11:14 a21:24 a31:34"))  # nine unknowns

ledger.symbolic(
    "det-exp:charpoly",
    where={"A": entries, "lambda": sp.Symbol("lambda")},
    also_true={"Tr of −(A)": "in the third term, where it is squared"},
)

# %% tags=["ledger"]
ledger.symbolic(
    "det-exp:vieta",
    where={
        name: sp.Symbol(name)
        for name in ("lambda", "lambda_1", "lambda_2", "lambda_3")
    },
)

# %% tags=["ledger"]
shift = sp.Matrix(3, 3, lambda i, j: int(j == i + 1))
beyond = "it adds a multiple of N³, and N³ = 0"

ledger.symbolic(
    "det-exp:jordan",
    where={"lambda": sp.Symbol("lambda"), "N": shift, "m": 3},
    also_true=dict.fromkeys(
        ("sum ends one later", "sign of -1", "without -1", "2·(m)"), beyond
    ),
)

# %% tags=["ledger"]
nilpotent = "only the diagonal counts, and that of N is zero"
ledger.symbolic(
    "det-exp:jordan-det",
    where={"lambda": sp.Symbol("lambda"), "N": shift, "m": 3},
    also_true=dict.fromkeys(("sign of N", "2·(N)", "without N"), nilpotent),
)

# %% [markdown]
# SymPy does all cases: for $2 \times 2$, unknown entries; for $3 \times 3$, all ways to tie three eigenvalues into Jordan blocks:

# %%
a, b, c, d = sp.symbols("a b c d")
A2 = sp.Matrix([[a, b], [c, d]])
characteristic = A2.charpoly()
roots = sp.roots(characteristic.as_expr(), characteristic.gen, multiple=True)
assert len(roots) == 2 and sp.simplify(sum(roots) - A2.trace()) == 0
product = sp.powsimp(sp.prod(sp.exp(root) for root in roots))
assert sp.simplify(product - sp.exp(A2.trace())) == 0
lines = ["2×2, eigenvalues:", *(f"  {root}" for root in roots)]

lam = sp.symbols("lambda_1:4")
P = sp.Matrix([[1, 2, 0], [0, 1, 3], [1, 0, 1]])  # any change of basis
for blocks in ((1, 1, 1), (2, 1), (3,)):
    J = sp.diag(
        *[sp.jordan_cell(lam[i], size) for i, size in enumerate(blocks)]
    )
    A3 = P * J * P.inv()
    left = sp.powsimp(
        sp.expand((P * J.exp() * P.inv()).det(method="berkowitz"))
    )
    assert sp.simplify(left - sp.exp(A3.trace().simplify())) == 0
    lines.append(f"3×3, Jordan blocks {blocks}: det exp A = {left}")
print("\n".join(lines))


# %% [markdown]
# For order two the exponential itself has a closed form. Let $\sigma = \frac12 \operatorname{Tr} A$, $B = A - \sigma I$ (so that $\operatorname{Tr} B = 0$) and $q = \sqrt{-\det B}$ (for real $A$ real or imaginary). By the theorem of Cayley and Hamilton (a matrix is a root of its own characteristic polynomial)
# $B^2 = q^2 I$, the even powers of $B$ sum to a hyperbolic cosine and the odd ones to a sine:
#
# $$
# \exp A = e^{\sigma} \Bigl( \cosh(q)\, I + \frac{\sinh q}{q}\, B \Bigr)
# $$ (det-exp:two-by-two)
#
# and the theorem is the identity of the hyperbolic functions:
#
# $$
# \det \Bigl( \cosh(q)\, I + \frac{\sinh q}{q}\, B \Bigr) = \cosh^2 q - \sinh^2 q = 1
# $$ (det-exp:hyperbolic)

# %% tags=["ledger"]
def traceless_part(draw):
    A, yes = draw.matrix(2), draw.turn(1, -1)  # q is real, imaginary in turn
    A[0, 1], A[1, 0] = draw.real(1, 2), yes * draw.real(1, 2)
    sigma = (A[0, 0] + A[1, 1]) / 2
    B = A - sigma * mp.eye(2)
    return {"A": A, "sigma": sigma, "B": B, "q": mp.sqrt(-mp.det(B))}


even = {"cosh of −(q)": "cosh is even"}
second_order = "the closed form is that of order 2, and B is A less a number"
ledger.numeric(
    "det-exp:two-by-two",
    where=traceless_part,
    draws=4,
    also_true=even,
    weak=second_order,
)

# %% tags=["ledger"]
opposite = "−q is the other root of −det B, so B may be replaced by −B"
ledger.numeric(
    "det-exp:hyperbolic",
    where=traceless_part,
    draws=4,
    also_true=even
    | {
        "sinh of −(q)": opposite,
        "sign of (sinh(q)/q)·B": opposite,
        "sign of cosh(q)·I": "det(−X) = det X at order 2; then as for B",
        "det of −(cosh(q)·I + (sinh(q)/q)·B)": "the same at order 2",
    },
    weak=second_order,
)

# %% [markdown]
# ## What it is good for
#
# ### A gradient that costs nothing
#
# ```{folded} 1 minute: why layers of flows use it
# ```
#
# The logarithm of {eq}`det-exp:main` is a linear function of $A$. Whatever $A$ is, its gradient is the identity matrix:
#
# $$
# \nabla_A \log \det \exp A = I
# $$ (det-exp:log-gradient)
#
# A linear layer with weight $W = \exp A$ is always invertible, its inverse is $\exp(-A)$, and the log-determinant that a normalising flow (标准化流) needs (a chain of invertible layers that turns a simple density into a complicated one) is $\operatorname{Tr} A$: $n - 1$ additions, where a factorisation of $W$ costs
# $\frac23 n^3$ operations.

# %% tags=["ledger"]
constant = "it adds 0 or iπ to the logarithm: constants have no derivative"
turned = lambda X: {
    f"det of −({X})": constant,
    f"log of −(det({X}))": constant,
}
ledger.gradient(
    "det-exp:log-gradient",
    where=lambda draw: {"A": square(draw)},
    also_true=turned("exp(A)"),
    of=lambda A: torch.linalg.slogdet(expm(A)).logabsdet,
    wrt="A",
    code=expm,
)


# %% [markdown]
# ### Liouville's formula
#
# ```{folded} 2 minutes: winds that change, nonlinear flows, a pendulum's disc
# ```
#
# Volumes obey the trace when the wind changes in time, too. Let the columns of $\Phi(t)$ be $n$ solutions of the linear system with coefficients that change in time,
#
# $$
# \Phi'(t) = A(t)\, \Phi(t)
# $$ (det-exp:linear-system)
#
# Jacobi's formula {eq}`det-exp:jacobi-inverse` gives $\frac{d}{dt} \log \det \Phi = \operatorname{Tr}(\Phi^{-1} A \Phi) = \operatorname{Tr} A$, and so
#
# $$
# \det \Phi(t) = \det(\Phi(0)) \exp \int_0^t \operatorname{Tr} A(s)\, ds
# $$ (det-exp:liouville)
#
# This is Liouville's formula (刘维尔公式). $\Phi(t)$ itself is in general *not* $\exp \int_0^t A(s)\, ds$; only the determinants agree.

# %% tags=["ledger"]
def moving_frame(draw):
    """Any curve of invertible matrices is a flow, that of A = Φ'Φ⁻¹."""
    n = draw.turn(2, 3, 4)
    P0, P1, P2 = (draw.matrix(n) / k for k in (1, 4, 4))
    P0 += 2 * mp.eye(n)
    Phi = lambda t: P0 + t * P1 + t * t * P2
    A = lambda t: (P1 + 2 * t * P2) * Phi(t) ** -1
    return {"Phi": Phi, "A": A, "t": draw.real(0.4, 0.9)}


ledger.numeric("det-exp:linear-system", where=moving_frame)

# %% tags=["ledger"]
ledger.numeric(
    "det-exp:liouville",
    where=moving_frame,
)


# %% [markdown]
# For a nonlinear flow $\dot x = f(x)$ let $J(t)$ be the Jacobian matrix of $x(t)$ with respect to the starting point and $G = \partial f / \partial x$. Differentiating the equation by the starting point gives a linear system for $J$, along each path:
#
# $$
# J'(t) = G(x(t))\, J(t)
# $$ (det-exp:variation)
#
# so that near the path volumes grow at the rate $\operatorname{Tr} G$, which is the divergence (散度) $\operatorname{div} f$ of the field:
#
# $$
# \frac{d}{dt} \log \det J(t) = \operatorname{Tr} G(x(t))
# $$ (det-exp:divergence)

# %% tags=["ledger"]
def projective_flow(draw):
    """The flow of f(x) = x₁ x: straight into infinity, ever faster."""
    n, t = draw.turn(2, 3, 4), draw.real(0.2, 0.6)
    a = mp.matrix([draw.real(0.2, 0.8), *draw.matrix(n - 1, 1)])
    first = mp.matrix([[1] + [0] * (n - 1)])  # x₁ = first * x

    def J(t):
        w = 1 / (1 - t * a[0])
        return w * mp.eye(n) + t * w**2 * a * first

    def p(t, x):  # density at time t of points that start standard normal
        w = 1 / (1 + t * x[0])
        b = w * x  # where x came from
        start = mp.exp(-(mp.norm(b) ** 2) / 2) / mp.sqrt(2 * mp.pi) ** n
        return start * w ** (n + 1)

    G = lambda x: x[0] * mp.eye(n) + x * first
    return {"x": lambda t: a / (1 - t * a[0]), "J": J, "G": G, "p": p, "t": t}


ledger.numeric("det-exp:variation", where=projective_flow)

# %% tags=["ledger"]
ledger.numeric(
    "det-exp:divergence",
    where=projective_flow,
    also_true=turned("J(t)"),
)

# %% [markdown]
# Three examples, integrated numerically: a linear system whose matrices at two times do not commute, the Van der Pol oscillator, whose divergence $\mu(1 - x^2)$ changes its sign along the path, and a damped pendulum, where $\operatorname{div} f = -\gamma$ everywhere, so that *every* region shrinks like $e^{-\gamma t}$ however it is bent.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Above, a disc in the phase plane of a damped pendulum at times 0, 2, 4 and 6. It moves, shrinks and is bent into a hooked crescent. Below, its measured area at 13 times lies on the curve of exp(-t/4)."}}
solve = lambda f, span, y0: scipy.integrate.solve_ivp(
    f, span, y0, method="DOP853", rtol=1e-11, atol=1e-12
)

# 1. Linear, with coefficients that do not commute.
A_of = lambda t: np.array(
    [[np.cos(t), t, 0.0], [-1.0, -0.5, np.sin(2 * t)], [0.3, t * t, 0.1]]
)
Phi = (
    solve(
        lambda t, y: (A_of(t) @ y.reshape(3, 3)).ravel(),
        (0, 2),
        np.eye(3).ravel(),
    )
    .y[:, -1]
    .reshape(3, 3)
)
trace_integral = np.sin(2.0) - 2 * 0.5 + 2 * 0.1
naive = scipy.linalg.expm(scipy.integrate.quad_vec(A_of, 0, 2)[0])
assert abs(np.linalg.det(Phi) / np.exp(trace_integral) - 1) < 1e-8
# the exponential of the integral is another matrix ...
assert np.abs(Phi - naive).max() > 0.5
# ... with the same determinant
assert abs(np.linalg.det(naive) / np.linalg.det(Phi) - 1) < 1e-8

# 2. Van der Pol: path, Jacobian and integral of the divergence together.
mu = 1.5


def van_der_pol(t, y):
    (x, v), J = y[:2], y[2:6].reshape(2, 2)
    G = np.array([[0, 1], [-1 - 2 * mu * x * v, mu * (1 - x * x)]])
    return np.concatenate(
        [[v, mu * (1 - x * x) * v - x], (G @ J).ravel(), [np.trace(G)]]
    )


end = solve(van_der_pol, (0, 3), np.array([0.5, 0.5, 1, 0, 0, 1, 0])).y[:, -1]
assert abs(np.linalg.det(end[2:6].reshape(2, 2)) / np.exp(end[6]) - 1) < 1e-6

# 3. Pendulum: the area of a disc of starting points, measured.
gamma, corners_of_disc = 0.25, 3000
angle = 2 * np.pi * np.arange(corners_of_disc) / corners_of_disc
start = np.stack([-2.0 + 0.9 * np.cos(angle), 1.3 + 0.9 * np.sin(angle)])
times = np.linspace(0, 6, 13)


def pendulum(t, y):
    x, v = y.reshape(2, -1)
    return np.concatenate([v, -np.sin(x) - gamma * v])


carried = scipy.integrate.solve_ivp(
    pendulum,
    (0, 6),
    start.ravel(),
    method="DOP853",
    rtol=1e-9,
    atol=1e-10,
    t_eval=times,
)
shapes = carried.y.T.reshape(len(times), 2, -1)
areas = np.array([shoelace(shape.T) for shape in shapes])
assert np.abs(areas / areas[0] - np.exp(-gamma * times)).max() < 1e-5

fig, (left, right) = plt.subplots(
    2, 1, figsize=(5.4, 5.8), layout="constrained", height_ratios=(1.5, 1)
)
for k, colour in zip((0, 4, 8, 12), (GREY, ORANGE, GREEN, BLUE), strict=True):
    left.fill(
        *shapes[k],
        facecolor=colour,
        edgecolor=colour,
        alpha=0.45,
        label=f"t = {times[k]:.0f}",
    )
left.set(
    xlabel="angle",
    ylabel="angular velocity",
    title="a disc of pendulums",
    aspect="equal",
)
left.legend(loc="lower left")
right.plot(times, areas / areas[0], "o", label="measured area")
fine = np.linspace(0, 6, 100)
right.plot(
    fine,
    np.exp(-gamma * fine),
    color=GREY,
    zorder=0,
    label=r"$e^{-\gamma t}$",
)
right.set(
    xlabel="time", ylim=(0, 1.05), title="its area, relative to the start"
)
right.legend()
det_J = np.linalg.det(end[2:6].reshape(2, 2))
print(f"linear system: det Φ(2)    = {np.linalg.det(Phi):.6f}")
print(f"               exp ∫ Tr A  = {np.exp(trace_integral):.6f}")
print(f"Van der Pol:   det J(3)    = {det_J:.6f}")
print(f"               exp ∫ div f = {np.exp(end[6]):.6f}")
plt.show()

# %% [markdown]
# *Above, a disc of starting points at four times; below, its area, measured at thirteen times (dots), and $e^{-\gamma t}$.*
#
# (det-exp-series)=
# ### The series of $\log \det(I + X)$
#
# ```{folded} 1 minute: the series and where it converges
# ```
#
# The same derivative, applied to $I + tX$, reads
#
# $$
# \frac{d}{dt} \log \det(I + tX) = \operatorname{Tr}\bigl( (I + tX)^{-1} X \bigr)
# $$ (det-exp:log-derivative)
#
# Expand the inverse into $\sum_k (-t)^k X^k$ and integrate from $0$ to $1$:
#
# $$
# \log \det(I + X) = \sum_{k=1}^{\infty} \frac{(-1)^{k+1}}{k} \operatorname{Tr} X^k \qquad \text{for real } X \text{ with } \rho(X) < 1
# $$ (det-exp:log-series)
#
# where $\rho(X) = \max_i |\mu_i|$ is the spectral radius (谱半径), the largest modulus of an eigenvalue $\mu_i$ of $X$. For complex $X$ the two sides may differ by a multiple of $2\pi i$, as [below](#det-exp-log-form): at $X = 0.9\,i\,I_5$ they do. The right side is $\operatorname{Tr} \log(I + X)$ with the logarithm's own series. $\|X\| < 1$ is sufficient for it to converge, not necessary. The function is $\sum_i \log(1 + t\mu_i)$, a power series in $t$ with the radius of convergence $1/\rho$. So it converges for $\rho < 1$, *however large the norm*, and diverges for $\rho > 1$.

# %% tags=["ledger"]
ledger.numeric(
    "det-exp:log-derivative",
    where=lambda draw: {"X": square(draw), "t": draw.real(0.1, 0.4)},
    also_true=turned("I + t·X"),
)


# %% tags=["ledger"]
def large_norm_small_radius(draw):
    """Norm above 3, radius 1/4; or 5/4, which the condition sends back."""
    n, radius = draw.turn(2, 3, 4), mp.mpf(1) / 4 + draw.integer(0, 1)
    U, _ = mp.qr(draw.matrix(n))
    T = mp.matrix(n)
    for i in range(n):
        T[i, i] = radius * (1 - mp.mpf(2 * i) / n)
        for j in range(i + 1, n):
            T[i, j] = 4 + draw.real()
    rho = lambda X: max(map(abs, mp.eig(X, left=False, right=False)))
    return {"X": U * T * U.T, "rho": rho}


same_parity = dict.fromkeys(
    (
        "(-1)^(k + 1) with the exponent's sign changed",
        "sign of k",
        "sign of 1",
    ),
    "it changes the exponent of −1 by an even number",
)
ledger.numeric(
    "det-exp:log-series",
    where=large_norm_small_radius,
    digits=30,
    unread={r"\text{for real } X": "the matrices that are drawn are real"},
    also_true=same_parity,
)


# %%
def log_series(X, terms):
    total, power = 0, np.eye(len(X))
    for k in range(1, terms + 1):
        power = power @ X
        total += (-1) ** (k + 1) / k * np.trace(power)
    return total


lines = []
for radius in (0.5, 0.9, 1.1):
    X = np.array([[radius, 50.0], [0.0, -radius / 2]])
    error = abs(log_series(X, 400) - np.linalg.slogdet(np.eye(2) + X)[1])
    assert (error < 1e-13) if radius < 1 else (error > 1e10)
    outcome = "converged" if error < 1e-13 else "diverged"
    norm = np.linalg.norm(X, 2)
    lines.append(
        f"norm {norm:.0f}, radius {radius}: after 400 terms {outcome}"
    )
print("\n".join(lines))

X = 0.9j * np.eye(5)  # complex: the same up to a turn, not equal
gap = log_series(X, 400) - np.log(np.linalg.det(np.eye(5) + X))
assert abs(gap - 2j * np.pi) < 1e-12


# %% [markdown]
# (det-exp-log-form)=
# ### The logarithmic form, and where it needs a condition
#
# ```{folded} 2 minutes: logarithms of a determinant, turn by turn
# ```
#
# With $B = \exp A$ the article reads {eq}`det-exp:main` backwards, "another common form" (另一个常见的形式): $\ln \det(B) = \operatorname{Tr}(\ln(B))$. There $\ln B$ is the $A$ that one started from, one logarithm among many, as the article says (矩阵的对数是不唯一的).
#
# A program returns another one. A matrix has a logarithm if and only if it is invertible. With the principal logarithm (主值), imaginary parts in $(-\pi, \pi]$, the trace adds $n$ angles and may
# leave that interval; $\ln \det B$ is one angle and may not. So one must turn back, $k$ times:
#
# $$
# \ln \det B = \operatorname{Tr} \ln B - 2 \pi i k, \qquad k = \Bigl\lceil \frac{\operatorname{Im} \operatorname{Tr} \ln B}{2 \pi} - \frac{1}{2} \Bigr\rceil
# $$ (det-exp:log-form)
#
# The smallest matrix with $k \ne 0$ is $2 \times 2$: take $B = e^{2\pi i/3} I$. The sum of the two angles is $4\pi/3$, and the angle of $\det B = e^{4\pi i/3}$ is $-2\pi/3$.

# %% tags=["ledger"]
def many_angles(draw):
    """Angles with sums just below π, just above it, and up to 10."""
    P, sign = square(draw, complex=True), draw.turn(1, -1)
    total = draw.turn(2.5, 3.5, 10, 3.5, 7, 2.5)
    each = sign * total / P.rows
    angles = [each + draw.real(-0.05, 0.05) for _ in range(P.rows)]
    Lambda = mp.diag([draw.real(0.5, 2) * mp.expj(angle) for angle in angles])
    return {"B": P * Lambda * P**-1, "angles": angles}


def turns_back(angles):
    angle, k = sum(angles), 0
    while angle > mp.pi:
        angle, k = angle - 2 * mp.pi, k + 1
    while angle <= -mp.pi:
        angle, k = angle + 2 * mp.pi, k - 1
    return k


ledger.numeric(
    "det-exp:log-form",
    where=many_angles,
    computed={"k": turns_back},
    draws=6,
    digits=30,
)


# %% [markdown]
# For *every* invertible $B$ and *every* choice of its logarithm
#
# $$
# \det B = \exp \operatorname{Tr} \log(B)
# $$ (det-exp:log-mod)
#
# so the logarithmic form is true modulo $2\pi i$. It is true as it stands, with principal logarithms, for real $B$ without an eigenvalue in $(-\infty, 0]$: complex ones come in conjugate pairs, whose angles cancel. For such $B$
#
# $$
# \log \det B = \operatorname{Tr} \log B
# $$ (det-exp:log-principal)
#
# $B = -I_2$ is real with $\det B = 1$, yet $\operatorname{Tr} \log B = 2\pi i$. And $\operatorname{diag}(-1, -2)$ has determinant $2 > 0$ but is not the exponential of any real matrix: a logarithm commutes with it, so it is diagonal, and its entries are logarithms of negative numbers. For a real logarithm, $\det B > 0$ is necessary and not sufficient {cite:p}`higham2008functions`.

# %% tags=["ledger"]
def any_logarithm(draw):
    """Of distinct eigenvalues each may take a turn of its own."""
    turns = [draw.integer(-2, 2) for _ in range(4)]

    def log(B):
        if not isinstance(B, mp.matrix):
            return mp.log(B)
        values, V = mp.eig(B)
        logs = [mp.log(x) + 2j * mp.pi * k for x, k in zip(values, turns)]
        return V * mp.diag(logs) * V**-1

    return {"B": square(draw, complex=True), "log": log}


ledger.numeric(
    "det-exp:log-mod",
    where=any_logarithm,
    digits=30,
)


# %% tags=["ledger"]
def conjugate_pairs(draw):
    """Real, with angles up to 3: in order 4 two of them would add up to 6."""
    P, n = square(draw), draw.turn(2, 3, 4)
    Lambda = mp.diag([draw.real(0.5, 2) for _ in range(n)])
    for k in range(0, n - 1, 2):
        size, angle = draw.real(0.5, 2), draw.real(2, 3)
        a, b = size * mp.cos(angle), size * mp.sin(angle)
        Lambda[k : k + 2, k : k + 2] = mp.matrix([[a, -b], [b, a]])
    return {"B": P * Lambda * P**-1}


ledger.numeric(
    "det-exp:log-principal",
    where=conjugate_pairs,
    draws=6,
    digits=30,
)

# %%
B = -np.eye(2)
trace = np.trace(scipy.linalg.logm(B))
assert np.linalg.det(B) == 1 and abs(abs(trace) - 2 * np.pi) < 1e-12
assert abs(np.exp(trace) - 1) < 1e-12  # the form that always holds
print(f"B = -I: log det B = 0, |Tr log B| = {abs(trace):.4f} = 2π")

B = np.exp(2j * np.pi / 3) * np.eye(2)  # one turn apart
assert np.isclose(np.trace(scipy.linalg.logm(B)), 4j * np.pi / 3)
assert np.isclose(np.log(np.linalg.det(B)), -2j * np.pi / 3)

# %% [markdown]
# (det-exp-cnf)=
# ### Continuous normalising flows
#
# ```{folded} 2 minutes: the density along a flow, and what discrete steps do to it
# ```
#
# Let points drawn from a density $p_0$ be carried by $\dot x = f(x)$ {cite:p}`chen2018neural,grathwohl2019ffjord`. Mass is conserved and volumes change by {eq}`det-exp:divergence`, so along each path the density $p$ obeys the *instantaneous change of variables*
#
# $$
# \frac{d}{dt} \log p(t, x(t)) = -\operatorname{Tr} G(x(t))
# $$ (det-exp:change-of-variables)
#
# For a linear flow $\log p$ falls by exactly $t \operatorname{Tr} A$.

# %% tags=["ledger"]
ledger.numeric(
    "det-exp:change-of-variables",
    where=projective_flow,
    also_true={"log of −(p(t, x(t)))": constant},
)

# %% [markdown]
# A program takes $\tau/h$ steps of length $h$. Euler's step is the map $I + hA$, and its volume is *not* $e^{h \operatorname{Tr} A}$. From {eq}`det-exp:slope`, over the time $\tau$ the log-volume is off by about $-\frac{h\tau}{2} \operatorname{Tr} A^2$:
#
# $$
# \lim_{h \to 0} \frac{1}{h} \Bigl( \frac{\tau}{h} \log \det(I + hA) - \tau \operatorname{Tr} A \Bigr) = -\frac{\tau}{2} \operatorname{Tr} A^2
# $$ (det-exp:euler-volume)
#
# A step of the classical Runge–Kutta method (RK4) is the series of $\exp(hA)$ cut after $k = 4$. What is missing begins with $(hA)^5/5!$, so by {eq}`det-exp:log-derivative` one step is off by
#
# $$
# \lim_{h \to 0} \frac{1}{h^5} \Bigl( \log \det \Bigl( \sum_{k=0}^{4} \frac{(hA)^k}{k!} \Bigr) - h \operatorname{Tr} A \Bigr) = -\frac{1}{120} \operatorname{Tr} A^5
# $$ (det-exp:rk4-volume)
#
# and $\tau/h$ steps by about $-\frac{h^4 \tau}{120} \operatorname{Tr} A^5$. A model that reports $\log p$ from the integrated trace reports the density of the exact flow, while its samples come from the discrete one.

# %% tags=["ledger"]
ledger.numeric(
    "det-exp:euler-volume",
    where=lambda draw: {"A": square(draw), "tau": draw.real(0.5, 2)},
)

# %% tags=["ledger"]
ledger.numeric(
    "det-exp:rk4-volume",
    where=lambda draw: {"A": square(draw)},
)

# %%
rng = np.random.default_rng(3)
A = rng.standard_normal((4, 4)) / 2
I4, tau = np.eye(4), 1.0
tr2, tr5 = np.trace(A @ A), np.trace(np.linalg.matrix_power(A, 5))
lines = ["               Euler                 RK4"]
lines += ["steps     error predicted     error predicted"]
for steps in (10, 20, 40, 80):
    h = tau / steps
    power, rk4 = I4, I4
    for k in range(1, 5):
        power = power @ (h * A) / k
        rk4 = rk4 + power
    volumes = [
        steps * np.linalg.slogdet(step)[1] for step in (I4 + h * A, rk4)
    ]
    errors = [volume - tau * np.trace(A) for volume in volumes]
    predicted = [-h * tau / 2 * tr2, -(h**4) * tau / 120 * tr5]
    columns = [
        f" {e:+9.1e} {p:+9.1e}"
        for e, p in zip(errors, predicted, strict=True)
    ]
    lines.append(f"{steps:5d}" + "".join(columns))
assert all(
    abs(e / p - 1) < 0.05 for e, p in zip(errors, predicted, strict=True)
)
print("\n".join(lines))

# %% [markdown]
# ### Hutchinson's estimator
#
# ```{folded} 3 minutes: a trace from random probes, bias and variance
# ```
#
# In a trained flow $G$ is the Jacobian matrix of a network. Its trace costs $n$ backward passes, one vector–Jacobian product $v^{\top} G$ a single one. Let $v$ be a random vector with $\mathbb{E}[v v^{\top}] = I$. Since $v^{\top} A v = \operatorname{Tr}(A v v^{\top})$ and expectation
# passes through the trace,
#
# $$
# \mathbb{E}[v^{\top} A v] = \operatorname{Tr} A
# $$ (det-exp:hutchinson)
#
# This is Hutchinson's estimator {cite:p}`hutchinson1990stochastic`. For its variance only the symmetric part
#
# $$
# S = \frac{1}{2} (A + A^{\top})
# $$ (det-exp:symmetric-part)
#
# matters, as $v^{\top} A v = v^{\top} S v = \sum_i s_{ii} v_i^2 + 2 \sum_{i<j} s_{ij} v_i v_j$, and we take the $v_i$ independent.
#
# - *Random signs* (Rademacher, $v_i = \pm 1$). Then $v_i^2 = 1$ is no longer random, and the products $v_i v_j$, $i < j$, have mean 0, variance 1 and are uncorrelated. So the variance is $4 \sum_{i<j} s_{ij}^2$:
#
# $$
# \operatorname{Var}(v^{\top} A v) = 2 \Bigl( \|S\|_F^2 - \sum_{i=1}^{n} s_{ii}^2 \Bigr)
# $$ (det-exp:rademacher)
#
# - *Gaussian.* Now $v_i^2$ has variance 2 and is uncorrelated with the products, which adds $2 \sum_i s_{ii}^2$. With $v$ standard normal the variance is
#
# $$
# \operatorname{Var}_{v \sim \mathcal{N}}(v^{\top} A v) = 2\, \|S\|_F^2
# $$ (det-exp:gaussian)
#
# So signs never do worse, and for a diagonal matrix they make no error. FFJORD's published code draws Gaussian vectors unless asked for signs.

# %% tags=["ledger"]
signs, normal = Law.uniform([-1, 1]), Law.normal()


def form(v, A):
    return ((v @ np.asarray(A)) * v).sum(-1)


def probed_by_signs(A, n, rng):
    return form(rng.choice([-1.0, 1.0], size=(n, len(A))), A)


def signs_or_normal(draw):
    A = square(draw)
    return {"A": A, "v": draw.turn(signs, normal).independent(A.rows)}


ledger.statistical(
    "det-exp:hutchinson",
    where=signs_or_normal,
    draws=3,
    samples=probed_by_signs,
    n=SIZES["probes"],
)


# %% tags=["ledger"]
def symmetric_part(A):
    return (A + A.T) / 2


ledger.definition(
    "det-exp:symmetric-part",
    r"S = \frac{1}{2} (A + A^{\top})",
    where=lambda draw: {"A": square(draw)},
    call=symmetric_part,
)


# %% tags=["ledger"]
def quadratic_form(draw):
    A = square(draw)
    S = symmetric_part(A)
    return {
        "A": A,
        "S": S,
        "s": S,
        "n": A.rows,
        "v": signs.independent(A.rows),
        "N": normal.independent(A.rows),
    }


ledger.exact(  # over all 2ⁿ sign vectors, in rational numbers
    "det-exp:rademacher",
    where=quadratic_form,
)


# %% tags=["ledger"]
def squared_errors(A, n, rng):
    return (form(rng.standard_normal((n, len(A))), A) - float(A.trace())) ** 2


ledger.statistical(
    "det-exp:gaussian",
    where=quadratic_form,
    draws=3,
    samples=squared_errors,
    n=SIZES["probes"],
)

# %% [markdown]
# Derived against measured:

# %%
rng = np.random.default_rng(0)
n, probes = 30, SIZES["probes"]
A = rng.standard_normal((n, n))
S = (A + A.T) / 2
whole, diagonal = (S**2).sum(), (np.diag(S) ** 2).sum()
derived = {"signs": 2 * (whole - diagonal), "Gaussian": 2 * whole}
measured = {}
for name in derived:
    v = rng.standard_normal((probes, n))
    q = form(np.sign(v) if name == "signs" else v, A)
    measured[name] = q.var(ddof=1)
    assert abs(q.mean() - np.trace(A)) < 4 * q.std() / probes**0.5
    assert abs(measured[name] / derived[name] - 1) < 0.03
for name in derived:
    ratio = measured[name] / derived[name]
    print(
        f"{name:9s} derived {derived[name]:6.1f}, measured / derived = "
        f"{ratio:.2f}"
    )


# %% [markdown]
# FFJORD draws $v$ *once* for a whole solve, so that the solver sees a smooth right-hand side. That costs no bias, since $x(t)$ does not depend on $v$:
#
# $$
# \mathbb{E} \int_0^{\tau} v^{\top} G(x(t))\, v\, dt = \int_0^{\tau} \operatorname{Tr} G(x(t))\, dt
# $$ (det-exp:one-probe)

# %% tags=["ledger"]
def one_probe_per_solve(G, x, tau, n, rng):
    nodes, weights = np.polynomial.legendre.leggauss(12)
    v, total = rng.standard_normal((n, x(mp.mpf(0)).rows)), 0.0
    for node, weight in zip(nodes, weights, strict=True):
        at = x(mp.mpf(float(tau) * (node + 1) / 2))
        total = total + float(tau) / 2 * weight * form(
            v, np.array(G(at).tolist(), dtype=float)
        )
    return total


def flow_and_probe(draw):
    flow, tau = projective_flow(draw), draw.real(0.5, 0.9)
    n = flow["x"](0).rows
    return {**flow, "tau": tau, "v": signs.independent(n)}


ledger.statistical(
    "det-exp:one-probe",
    where=flow_and_probe,
    draws=2,
    samples=one_probe_per_solve,
    n=SIZES["probes"],
)


# %% [markdown]
# ### The cost of the two sides
#
# ```{folded} 1 minute: how many times apart the two sides are, timed
# ```
#
# The left side of {eq}`det-exp:main` takes $5 + s$ matrix products for the exponential (five for a polynomial, $s$ squarings) and a factorisation, about $(5 + s)\, 2n^3 + \frac23 n^3$ operations, the right side $n - 1$ additions. How many times the two lie apart, on the machine at hand, with one thread:

# %% tags=["hide-input"] mystnb={"image": {"alt": "One curve on doubly logarithmic axes, the time of det of exp A divided by that of exp of the trace, against the order n. It rises from under a hundred for the smallest matrices to many hundreds for the largest, where it meets a dashed line that rises with the square of n."}}
# NBVAL_IGNORE_OUTPUT
# Times differ from run to run; what must hold is asserted.
def seconds_per_matrix(function, batch):
    """The fastest of several runs: what the computation costs when nothing disturbs it."""
    best = math.inf
    for _ in range(SIZES["repeats"]):
        start = time.perf_counter()
        function(batch)
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best / len(batch)


sides = {
    "left": lambda A: torch.linalg.slogdet(expm(A)),
    "right": lambda A: logdet_expm(A).exp(),
}
cost = {side: [] for side in sides}
threads = torch.get_num_threads()
torch.set_num_threads(1)  # waiting for a second thread would be timed too
for n in SIZES["orders"]:
    batch = torch.randn(max(1, 65536 // n**2), n, n, device=DEVICE) / n**0.5
    for side, function in sides.items():
        cost[side].append(seconds_per_matrix(function, batch))
torch.set_num_threads(threads)
where = "GPU" if DEVICE == "cuda" else "one CPU thread"
times_apart = np.array(cost["left"]) / np.array(cost["right"])
assert times_apart[SIZES["orders"].index(256)] > 50

sizes = np.array(SIZES["orders"], float)
fig, axis = plt.subplots(figsize=(5.4, 3.6), layout="constrained")
axis.loglog(sizes, times_apart, "o-", label="measured")
axis.loglog(
    sizes,
    times_apart[-1] * (sizes / sizes[-1]) ** 2,
    "k--",
    lw=1,
    label="$n^2$, as operations count",
)
axis.set(
    xlabel="order n",
    ylabel="time of the left side / right side",
    title=f"how many times apart, float64, {where}",
)
axis.set_xticks(sizes, [f"{n:.0f}" for n in sizes])
axis.minorticks_off()
axis.legend()
print(
    "\n".join(
        f"n = {n:4d}: left / right = {r:7,.0f}"
        for n, r in zip(SIZES["orders"], times_apart, strict=True)
    )
)
plt.show()


# %% [markdown]
# *Time of the left side over time of the right, against the order; dashed, a rise with $n^2$ as operations count, through the last point.*
#
# For a given $B$ without a known logarithm nothing is saved: the way to $\det B$ is still a factorisation.
#
# ## The implementation
#
# ```{folded} 4 minutes: five products for degree 18, squarings, the backward pass
# ```
#
# The series alone is a poor way to compute $\exp A$: for $A = -20$ its terms grow to $4 \cdot 10^7$ before they cancel to $2 \cdot 10^{-9}$, and no digit survives in float64. Moler and Van Loan {cite:p}`moler2003nineteen` describe nineteen ways, all of them dubious. The one that lasted is *scaling and squaring* (缩放与平方): halve $A$ until it is small, use a polynomial there, and square back.
#
# **The polynomial.** Let
#
# $$
# T_{18}(X) = \sum_{k=0}^{18} \frac{X^k}{k!}
# $$ (det-exp:taylor18)
#
# Horner's rule would spend 17 matrix products on it. Bader, Blanes and Casas {cite:p}`bader2019computing` take $X^2$, $X^3 = X X^2$ and $X^6 = X^3 X^3$ (three products), form five linear combinations $B_1, \dots, B_5$ of $I, X, X^2, X^3, X^6$, and
#
# $$
# A_9 = B_1 B_5 + B_4, \qquad \sum_{k=0}^{18} \frac{X^k}{k!} = B_2 + (B_3 + A_9)\, A_9
# $$ (det-exp:five-products)
#
# Five products for degree 18. The weights are published as decimals: they cannot be read off, only checked.

# %% tags=["ledger"]
def five_products(X):
    X2 = X @ X
    X3 = X @ X2
    powers = (X, X2, X3, X3 @ X3)
    return expm_formula.taylor18(tuple(P[None] for P in powers))[0]


ledger.implementation(
    "det-exp:taylor18",
    where=lambda draw: {"X": 2 * square(draw)},  # one more term shows
    function=five_products,
    name="T_18",
    tol=1e-13,
)


# %% tags=["ledger"]
def combinations(draw):
    X = 2 * square(draw)
    powers = [X**k for k in (0, 1, 2, 3, 6)]
    B = [
        sum((w * P for w, P in zip(row, powers, strict=True)), 0 * X)
        for row in expm_formula.T18
    ]
    return {"X": X, "B": B, "A_9": B[0] * B[4] + B[3]}


ledger.numeric(
    "det-exp:five-products",
    where=combinations,
    tol=2e-15,  # the weights are float64 numbers
    weak="A_9 is a polynomial in X, so the two commute",
)


# %% [markdown]
# All coefficients one by one, in rational arithmetic on the stored float64 weights:

# %%
def polynomial_times(p, q):
    product = [Fraction(0)] * (len(p) + len(q) - 1)
    for i, x in enumerate(p):
        for j, y in enumerate(q):
            product[i + j] += x * y
    return product


def polynomial_sum(p, q):
    return [
        x + y for x, y in itertools.zip_longest(p, q, fillvalue=Fraction(0))
    ]


def as_polynomial(row):
    p = [Fraction(0)] * 7
    for weight, power in zip(row, (0, 1, 2, 3, 6), strict=True):
        p[power] = Fraction(weight)
    return p


B1, B2, B3, B4, B5 = map(as_polynomial, expm_formula.T18)
A9 = polynomial_sum(polynomial_times(B1, B5), B4)
T = polynomial_sum(B2, polynomial_times(polynomial_sum(B3, A9), A9))
relative = [abs(T[k] * math.factorial(k) - 1) for k in range(19)]
assert all(T[k] == 0 for k in range(19, len(T)))
assert max(relative[:8]) < 1e-14 and max(relative) < 1e-10
theta = expm_formula.THETA18[torch.float64]
effect = sum(
    float(relative[k]) * theta**k / math.factorial(k) for k in range(19)
)
degree = max(k for k, coefficient in enumerate(T) if coefficient)
assert degree == 18 and effect < 1e-15
print(f"degree {degree}; all errors together, at |x| = θ: below 1e-15")


# %% [markdown]
# **The scaling.** For given $A$ let $s$ be the smallest integer $\ge 0$ for which $\|A\|_1 \le 2^s \theta$, that is, unless $s = 0$,
#
# $$
# 2^{s-1} \theta < \|A\|_1 \le 2^s \theta
# $$ (det-exp:squarings)
#
# where $\theta$ is the largest norm at which $T_{18}$ is as good as the rounding: 3.01 in float32, 1.09 in float64 (the paper derives them from the backward error, the change of $A$ for which the result would be exact). Since $\exp A = (\exp(2^{-s} A))^{2^s}$ exactly, we compute, with $T_{18}$ in the place of $\exp$,
#
# $$
# \operatorname{expm}(A) = \bigl( T_{18}(2^{-s} A) \bigr)^{2^s}
# $$ (det-exp:scaling-squaring)
#
# This is the textbook's count, and {func}`gantext.matexp.expm` takes at most that many squarings. Where the powers of $A$ are smaller than its norm says, fewer do: it asks for $\|A^k\|^{1/k} \le 2^s \theta$ for $k = 18$ to $23$, and to $29$ where $A^6$ is large, by bounds from the powers that {eq}`det-exp:five-products` forms anyway, after {cite:t}`almohy2009new`. And where the mean of the diagonal is below $-\frac12$, it comes off first and back as a number, if that makes the norm smaller. [Below](#det-exp-overscaling) is what this buys.

# %% tags=["ledger"]
def scaled(draw):
    """Norms at both ends of the interval and within, for s from 1 to 6."""
    theta = mp.mpf(expm_formula.THETA18[torch.float64])
    X, share = square(draw), (1, 1.001, draw.real(1, 2))[draw.number // 3]
    rest = sum(abs(X[i, 0]) for i in range(1, X.rows))
    X[0, 0] = 4 - rest  # so the norm is 4, to the last digit
    A = theta * share * 2 ** draw.integer(-1, 3) * X
    s = 0
    while mp.mnorm(A, 1) > 2**s * theta:
        s += 1
    T = lambda X: sum((X**k / mp.factorial(k) for k in range(1, 19)), X**0)
    return {"A": A, "theta": theta, "s": s, "T_18": T}


ledger.numeric(
    "det-exp:squarings",
    where=scaled,
    draws=9,
)

# %% tags=["ledger"]
ledger.implementation(
    "det-exp:scaling-squaring",
    where=scaled,
    function=expm,
    name="expm",
    draws=9,
)

# %% [markdown]
# The reference that the tests compare with, printed from the package itself: scale, sum, square.

# %%
# without its docstring
signature, _, body = inspect.getsource(expm_ref).split('"""')
print(signature.rstrip() + body.rstrip())

# %% [markdown]
# And {func}`gantext.matexp.expm` does the five products of {eq}`det-exp:five-products`, one $s$ for each matrix of a batch: three for $A^2$, $A^3$ and $A^6$, from which $s$ is chosen, and two in the function printed here (on a CPU with the sums of powers as one product). They are asserted equal, matrix for matrix, over nine orders of magnitude:

# %%
print(inspect.getsource(expm_formula.taylor18))
generator = torch.Generator().manual_seed(1)
for n in (1, 2, 3, 8, 33):
    for scale in (1e-6, 1e-3, 1.0, 10.0, 1e3):
        A = scale * torch.randn(8, n, n, generator=generator) / n
        A = A - scale * torch.eye(n)  # keep exp A within range
        kernel, reference = expm(A), torch.stack([expm_ref(one) for one in A])
        size = reference.abs().amax((-2, -1)).clamp(min=1e-300)
        error = (kernel - reference).abs().amax((-2, -1)) / size
        # exp is worse conditioned the larger A is
        condition = max(1.0, scale)
        assert error.max() < 2e-13 * condition, (n, scale, error.max())
print(
    "expm = expm_ref on 200 matrices, orders 1 to 33, norms about 1e-6 to 1e3"
)


# %% [markdown]
# Times beside PyTorch's and SciPy's functions, forwards and backwards, are on the page {doc}`../book/results`. On a GPU a kernel multiplies matrices up to order 32 within its registers: on an NVIDIA H200, 10,000 of them at a time, 5.2 to 11 times as fast as `torch.linalg.matrix_exp`.
#
# **Backwards.** PyTorch differentiates `torch.linalg.matrix_exp` by an identity {cite:p}`mathias1996chain`: with $L = \frac{d}{d\varepsilon} \exp(A + \varepsilon E) \big|_{\varepsilon = 0}$,
#
# $$
# \exp \begin{pmatrix} A & E \\ 0 & A \end{pmatrix} = \begin{pmatrix} \exp A & L \\ 0 & \exp A \end{pmatrix}
# $$ (det-exp:frechet)
#
# which exponentiates a matrix of twice the order, eight times the work. {func}`gantext.matexp.expm` lets the gradient flow back through its few products, two for each, about twice the work of the forward pass. For the log-determinant {func}`gantext.matexp.logdet_expm` returns the trace:
#
# $$
# \log \det \exp A = \operatorname{Tr} A \qquad (-\pi < \operatorname{Im} \operatorname{Tr} A \le \pi)
# $$ (det-exp:logdet)
#
# outside that strip up to a multiple of $2\pi i$.

# %% tags=["ledger"]
def derivative(A, E):
    """Of exp(A + εE) by ε at 0, from one small step each way."""
    with mp.workdps(150):
        h = mp.mpf(10) ** -50
        ahead, behind = (mp.expm(A + e * E, method="taylor") for e in (h, -h))
        return (ahead - behind) / (2 * h)


ledger.numeric(
    "det-exp:frechet",
    where=lambda draw: {"A": square(draw), "E": square(draw)},
    computed={"L": derivative},
)


# %% tags=["ledger"]
def large(draw):
    """Real and complex in turn; exp A spreads over up to 400 digits. Every
    other trace stands where the strip ends, if it does not end elsewhere.
    """
    real, imaginary = square(draw), draw.turn(0, 1j) * square(draw)
    A = 100 * real + 10 * imaginary
    if draw.turn(False, True):
        trace = mp.fsum(A[i, i] for i in range(A.rows))
        off = draw.real(0.98, 1.1) * mp.pi - mp.im(trace)
        A += 1j * off / A.rows * mp.eye(A.rows)
    return {"A": A}


ledger.implementation(
    "det-exp:logdet",
    where=large,
    draws=6,
    function=logdet_expm,
    digits=500,
)

# %% [markdown]
# ## Beside SciPy, PyTorch and JAX
#
# ```{folded} 1 minute: 28 test matrices of the literature, errors in units of rounding
# ```
#
# How good is the function on the matrices that others test with? There are four by Ward, one by Moler and Van Loan {cite:p}`moler2003nineteen`, the overscaling pair of {cite:t}`almohy2009new`, a control system and a companion matrix whose entries run from $10^{-12}$ to $10^{19}$, and the named families of test collections (Frank, Grcar, Kahan, Clement, …), 28 in all. `benchmarks/compare_expm.py` gives each to four programs as a user would call them and compares with 80 digits. The bar was written down before the first run: an error is *large* beyond $10\, n\, u \max(1, \|A\|_1)$, since the rounding of $A$ alone already costs about $u \|A\|$. JAX's column is read from the record; the other three are measured again here.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Dot plot on a logarithmic axis. For each of 28 named test matrices, four dots give the errors of gantext, PyTorch, SciPy and JAX in float64 in units of the rounding, beside a short grey bar, the line beyond which an error is called large. The dots of gantext stay below a fifth of their bar. SciPy's dots pass it at four matrices, JAX's at six, three of them at the right edge, where PyTorch's dots for the control and the companion matrix stand too."}}
import importlib
import sys

# where a notebook that lies alone, as on Colab, finds the book's files
EDITION = "https://github.com/gantext/gantext/raw/v0.1.0"

# the comparison's own program and its record
book.fetched("benchmarks/_common.py", EDITION)
program = book.fetched("benchmarks/compare_expm.py", EDITION)
sys.path.insert(0, str(program.resolve().parent))
comparison = importlib.import_module("compare_expm")
record = book.record("expm", EDITION)

zoo = comparison.gallery()
stored = record["errors"]["float64"]
live = comparison.measure(zoo, np.float64)
counts = {name: len(comparison.large(stored[name], zoo)) for name in stored}
assert len(zoo) == 28 and counts["ours"] == counts["torch"] == 0
assert (counts["scipy"], counts["jax"]) == (4, 6)  # as recorded
assert min(stored[name]["Clement"] for name in ("scipy", "jax")) > 1e3
single = record["errors"]["float32"]
in_single = [len(comparison.large(single[name], zoo)) for name in counts]
assert in_single == [0, 1, 0, 7]
middle = {name: sorted(live["ours"].values())[14] for name in ("ours",)}
assert comparison.large(live["ours"], zoo) == [] and middle["ours"] < 10
# by far; how far depends on the processor
assert all(
    error < comparison.bar(zoo[name]) / 5
    for name, error in live["ours"].items()
)
assert max(live["ours"][f"overscaling 1e{k}"] for k in (4, 8)) < 4
assert stored["torch"]["overscaling 1e8"] > 1e8

fig, axis = plt.subplots(figsize=(5.4, 6.4), layout="constrained")
rows, right_edge = np.arange(len(zoo)), 1e10
axis.barh(rows, 0.0, alpha=0)  # so that all rows are there
for row, A in zip(rows, zoo.values(), strict=True):
    at = min(comparison.bar(A), right_edge)
    axis.plot([at, at], [row - 0.4, row + 0.4], color="#888888", linewidth=3)
marks = (  # the smaller ones last, so that all are seen
    ("jax", GREEN, "^", 8, "JAX (record)"),
    ("scipy", ORANGE, "s", 6, "SciPy"),
    ("torch", GREY, "D", 4.5, "PyTorch"),
    ("ours", BLUE, "o", 3.5, "gantext"),
)
for name, colour, mark, size, label in marks:
    values = (stored if name == "jax" else live)[name].values()
    shown = [right_edge if e is None else min(e, right_edge) for e in values]
    axis.semilogx(
        np.maximum(shown, 0.3), rows, mark, color=colour, ms=size, label=label
    )
axis.set_yticks(rows, list(zoo))
axis.set(xlabel="error / u, float64", xlim=(0.2, 2e10), ylim=(28, -1))
fig.legend(loc="outside upper center", ncols=4, columnspacing=1)
plt.show()

# %% [markdown]
# *Errors of four programs in float64, in units of the rounding $u$. Each row is one matrix; a grey tick is the line beyond which an error counts as large. What is not finite, or beyond $10^{10}$, sits at the right edge.*
#
# Large errors in the record, in float64 and in float32 (torch 2.13.0, SciPy 1.17.1, JAX 0.10.2, one thread of an Intel Xeon): ours 0 and 0, PyTorch's 0 and 1, SciPy's 4 and 0, JAX's 6 and 7. Among JAX's are results that are not finite: by default it refuses more than 16 squarings. Why SciPy and JAX lose more than three digits in float64 on a matrix as tame as Clement's (order 8, entries up to 7) we have not traced; their method solves with a denominator, ours only multiplies. PyTorch stays under the bar in float64 because the bar rises with the norm: at the overscaling pair its error is about $10^4$ and $10^8$ roundings, ours two.
#
# ## Where it fails
#
# ```{folded} 4 minutes: overflow, small eigenvalues, a test that passes a wrong answer, the hump, half precision
# ```
#
# ### Overflow
#
# The largest number of float64 is $e^{709.8}$, that of float32 $e^{88.7}$, of float16 $e^{11.1}$. If an eigenvalue $\lambda$ of $A$ has a real part more than $\log n$ above that exponent, some entry of $\exp A$ overflows, for $e^{\operatorname{Re} \lambda}$, the modulus of an eigenvalue of $\exp A$, is at most $n$ times the largest modulus of an entry. Below that it may or may not: for instance, the eigenvalue 710 of $\bigl(\begin{smallmatrix}355&355\\355&355\end{smallmatrix}\bigr)$ is above 709.8, yet the largest entry is $\frac12 (e^{710} + 1)$, which is finite. The determinant is another matter, a product of $n$ numbers: it can be 1 where entries overflow, and infinite where all entries are small. So compare logarithms:

# %%
balanced = torch.diag(torch.tensor([100.0, -100.0]))
# float64: fine
assert torch.linalg.slogdet(expm(balanced)).logabsdet.abs() < 1e-12
# float32: e^100 is beyond it
assert not expm(balanced.float()).isfinite().all()
assert logdet_expm(balanced.float()) == 0

even_out = expm(torch.full((2, 2), 355.0))  # float64, eigenvalues 710 and 0
assert even_out.isfinite().all() and even_out.max() > 1e308
for dtype, largest in (
    (torch.float64, 709.8),
    (torch.float32, 88.7),
    (torch.float16, 11.1),
):
    assert abs(math.log(torch.finfo(dtype).max) - largest) < 0.05

# entries of exp A up to e^3 = 20, det = e^120
many = 3 * torch.eye(40, dtype=torch.float32)
E = expm(many)
assert E.isfinite().all() and torch.linalg.det(E) == math.inf
assert (
    abs(torch.linalg.slogdet(E).logabsdet - 120) < 1e-3
    and logdet_expm(many) == 120
)
from_exp = torch.linalg.slogdet(expm(balanced.float())).logabsdet.item()
trace = logdet_expm(balanced.float())
print(
    f"diag(100, -100) in float32: log det of exp A = {from_exp}, trace = "
    f"{trace}"
)
print(
    f"3 I, order 40, in float32: det of exp A = {torch.linalg.det(E)}, trace "
    f"= {logdet_expm(many)}"
)

# %% [markdown]
# ### Small eigenvalues drown
#
# Let $S$ be symmetric with eigenvalues $\lambda_1 \le \dots \le \lambda_n$, and $E = \exp S$. An algorithm that is as good as possible returns $E + F$ with $\|F\|_2$ about $u \|E\|_2$, where $u$ is the unit roundoff ($1.1 \cdot 10^{-16}$ in float64, $6 \cdot 10^{-8}$ in float32). By Jacobi's formula its log-determinant moves by
#
# $$
# \frac{d}{d\varepsilon} \log \det(E + \varepsilon F) \Big|_{\varepsilon = 0} = \operatorname{Tr}(E^{-1} F)
# $$ (det-exp:sensitivity)
#
# and $|\operatorname{Tr}(E^{-1} F)| \le n \|E^{-1}\|_2 \|F\|_2$, about $n\,u\,\|E^{-1}\|_2 \|E\|_2$. That product of norms, the condition number (条件数), is for our $E$
#
# $$
# \|\exp S\|_2\, \|\exp(-S)\|_2 = e^{\lambda_n - \lambda_1}
# $$ (det-exp:condition)
#
# So the error grows like $u\, e^{\text{spread}}$, as [the figure](#what-rounding-does-to-the-two-sides) measures, and *no digit is left* once the spread of the eigenvalues passes about $\log(1/u)$: 36.7 in float64, 16.6 in float32, where the dashed lines of the figure cross the grey one. (The errors themselves stay somewhat below these lines and cross later.)

# %% tags=["ledger"]
ledger.numeric(
    "det-exp:sensitivity",
    where=lambda draw: {
        "E": mp.expm(square(draw)),
        "F": square(draw),
        "varepsilon": mp.mpf(0),
    },
    also_true=turned("E + varepsilon·F"),
)


# %% tags=["ledger"]
def symmetric(draw):
    n = draw.turn(2, 3, 4)
    Q, _ = mp.qr(draw.matrix(n))
    eigenvalues = mp.matrix(sorted(draw.matrix(n, 1)))
    S = Q * mp.diag(list(eigenvalues)) * Q.T
    return {"S": S, "lambda": eigenvalues, "n": n}


ledger.numeric(
    "det-exp:condition",
    where=symmetric,
    weak="the statement is about symmetric matrices",
)

# %% [markdown]
# The same eigenvalues *on the diagonal* do no harm: the cell of that figure asserts twelve digits for every spread. Mixed scales, not size, destroy the digits.
#
# (det-exp-overscaling)=
# ### A test that passes, an answer that is wrong
#
# The identity tests one number of $n^2$. For
#
# $$
# \exp \begin{pmatrix} 1 & b \\ 0 & -1 \end{pmatrix} = \begin{pmatrix} e & b \sinh 1 \\ 0 & e^{-1} \end{pmatrix}
# $$ (det-exp:overscaling)
#
# with $b = 10^8$, the norm asks for $s = 25$ halvings. They also make the diagonal small, $\pm 2^{-25}$, which float32 cannot see beside 1: $1 \pm 2^{-25}$ rounds to 1, squaring returns 1, and the diagonal of the result is $(1, 1)$ instead of $(2.718, 0.368)$. This is called *overscaling* {cite:p}`almohy2009new`, and it is what PyTorch returns. Its log-determinant is 0, and so is the trace:
# the test passes. With the diagonal $(1, 2)$ it does not pass. *Test with a trace that is not zero, and test more than the determinant.*

# %% tags=["ledger"]
ledger.numeric(
    "det-exp:overscaling",
    where=lambda draw: {"b": draw.real(-5, 5)},
)

# %%
lines = ["float32, b = 1e8  diagonal    log det"]
for other, true in ((-1.0, (math.e, 1 / math.e)), (2.0, (math.e, math.e**2))):
    A = torch.tensor([[1.0, 1e8], [0.0, other]], dtype=torch.float32)
    lines.append(f"diagonal of A: 1, {other:.0f}; trace {A.trace():.0f}")
    for name, function in (
        ("torch", torch.linalg.matrix_exp),
        ("gantext", expm),
    ):
        E = function(A)
        logdet = torch.linalg.slogdet(E).logabsdet.item()
        gap = abs(logdet - A.trace())
        if name == "torch":
            # wrong by more than half, and ...
            assert abs(E[0, 0] / true[0] - 1) > 0.5
            # ... noticed only the second time
            assert gap < 1e-6 if other == -1 else gap > 0.9
        else:
            assert np.allclose(E.diagonal(), true, rtol=1e-5) and gap < 1e-5
        x, y = E.diagonal().tolist()
        lines.append(f"  {name:10s}{x:8.2f}{y:7.2f}{logdet:10.2f}")
    x, y = true
    lines.append(f"  {'true':10s}{x:8.2f}{y:7.2f}{1 + other:10.2f}")
    # float64; SciPy treats triangles apart
    exact = scipy.linalg.expm(A.double().numpy())
    assert np.allclose(np.diag(exact), true, rtol=1e-12)
print("\n".join(lines))

# %% [markdown]
# The powers tell more than the norm. Here $A^2 = I$, whatever $b$ is: the even powers are $I$, the odd ones $A$ itself. So $\|A^{19}\|$ is about $b$, not $b^{19}$, and asks only for $b^{1/19} \le 2^s \theta$: at $b = 10^8$, $s = 0$ instead of 25. The package's tests compare the errors with SciPy's, on this matrix up to $b = 10^{12}$ and on those that others test with.
#
# ### The hump
#
# For non-normal matrices (非正规矩阵: without an orthonormal basis of eigenvectors), eigenvalues describe the end and not the middle. In
#
# $$
# \exp \Bigl( t \begin{pmatrix} -1 & 50 \\ 0 & -2 \end{pmatrix} \Bigr) = \begin{pmatrix} e^{-t} & 50 (e^{-t} - e^{-2t}) \\ 0 & e^{-2t} \end{pmatrix}
# $$ (det-exp:hump)
#
# both eigenvalues are negative and the area shrinks like $e^{-3t}$ from the first moment, steadily. But the norm first rises to twelve: a square becomes a long thin needle before it becomes small. A program that squares its way over this hump loses digits.

# %% tags=["ledger"]
ledger.numeric(
    "det-exp:hump",
    where=lambda draw: {"t": draw.real(0.3, 1)},
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Logarithmic plot against time from 0 to 8. The norm of exp of tA rises from about 1 to 12.5 at time 0.7, then falls. The determinant falls along a straight line from the start."}}
t = torch.linspace(0, 8, 161)
E = expm(t[:, None, None] * torch.tensor([[-1.0, 50.0], [0.0, -2.0]]))
norms, dets = torch.linalg.matrix_norm(E, 2), torch.linalg.det(E)
assert (
    12 < norms.max() < 13
    and 0.6 < t[norms.argmax()] < 0.8
    and norms[-1] < 0.02
)
assert (dets / torch.exp(-3 * t) - 1).abs().max() < 1e-9

fig, axis = plt.subplots(figsize=(5.4, 3.2), layout="constrained")
axis.semilogy(t, norms, label=r"norm $\|\exp(tA)\|_2$")
axis.semilogy(t, dets, label=r"area $\det \exp(tA) = e^{-3t}$")
axis.set(xlabel="time t", ylim=(1e-6, 40))
axis.legend()
print(f"largest norm {norms.max():.1f} at t = {t[norms.argmax()]:.1f}")
plt.show()

# %% [markdown]
# *Norm and determinant of $\exp(tA)$ against time: the hump of the one, the straight fall of the other.*
#
# ### Half precision
#
# The documentation of `torch.linalg.matrix_exp` lists bfloat16 among its types. On version 2.13.0, on a CPU, both half types return nonsense without an error, even for small matrices; {func}`gantext.matexp.expm` computes them in float32 and rounds once at the end.

# %%
A = 0.1 * torch.randn(64, 3, 3, generator=torch.Generator().manual_seed(2))
lines = []
for dtype in (torch.float16, torch.bfloat16):
    half = A.to(dtype)
    truth = torch.linalg.matrix_exp(half.double())
    worst = lambda E: ((E - truth).abs().amax() / truth.abs().amax()).item()
    assert worst(expm(half)) < torch.finfo(dtype).eps
    # NaN counts as broken
    broken = not worst(torch.linalg.matrix_exp(half)) < 0.1
    if torch.__version__.startswith("2.13.0"):
        assert broken
    verdict = "more than 10 % off, or NaN" if broken else "fine"
    lines.append(
        f"{str(dtype):15s} gantext: within one rounding; torch: {verdict}"
    )
print("\n".join([f"torch {torch.__version__.split('+')[0]}, CPU", *lines]))

# %% [markdown]
# ## Three sizes
#
# ```{folded} 1 minute: what a larger SCALE runs, and how long that takes
# ```
#
# Everything on this page is `SCALE = "reduced"`. The article has no experiment whose size one could take; the other sizes take the same questions further.
#
# | Size | `"reduced"` | `"gpu"` | `"large"` |
# | --- | --- | --- | --- |
# | largest order of the matrices timed | 256 | 1,024 | 2,048 |
# | probes of an estimated trace | 200,000 | 1,000,000 | 4,000,000 |
# | repetitions of a timing | 5 | 20 | 20 |
# | device | CPU | GPU, if there is one | GPU, if there is one |
# | time | minutes, two CPU cores | minutes | not measured |
#
# At `"gpu"` every cell has run on an NVIDIA H200 with its loops cut short ([record](../book/results.md)); no number of this page is from there.
#
# ## Claims and measurements
#
# The article has no experiment; each claim was computed or asserted on this page.

# %% tags=["hide-input"]
from torch.utils.flop_counter import FlopCounterMode


def products(run, n=16):
    """How many n × n matrix products a computation takes, by PyTorch's own count of operations."""
    # small: no squarings
    A = (torch.randn(1, n, n) / n**2).requires_grad_(True)
    with FlopCounterMode(display=False) as counter:
        run(A)
    return counter.get_total_flops() / (2 * n**3)


forward = products(expm)
both = products(lambda A: expm(A).sum().backward())
assert forward == 5 and both <= 15

rows = [
    (
        "Su: the left side costs far more than the right",
        "no number",
        "more than 50 times at n = 256",
        f"float64, {where}",
        "holds",
    ),
    (
        "Chen et al.: log p along a flow falls at the rate of the trace",
        "equality",
        "equal to 20 digits",
        "CPU, 50 digits",
        "holds",
    ),
    (
        "Hutchinson: random signs vary least",
        "no number",
        f"{derived['signs'] / derived['Gaussian']:.2f} of the Gaussian variance at n = 30, within 3 %",
        "CPU, float64",
        "holds",
    ),
    (
        "FFJORD: one noise vector for a whole solve leaves no bias",
        "bias 0",
        "0 within 4 standard errors",
        "CPU, float64",
        "holds",
    ),
    (
        "Bader et al.: degree 18 with five products",
        "5",
        f"{forward:.0f}; with the backward pass {both:.0f}",
        "CPU, float64",
        "holds",
    ),
    (
        "ours: on the literature's 28 test matrices no error is beyond "
        "10 n u max(1, ‖A‖)",
        "0 (this page)",
        "beyond it: "
        + ", ".join(
            f"{program} {counts[program]}"
            for program in ("ours", "torch", "scipy", "jax")
        )
        + " (recorded, float64)",
        "CPU, 80 digits",
        "holds",
    ),
    (
        "PyTorch: matrix_exp supports bfloat16",
        "yes",
        "wrong by more than 10 % in version 2.13.0",
        "CPU, bfloat16",
        "fails",
    ),
    (
        "residual flows: training returns logdet |d(x + g(x)) / dx|",
        "0.405 for J = 1/2",
        "0.333 (gradient: right)",
        "exact",
        "fails in value",
    ),
]
book.claims(rows)

# %% [markdown]
# ## Questions that readers asked
#
# From below the article {cite:p}`su2019detexp`; words and answers are ours.
#
# ### Does it fail for the matrix with the rows (1, 0) and (1, 0)?
#
# No; there is no exception. The exponential is the series, not the exponential of each entry. This $A$ has $A^2 = A$, so $\exp A = I + (e - 1) A$, whose determinant is $e = e^{\operatorname{Tr} A}$. The entries' exponentials have determinant zero.

# %%
A = sp.Matrix([[1, 0], [1, 0]])
assert A**2 == A and A.exp() == sp.eye(2) + (sp.E - 1) * A
assert sp.simplify(A.exp().det()) == sp.E == sp.exp(A.trace())
assert A.applyfunc(sp.exp).det() == 0  # entry by entry: another thing
print("det exp A =", sp.simplify(A.exp().det()))

# %% [markdown]
# ### Must A be positive definite?
#
# No. Positive definite, indefinite, singular, complex, not diagonalisable: {eq}`det-exp:main` asks for a square matrix and for nothing else, and its check draws complex ones of orders 2 to 4. What is always positive, for real $A$, is the determinant of the *exponential*, {eq}`det-exp:positive`.
#
# ### Are the diagonalisable matrices really dense, and over which field?
#
# Over the complex numbers yes, by the two short steps of [the second proof](#second-proof-diagonalise-then-let-density-finish). Over the reals no, if "diagonalisable" means with real eigenvalues: the discriminant of a quarter turn is $-4$, and it stays negative for every matrix nearby. For the theorem that is no loss, since a real matrix is a complex one. Nor does rounding help in practice: after a perturbation of a Jordan block of size $10^{-8}$ the discriminant is so small that the eigenvectors are all but parallel.

# %%
rng = np.random.default_rng(11)
quarter = np.array([[0.0, -1.0], [1.0, 0.0]])
near = quarter + 0.3 * rng.uniform(-1, 1, (10_000, 2, 2))
discriminant = np.trace(near, axis1=1, axis2=2) ** 2 - 4 * np.linalg.det(near)
assert discriminant.max() < 0  # none has a real eigenvalue
block = np.array([[1.0, 1.0], [0.0, 1.0]]) + 1e-8 * rng.uniform(-1, 1, (2, 2))
assert np.linalg.cond(np.linalg.eig(block)[1]) > 1e3
print(f"largest of 10,000 discriminants: {discriminant.max():.1f}")


# %% [markdown]
# ### Does the Jordan form give more, det f(A) as the product of f at the eigenvalues?
#
# Yes, for every power series whose disc of convergence holds the eigenvalues: {eq}`det-exp:function` of the fifth proof, checked for $f(x) = \sin x + e^x$ on matrices with a repeated eigenvalue and no basis of eigenvectors. The trace appears only because $f$ is an exponential: the product of the $e^{\lambda_i}$ is $e$ to the sum.
#
# ### Is there a general way to compute the logarithm of a matrix?
#
# Yes, the exponential's algorithm run backwards {cite:p}`higham2008functions`: take square roots until the matrix is near the identity, use the series there, and double as often. SciPy's `logm` does so (with a rational function for the series). It gives the principal logarithm, for matrices without an eigenvalue in $(-\infty, 0]$.

# %%
def logarithm(B, terms=12):
    roots = 0
    while np.linalg.norm(B - np.eye(len(B)), 2) > 0.05:
        B, roots = scipy.linalg.sqrtm(B), roots + 1
    X, power, total = B - np.eye(len(B)), np.eye(len(B)), 0
    for k in range(1, terms):
        power = power @ X
        total = total + (-1) ** (k + 1) / k * power
    return 2**roots * total


B = scipy.linalg.expm(np.random.default_rng(12).standard_normal((5, 5)))
assert np.allclose(logarithm(B), scipy.linalg.logm(B), atol=1e-9)
assert abs(np.trace(logarithm(B)) - math.log(np.linalg.det(B))) < 1e-9
print("log det B = Tr log B, with square roots and a series")

# %% [markdown]
# ### Where else does the proof with the differential equation come from?
#
# From Lie groups, as a reader remarks: $t \mapsto \exp(tA)$ is a one-parameter group, the determinant maps it to a one-parameter group of numbers, and such a group is $e^{ct}$ with the derivative at $t = 0$ for $c$, here the trace. Read so, {eq}`det-exp:ode` needs Jacobi's formula only at the identity, where it is {eq}`det-exp:first-order`.
#
# ## Where the article and popular code disagree
#
# ```{folded} 1 minute: logarithms, convergence, and an estimator that returns something else
# ```
#
# **The logarithmic form**, with the logarithms that programs return, holds up to the $2\pi i k$ of {eq}`det-exp:log-form`; for {eq}`det-exp:log-mod` any logarithm will do.
#
# **The series** of the logarithm needs $\rho(X) < 1$, not $\|X\|_2 < 1$ as the article's condition reads.
#
# **An estimator whose value is not what its name says.** Residual flows {cite:p}`chen2019residual` need $\log \det(I + J)$ for a contraction with Jacobian matrix $J$. For training, the published code uses a function called `neumann_logdet_estimator`, whose value its caller documents as "logdet|d(x+g(x))/dx|". It multiplies a probe $v$ by the Neumann series of $(I + J)^{-1}$, $I - J + J^2 - \dots$, while no gradient is recorded, then
# by $J$ once more with gradients on. By {eq}`det-exp:log-derivative` its *gradient* is exactly right: an unbiased estimate of $\operatorname{Tr}((I + J)^{-1} dJ)$. But the *value* that it returns is an estimate of
#
# $$
# \operatorname{Tr}\bigl( J (I + J)^{-1} \bigr) = \sum_{k=1}^{\infty} (-1)^{k+1} \operatorname{Tr} J^k
# $$ (det-exp:neumann)
#
# The coefficients $\frac1k$ of {eq}`det-exp:log-series` are missing, as they must be in a derivative. In evaluation the code uses the estimator with these coefficients, so likelihoods on test data are not affected.

# %% tags=["ledger"]
ledger.numeric(
    "det-exp:neumann",
    where=lambda draw: {"J": square(draw) / 10},
    digits=30,
    also_true=same_parity,
)


# %% tags=["ledger"]
def neumann_value(J, terms=200):
    """The mean of what it returns for g(x) = Jx: the series, then one J."""
    series = sum(((-1) ** k * J**k for k in range(terms + 1)), 0 * J)
    product = series * J
    return sum(product[i, i] for i in range(J.rows))


ledger.refutation(
    "det-exp:neumann-value",
    None,
    where={"J": mp.matrix([[mp.mpf(1) / 2]])},
    statement="Returns g(x) and logdet|d(x+g(x))/dx|.",
    source="Ricky T. Q. Chen, rtqichen/residual-flows on GitHub, "
    "lib/layers/iresblock.py, docstring of iResBlock._logdetgrad",
    counterexample="in training, with neumann_grad=True (the default), and "
    "g(x) = x/2, J = 1/2: the mean of what it returns tends to 1/3, while "
    "log det(I + J) = log(3/2) = 0.405",
    holds="the value estimates Tr(J(I + J)⁻¹); only its gradient is that of "
    "log det(I + J)",
    published=(neumann_value, lambda J: mp.log(mp.det(mp.eye(J.rows) + J))),
    sides=("0.3333", "0.4055"),
    corrected=(neumann_value, lambda J: J[0, 0] / (1 + J[0, 0])),
)

# %%
theta = torch.tensor(0.5, requires_grad=True)
with torch.no_grad():
    neumann = sum((-theta) ** k for k in range(60))
value = theta * neumann  # for one dimension and v = ±1 there is no noise
(slope,) = torch.autograd.grad(value, theta)
assert (
    abs(value.item() - 1 / 3) < 1e-12 and abs(slope.item() - 1 / 1.5) < 1e-12
)
print(f"value: {value.item():.3f}, log det: {math.log(1.5):.3f}")
print(f"slope: {slope.item():.3f}, slope of log det: {1 / 1.5:.3f}")

# %% [markdown]
# ## Exercises
#
# ```{exercise} Trace zero is not everything · ★★
# :label: det-exp-ex-traceless
#
# By the theorem the exponential of a real $2 \times 2$ matrix with trace zero has determinant 1. Is every real matrix with determinant 1 such an exponential? *Hint:* use {eq}`det-exp:two-by-two` to find the smallest possible trace of $\exp A$.
# ```
#
# ```{solution-start} det-exp-ex-traceless
# :class: dropdown
# ```
#
# No. With $\operatorname{Tr} A = 0$ the closed form gives $\operatorname{Tr} \exp A = 2 \cosh q$. If $q$ is real this is at least 2; if $q = i\omega$ it is $2 \cos \omega \ge -2$. So the matrix $\operatorname{diag}(-2, -\frac12)$, with determinant 1 and trace $-2.5$, is out of reach.

# %%
A = 3 * torch.randn(100_000, 2, 2, generator=torch.Generator().manual_seed(0))
A[:, 1, 1] = -A[:, 0, 0]
E = expm(A)
scale = E.abs().amax((-2, -1)) ** 2
assert ((torch.linalg.det(E) - 1).abs() / scale).max() < 1e-12
traces = E.diagonal(dim1=-2, dim2=-1).sum(-1)
assert -2 - 1e-12 < traces.min() < -1.99 and logdet_expm(A).abs().max() == 0
print(
    f"smallest trace of exp A among 100,000 traceless A: {traces.min():.2f}"
)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Equal without commuting · ★
# :label: det-exp-ex-commute
#
# Let $A = \operatorname{diag}(0, 2\pi i)$ and $B = \bigl(\begin{smallmatrix} 0 & 1 \\ 0 & 2\pi i \end{smallmatrix}\bigr)$. Show that $AB \ne BA$ and yet $e^{A+B} = e^A e^B$.
# ```
#
# ```{solution-start} det-exp-ex-commute
# :class: dropdown
# ```
#
# $A$, $B$ and $A + B$ each have two distinct eigenvalues, all of them integer multiples of $2\pi i$. So each is diagonalisable, and its exponential is $P I P^{-1} = I$. All three exponentials are the identity. But $AB - BA$ has the entry $-2\pi i$ in its corner.

# %%
A = sp.diag(0, 2 * sp.pi * sp.I)
B = sp.Matrix([[0, 1], [0, 2 * sp.pi * sp.I]])
assert A * B != B * A
assert A.exp() == B.exp() == (A + B).exp() == sp.eye(2)
print("AB - BA =", (A * B - B * A).tolist())

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} An invertible convolution · ★
# :label: det-exp-ex-convolution
#
# An image has $c$ channels and $h \times w$ pixels. A $1 \times 1$ convolution multiplies the channel vector of each pixel by the same matrix $W = \exp A$. What is the log-determinant of this linear map of $\mathbb{R}^{chw}$, and what does it cost?
# ```
#
# ```{solution-start} det-exp-ex-convolution
# :class: dropdown
# ```
#
# Ordered by pixels the map is block diagonal with $hw$ blocks $W$, so its log-determinant is $hw \operatorname{Tr} A$: $c - 1$ additions and one multiplication. The determinant of the dense matrix would cost $(chw)^3$.

# %%
c, h, w = 3, 4, 5
A = torch.randn(c, c, generator=torch.Generator().manual_seed(4)) / 2
layer = lambda x: torch.nn.functional.conv2d(
    x[None], expm(A)[:, :, None, None]
)[0]
J = torch.autograd.functional.jacobian(layer, torch.zeros(c, h, w))
J = J.reshape(c * h * w, c * h * w)
logdet = h * w * logdet_expm(A)
assert torch.allclose(torch.linalg.slogdet(J).logabsdet, logdet, rtol=1e-12)
print(
    f"Jacobian matrix of order {c * h * w}: log det = {h * w} Tr A = "
    f"{logdet:.4f}"
)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} A step that keeps volumes better · ★★
# :label: det-exp-ex-cayley
#
# Replace Euler's step by the Cayley step $C_h = (I - \frac h2 A)^{-1} (I + \frac h2 A)$ (the trapezoidal rule). Show that its log-volume error per step is $\frac{h^3}{12} \operatorname{Tr} A^3$ to leading order, and exactly zero for every $2 \times 2$ matrix with trace zero.
# ```
#
# ```{solution-start} det-exp-ex-cayley
# :class: dropdown
# ```
#
# On an eigenvalue $\lambda$ of $A$, $\log(1 + \frac{h\lambda}{2}) - \log(1 - \frac{h\lambda}{2}) = h\lambda + \frac{(h\lambda)^3}{12} + O(h^5)$: the even powers cancel. Summed over the eigenvalues this is $h \operatorname{Tr} A + \frac{h^3}{12} \operatorname{Tr} A^3 + \dots$
# A traceless $2 \times 2$ matrix has the eigenvalues $\pm\lambda$, and the odd function cancels between them, to all orders.

# %%
rng = np.random.default_rng(8)


def cayley(A, h):
    identity = np.eye(len(A))
    return np.linalg.solve(identity - h / 2 * A, identity + h / 2 * A)


A, h = rng.standard_normal((5, 5)), 0.02
error = np.linalg.slogdet(cayley(A, h))[1] - h * np.trace(A)
predicted = h**3 / 12 * np.trace(A @ A @ A)
assert abs(error / predicted - 1) < 0.02
A = np.array([[0.7, 2.0], [-3.0, -0.7]])
for step in (0.01, 0.1, 1.0):
    assert abs(np.linalg.det(cayley(A, step)) - 1) < 1e-13
print(
    f"error / prediction = {error / predicted:.2f}; traceless, order 2: no "
    "error at all"
)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Markov chains forget · ★
# :label: det-exp-ex-markov
#
# A continuous-time Markov chain has a generator $Q$: non-negative off the diagonal, rows with sum zero. Its transition matrix is $\exp(tQ)$. Show that $0 < \det \exp(tQ) \le 1$, and that the determinant is 1 for some $t > 0$ only if nothing ever moves.
# ```
#
# ```{solution-start} det-exp-ex-markov
# :class: dropdown
# ```
#
# Every diagonal entry of $Q$ is minus the sum of its row's non-negative entries, so $\operatorname{Tr} Q \le 0$ and $\det \exp(tQ) = e^{t \operatorname{Tr} Q} \in (0, 1]$. It is 1 only if $\operatorname{Tr} Q = 0$; then every diagonal entry is zero, hence every row is zero and $Q = 0$.

# %%
Q = torch.rand(6, 6, generator=torch.Generator().manual_seed(6))
Q = Q - torch.diag(Q.sum(1))
for t in (0.1, 0.5, 1.0):
    P = expm(t * Q)
    assert P.min() > 0 and (P.sum(1) - 1).abs().max() < 1e-14
    sign, logdet = torch.linalg.slogdet(P)
    assert sign == 1 and abs(logdet - t * Q.trace()) < 1e-9 and logdet < 0
print(f"Tr Q = {Q.trace():.3f}; det exp Q = {torch.linalg.det(expm(Q)):.1e}")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Russian roulette · ★★★
# :label: det-exp-ex-roulette
#
# The series {eq}`det-exp:log-series` is infinite, a program is not. Draw a random integer $N \ge 1$, stop after $N$ terms, and divide the $k$-th term by $\Pr(N \ge k)$. Show that the result is unbiased. With $\Pr(N \ge k) = 2^{1-k}$, for which spectral radius is the variance finite?
# ```
#
# ```{solution-start} det-exp-ex-roulette
# :class: dropdown
# ```
#
# The $k$-th term is kept with probability $\Pr(N \ge k)$ and divided by it, so its mean is the term itself; absolute convergence allows the means to be added. The terms decay like $\rho^k / k$, so for $\rho > \frac12$ the estimate for $N = m$ is of size $(2\rho)^m / m$, and it has the probability $2^{-m}$. The second moment is finite if
# $\sum_m (2\rho)^{2m} m^{-2}\, 2^{-m} = \sum_m (2\rho^2)^m / m^2$ is, that is if $\rho \le 1/\sqrt2$. At $\rho = 1/\sqrt2$ itself it is the factor $1/m^2$ that saves it.

# %%
rng = np.random.default_rng(9)
# spectral radius 0.4
X = np.array([[0.4, 2.0, 1.0], [0.0, -0.3, 1.5], [0.0, 0.0, 0.2]])
exact = np.linalg.slogdet(np.eye(3) + X)[1]
k = np.arange(1, 60)
powers = np.array([np.trace(np.linalg.matrix_power(X, j)) for j in k])
terms = (-1.0) ** (k + 1) / k * powers
weighted = np.cumsum(terms * 2.0 ** (k - 1))  # divided by P(N >= k) = 2^(1-k)
estimates = weighted[rng.geometric(0.5, SIZES["probes"]) - 1]
error = estimates.std() / len(estimates) ** 0.5
assert abs(estimates.mean() - exact) < 4 * error
# a fixed cut is biased, and we would see it
assert abs(terms[:3].sum() - exact) > 10 * error
print(
    f"log det(I + X) = {exact:.3f}; the mean of {len(estimates):,} draws: "
    f"{estimates.mean():.3f}"
)


def second_moment(radius, most):  # at order 1, the share of N up to `most`
    k = np.arange(1, most + 1)
    sums = np.cumsum(-((-radius) ** k) / k * 2.0 ** (k - 1))
    return (sums**2 * 2.0**-k).sum()


at, above = (
    [second_moment(radius, most) for most in (200, 400, 800)]
    for radius in (0.5**0.5, 0.75)
)
assert at[2] - at[1] < at[1] - at[0] < 0.01  # settles
assert min(above[1] / above[0], above[2] / above[1]) > 1e9  # does not


# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Write it: rotations of space · ★★
# :label: det-exp-ex-rodrigues
#
# Write a function for the exponential of a batch of real skew-symmetric matrices $K$ of order 3 that needs one matrix product. *Hint:* with $\theta^2 = -\frac12 \operatorname{Tr} K^2$ the theorem of Cayley and Hamilton says $K^3 = -\theta^2 K$. Mind $\theta = 0$.
# ```
#
# ```{solution-start} det-exp-ex-rodrigues
# :class: dropdown
# ```
#
# The odd powers of $K$ are multiples of $K$ and the even ones of $K^2$, so the series sorts into $I + \frac{\sin \theta}{\theta} K + \frac{1 - \cos \theta}{\theta^2} K^2$ (Rodrigues' formula). Near $\theta = 0$ both fractions are written with $\operatorname{sinc} x = \frac{\sin \pi x}{\pi x}$, which knows its limit, and with $1 - \cos \theta = 2 \sin^2 \frac\theta2$.

# %%
def rotation(K):
    square_of_K = K @ K
    half = square_of_K.diagonal(dim1=-2, dim2=-1).sum(-1).neg() / 2
    angle = half.clamp(min=0).sqrt()[..., None, None]
    first = torch.sinc(angle / torch.pi)
    second = torch.sinc(angle / (2 * torch.pi)) ** 2 / 2
    return torch.eye(3) + first * K + second * square_of_K


X = torch.randn(500, 3, 3, generator=torch.Generator().manual_seed(13))
X[0] = 0
K = X - X.mT
R = rotation(K)
assert torch.allclose(R, expm(K), atol=1e-13)
assert (torch.linalg.det(R) - 1).abs().max() < 1e-13 and K.isfinite().all()
print("500 rotations agree with expm and have determinant 1")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Turn the scale · ★
# :label: det-exp-ex-scale
#
# The set-up cell has a line `SCALE = "reduced"`. Before you change it to `"gpu"`: by what factor should the error of the mean in Hutchinson's estimator shrink, and up to which order will the costs be timed? Then change it, run all cells, and look.
# ```
#
# ```{solution-start} det-exp-ex-scale
# :class: dropdown
# ```
#
# There are five times as many probes, and the standard error falls like their root: by a factor of $\sqrt5 = 2.2$. The costs are timed up to order 1024 instead of 256.

# %%
rng = np.random.default_rng(14)
A, means = rng.standard_normal((8, 8)), {}
for few in (SIZES["probes"] // 100, SIZES["probes"] // 20):
    v = rng.choice([-1.0, 1.0], size=(40, few, 8))
    means[few] = form(v, A).mean(1).std()
fewer, more = means.values()
assert 1.4 < fewer / more < 3.6  # √5 = 2.2, from 40 repetitions
print(f"SCALE = {SCALE!r}: orders up to {SIZES['orders'][-1]}")

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
# ```
