"""The batch update against a loop on paper, on both routes; memory, hostile input, and the compiled code."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from _compare import assert_close
from _kernels import CAPABILITIES, DEVICE, both_routes, compiler, cross_compile, guarded, kernel, poisoned
from _launches import operations
from torch import Tensor
from torch.nn.functional import normalize

from gantext.kernels.sphere import LONGEST, batch_update
from gantext.kernels.sphere import Batch as Given
from gantext.sphere import training
from gantext.sphere.geometry import Mode, update_ref
from gantext.sphere.jose import JoSE

F32, F64 = torch.float32, torch.float64
SIZES = (7, 6, 3)  # words, contexts, documents
UNIT = 1e-6  # how far a row's length may be from 1
MODES: list[Mode] = ["paper", "plain", "reference"]
FORMS: list[tuple[Mode, bool, bool]] = [
    (mode, word, document)
    for mode, (word, document) in itertools.product(MODES, [(True, True), (True, False), (False, True)])
    if mode != "reference" or not (word and document)
]
every_form = pytest.mark.parametrize(("mode", "word", "document"), FORMS)
every_dtype = pytest.mark.parametrize("dtype", [F32, F64], ids=["float32", "float64"])

Batch = tuple[list[Tensor], list[Tensor]]  # tables U, V, D and indices centre, negative, context, document


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def draw(n: int, p: int = 100, dtype: torch.dtype = F32, sizes: tuple[int, ...] = SIZES) -> Batch:
    tables = [normalize(torch.randn(k, p, dtype=F64), dim=1).to(DEVICE, dtype) for k in sizes]
    return tables, [torch.randint(k, (n,), device=DEVICE) for k in (sizes[0], *sizes)]


def apply(batch: Batch, backend: str, *, word: bool = True, document: bool = True, **settings: Any) -> Batch:
    """New tables, and the loss in a list; a guard band round each table and index, fresh memory NaN."""
    (U, V, D), guards = zip(*map(guarded, batch[0]), strict=True)
    (c, n, x, d), more = zip(*map(guarded, batch[1]), strict=True)
    with poisoned():
        given = Given(U, V, D, c, n, x if word else None, d if document else None)
        loss = batch_update(given, backend=backend, **{"rate": 0.3, **settings})
    for intact in (*guards, *more):
        intact()
    return [U, V, D], [loss]


def loop(
    batch: Batch,
    word: bool = True,
    document: bool = True,
    rate: float = 0.3,
    margin: float = 0.15,
    mode: Mode = "paper",
) -> Batch:
    """Tuple by tuple in float64: the sum of the tangent steps of a row, then one retraction."""
    U, V, D = (t.double() for t in batch[0])
    steps, hinges = [torch.zeros_like(t) for t in (U, V, D)], []
    for c, n, x, d in zip(*(t.tolist() for t in batch[1]), strict=True):
        if c == n:
            continue
        partners = [(V, x, 1)] * word + [(D, d, 2)] * document
        w, e = sum(T[k] for T, k, _ in partners) + torch.zeros_like(U[c]), U[c] - U[n]
        hinges.append(max(0.0, float(margin - U[c] @ w + U[n] @ w)))
        if not hinges[-1]:
            continue
        cos = lambda a, b: a @ b / b.norm() if b.norm() > 0 else 0.0 * a[0]
        factors = {
            "paper": (1 - cos(U[c], w), 1 + cos(U[n], w), *(1 - cos(T[k], e) for T, k, _ in partners)),
            "plain": (1, 1, 1, 1),
            "reference": (1 - U[c] @ w, 2 * (U[n] @ w), *(1 - (U[c] @ w - U[n] @ w) for _ in partners)),
        }[mode]
        moves = [(U, c, 0, w), (U, n, 0, -w), *((T, k, i, e) for T, k, i in partners)]
        for (T, k, i, g), s in zip(moves, factors, strict=False):
            steps[i][k] += rate * s * (g - (g @ T[k]) * T[k])
    tables = [
        torch.where((z != 0).any(1, keepdim=True), normalize(T + z, dim=1), T)
        for T, z in zip((U, V, D), steps, strict=True)
    ]
    return tables, [torch.tensor(hinges, dtype=F64).mean() if hinges else torch.zeros((), dtype=F64)]


def agree(found: Batch, wanted: Batch, dtype: torch.dtype) -> None:
    tol = 1e-6 if dtype == F32 else 1e-14
    for out, ref in zip(found[0], wanted[0], strict=True):
        assert_close(out, ref.to(out.device), tol)
        assert (out.double().norm(dim=1) - 1).abs().max() < UNIT
    assert found[1][0].shape == () and found[1][0].dtype == dtype
    torch.testing.assert_close(found[1][0].double().cpu(), wanted[1][0].cpu(), rtol=tol, atol=tol)


@both_routes
@every_form
@every_dtype
def test_steps_of_a_row_are_summed_and_retracted_once(
    backend: str, mode: Mode, word: bool, document: bool, dtype: torch.dtype
) -> None:
    batch = draw(40, dtype=dtype)  # 80 steps on 7 rows: some hinges active, some not
    wanted = loop(batch, word, document, mode=mode)
    found = apply(batch, backend, word=word, document=document, mode=mode)
    agree(found, wanted, dtype)
    for used, old, new in zip((True, word, document), batch[0], found[0], strict=True):
        assert used != torch.equal(old, new)


@both_routes
@pytest.mark.parametrize("p", [1, 2, 3, 17, 64, 300, 2048])
def test_a_batch_of_one_is_the_single_update(backend: str, p: int) -> None:
    for mode, word, document in FORMS:
        (U, V, D), indices = draw(1, p, F64, (2, 1, 1))
        indices[0][0], indices[1][0] = 0, 1
        v, d = V[0] if word else None, D[0] if document else None
        u, v, d, n = update_ref(U[0], v, d, U[1], rate=0.1, margin=5.0, mode=mode)  # always active
        tables, _ = apply(([U, V, D], indices), backend, word=word, document=document, mode=mode, rate=0.1, margin=5.0)
        wanted = [torch.stack([u, n]), *(old if new is None else new[None] for new, old in ((v, V), (d, D)))]
        for found, row in zip(tables, wanted, strict=True):
            torch.testing.assert_close(found, row, rtol=0, atol=1e-14)


@both_routes
@pytest.mark.parametrize("p", [8, 2048], ids=["in one tile", "in several"])
def test_rows_with_hundreds_of_steps(backend: str, p: int) -> None:
    batch = draw(300, p, F64, (12, 2, 1))  # more steps of a row than two programs of the kernel sum
    wanted = loop(batch, rate=0.02)
    agree(apply(batch, backend, rate=0.02), wanted, F64)
    far = torch.stack([(new - old).norm() for new, old in zip(wanted[0], batch[0], strict=True)])
    assert (far > 0.3).all(), "the steps are too small to be told from their mean"


@both_routes
@every_dtype
def test_order_is_rounding_and_repetition_is_exact(backend: str, dtype: torch.dtype) -> None:
    batch = draw(30, dtype=dtype)
    order = torch.randperm(30).to(DEVICE)
    shuffled = (batch[0], [t[order] for t in batch[1]])
    first, again, other = (apply(b, backend) for b in (batch, batch, shuffled))
    agree(other, ([t.double() for t in first[0]], [first[1][0].double()]), dtype)
    if backend == "triton":
        assert all(torch.equal(a, b) for a, b in zip(first[0] + first[1], again[0] + again[1], strict=True))


@both_routes
def test_what_is_not_stepped_keeps_its_bits(backend: str) -> None:
    (U, V, D), indices = draw(16, 24)
    U, V, D = (t * 1.0001 for t in (U, V, D))  # off the sphere, so that any normalisation would show
    touched = [t.clone() for t in indices]
    for t, rows in zip(touched, (6, 6, 5, 2), strict=True):
        t.remainder_(rows)  # nobody uses the last row of a table
    tables, _ = apply(([U, V, D], touched), backend)
    assert all(
        torch.equal(new[-1], old[-1]) and not torch.equal(new, old) for new, old in zip(tables, (U, V, D), strict=True)
    )
    same = [indices[0], indices[0], *indices[2:]]  # a negative that is the centre
    tables, (loss,) = apply(([U, V, D], same), backend)
    assert all(torch.equal(new, old) for new, old in zip(tables, (U, V, D), strict=True)) and loss == 0
    calm = [torch.zeros_like(t) for t in indices]
    calm[1] += 1
    U[0], U[1], V[0], D[0] = (normalize(s * torch.ones(24, device=DEVICE), dim=0) for s in (1, -1, 1, 1))
    tables, (loss,) = apply(([U, V, D], calm), backend)  # no hinge is active
    assert all(torch.equal(new, old) for new, old in zip(tables, (U, V, D), strict=True)) and loss == 0
    half = [torch.cat([a, b]) for a, b in zip(same, indices, strict=True)]  # skipped tuples do not dilute the loss
    torch.testing.assert_close(apply(([U, V, D], half), backend)[1], apply(([U, V, D], indices), backend)[1])


@both_routes
@every_dtype
def test_vanishing_differences_and_long_steps_stay_on_the_sphere(backend: str, dtype: torch.dtype) -> None:
    for mode in MODES[:2]:
        (U, V, D), indices = draw(20, 12, dtype)
        U[1] = U[0]  # |u - u'| = 0 for two different words
        D[0] = -V[0]  # |v + d| = 0
        D[1] = V[1]
        agree(apply(([U, V, D], indices), backend, mode=mode), loop(([U, V, D], indices), mode=mode), dtype)
        tables, _ = apply(([U, V, D], indices), backend, mode=mode, rate=1e25)
        assert all(((t.double().norm(dim=1) - 1).abs() < UNIT).all() for t in tables)
        tables, _ = apply(([U, V, D], indices), backend, mode=mode, rate=0.0)
        assert all(torch.equal(new, old) for new, old in zip(tables, (U, V, D), strict=True))


@both_routes
def test_on_two_points_nothing_can_move(backend: str) -> None:
    batch = draw(12, 1)
    for rate in (0.3, 1e10):
        tables, _ = apply(batch, backend, rate=rate)
        assert all(torch.equal(new, old) for new, old in zip(tables, batch[0], strict=True))


@both_routes
def test_a_row_of_nan_stays_alone_and_shows_in_the_loss(backend: str) -> None:
    for table, row in ((0, 2), (1, 3), (2, 1)):
        batch = draw(40, 10, F64)
        batch[0][table][row] = torch.nan
        used = (batch[1][table + 1 if table else 0] == row) | ((batch[1][1] == row) if not table else False)
        keep = (batch[0], [t[~used] for t in batch[1]])
        tables, (loss,) = apply(batch, backend)
        wanted, _ = loop(keep)
        for found, ref in zip(tables, wanted, strict=True):
            torch.testing.assert_close(found, ref, rtol=0, atol=1e-14, equal_nan=True)
        assert used.any() and tables[table][row].isnan().all() and loss.isnan()


@both_routes
@pytest.mark.parametrize("which", range(4))
@pytest.mark.parametrize("bad", [-1, 10**12, "end"])
def test_an_index_out_of_range(backend: str, which: int, bad: int | str) -> None:
    batch = draw(20, 16, F64)
    end = (SIZES[0], *SIZES)[which]
    batch[1][which][7] = end if bad == "end" else int(bad)
    if backend == "reference":
        name = ("centre", "negative", "context", "document")[which]
        with pytest.raises(ValueError, match=f"batch_update: {name} has indices .* 0 to {end - 1}.*Enlarge the table"):
            apply(batch, backend)
        return
    tables, (loss,) = apply(batch, backend)
    keep = torch.arange(20, device=DEVICE) != 7
    wanted, _ = loop((batch[0], [t[keep] for t in batch[1]]))
    for found, ref in zip(tables, wanted, strict=True):
        torch.testing.assert_close(found, ref, rtol=0, atol=1e-14)
    assert loss.isnan()


@both_routes
def test_an_empty_batch(backend: str) -> None:
    batch = draw(0)
    tables, (loss,) = apply(batch, backend)
    assert loss == 0 and loss.shape == ()
    assert all(torch.equal(new, old) for new, old in zip(tables, batch[0], strict=True))


@kernel
def test_offsets_beyond_two_to_the_31(tmp_path: Path) -> None:
    p, rows = 1000, 2_200_000  # 2.2e9 numbers; on the CPU a file with holes, which takes up next to no space
    if DEVICE == "cuda":
        U = torch.zeros(rows, p, device=DEVICE)
    else:
        U = torch.from_file(str(tmp_path / "table"), shared=True, size=rows * p, dtype=F32).view(rows, p)
        (tmp_path / "table").unlink()
    small, (_, _, x, d) = draw(2, p, sizes=(2, 2, 2))
    U[[0, rows - 1]] = small[0]
    c = torch.tensor([0, rows - 1], device=DEVICE)
    wanted = loop((small, [c.clamp(max=1), 1 - c.clamp(max=1), x, d]))
    loss = batch_update(Given(U, small[1], small[2], c, c.flip(0), x, d), rate=0.3, backend="triton")
    agree(([U[[0, rows - 1]], *small[1:]], [loss]), wanted, F32)


@both_routes
def test_strided_indices_are_handled_and_strided_tables_kept_from_the_kernel(backend: str) -> None:
    (U, V, D), indices = draw(20, 20, F64)
    wanted = loop(([U, V, D], indices))
    strided = [torch.stack([t, t], -1)[:, 0] for t in indices]
    wide = [torch.stack([t, t], -1).flatten(1)[:, ::2] for t in (U, V, D)]
    assert not strided[0].is_contiguous() and not wide[0].is_contiguous()
    loss = partial(batch_update, Given(U, V, D, *strided))(rate=0.3, backend=backend)
    agree(([U, V, D], [loss]), wanted, F64)
    update = partial(batch_update, Given(*wide, *strided))
    if backend == "triton":
        with pytest.raises(ValueError, match="must be 'reference' here, because a tensor is not contiguous"):
            update(rate=0.3, backend=backend)
    else:
        agree((wide, [update(rate=0.3)]), wanted, F64)


@both_routes
def test_autograd_hears_of_the_change(backend: str) -> None:
    (U, V, D), indices = draw(12, 5, F64)
    product = (U * torch.ones_like(U, requires_grad=True)).sum()
    batch_update(Given(U, V, D, *indices), rate=0.3, backend=backend)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()
    with torch.inference_mode():
        batch_update(Given(U.clone(), V, D, *indices), rate=0.3, backend=backend)


@kernel
def test_an_update_starts_three_kernels_and_one_sort(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU the time of a small batch is that of its launches, and what passes the operator costs as much again."""
    from gantext.kernels import sphere_triton

    started: list[Any] = []
    called: list[Any] = []
    (U, V, D), indices = draw(40)
    given = Given(U, V, D, *indices)
    with monkeypatch.context() as patch:  # the interpreter dispatches operations of its own
        patch.setattr(sphere_triton, "launch", lambda *a, **how: started.append(a[0]))
        with operations() as seen:
            sphere_triton.update(given, 0.3, 0.15, "paper")
    assert started == [sphere_triton.hinges, sphere_triton.sums, sphere_triton.retract]
    assert Counter(seen) == {"aten.new_empty.default": 5, "aten.sort.stable": 1}
    monkeypatch.setattr(torch.ops.gantext, "sphere_update", lambda *given: called.append(given))
    before = U.clone()
    batch_update(given, rate=0.3, backend="triton")
    assert not called and not torch.equal(U, before)
    with operations():
        batch_update(given, rate=0.3, backend="triton")  # whoever watches sees the operator
    assert len(called) == 1


@kernel
@every_dtype
def test_skipped_tuples_change_no_bit_wherever_they_stand(dtype: torch.dtype) -> None:
    """So that batches of one size may stand for all sizes. Rows have steps in several blocks of the kernel."""
    from gantext.kernels import sphere_triton

    tables, indices = draw(300, 8, dtype, (4, 2, 1))
    place = torch.randperm(500)[:300].sort().values.to(DEVICE)
    padded = [torch.zeros(500, dtype=torch.int64, device=DEVICE).index_put_((place,), t) for t in indices]
    sums = [torch.full((), 7.0, dtype=dtype, device=DEVICE) for _ in range(2)]
    rate = torch.full((), 0.02, dtype=dtype, device=DEVICE)
    found = []
    for given, total, step in ((indices, sums[0], 0.02), (padded, sums[1], rate)):
        rows = [t.clone() for t in tables]
        found.append([*rows, sphere_triton.update(Given(*rows, *given), step, 0.15, "paper", total)])
    assert all(torch.equal(a, b) for a, b in zip(found[0][:3], found[1][:3], strict=True))
    torch.testing.assert_close(found[0][3], found[1][3])
    live = (indices[0] != indices[1]).sum()
    for total in sums:
        torch.testing.assert_close(total, 7 + found[0][3] * live)


@kernel
@pytest.mark.parametrize("documents", [3, 2**15, 2**17])
def test_tables_of_any_height_have_keys(documents: int) -> None:
    batch = draw(40, 4, F64, (7, 6, documents))
    batch[1][3][:9] = torch.tensor([0, 1, documents - 1] * 3)
    agree(apply(batch, "triton"), loop(batch), F64)


class Recorder:
    """As a CUDA graph does: runs a step to warm up, and repeats what it read and wrote then, wherever that lay."""

    def __init__(self) -> None:
        self.made = self.repeated = 0

    def __call__(self, step: Callable[[], object]) -> Callable[[], object]:
        self.made += 1
        for _ in range(2):
            step()

        def again() -> None:
            self.repeated += 1
            step()

        return again


@kernel
@pytest.mark.parametrize("mode", ["paper", "reference"])
def test_recorded_training_has_the_bits_of_batches_one_by_one(mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it was broken off and resumed, and where batches of a chunk differ by one in size."""
    draws = np.random.default_rng(0)
    text = [[f"w{k:.0f}" for k in 6 * draws.random(7) ** 2] for _ in range(6)]
    about: dict[str, Any] = {"dimension": 5, "window": 2, "min_count": 1, "epochs": 2, "sample": 0.0, "mode": mode}
    make = lambda: JoSE(**about, batch_size=40, backend="triton", device=DEVICE)
    monkeypatch.setattr(training, "ROUNDS", 2)
    sizes: list[int] = []
    inner = training.parted
    spy = lambda *given: [sizes.append(len(part[0])) or part for part in inner(*given)]
    with monkeypatch.context() as patch:
        patch.setattr(training, "parted", spy)
        plain = make().fit(text)
    assert len(set(sizes)) > 1 and max(sizes) < 40
    records = Recorder()
    monkeypatch.setattr(training, "Batches", partial(training.Batches, capture=records))
    model = make()

    def stop(model: JoSE) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.fit(text, callbacks=[stop])
    assert records.made == 1 and records.repeated == len(sizes) / 2 / (1 + (mode == "reference"))
    model.fit(text, resume=True)
    assert records.made == 2 and records.repeated == len(sizes) / (1 + (mode == "reference"))
    for name in ("word_vectors_", "context_vectors_", "document_vectors_"):
        assert np.array_equal(getattr(model, name), getattr(plain, name))
    np.testing.assert_allclose(model.history_["loss"], plain.history_["loss"], rtol=1e-5)


def test_operator_is_registered_as_it_behaves() -> None:
    (U, V, D), indices = draw(12, 5, F64)
    for given in ((U, V, D, *indices), (U, None, D, *indices[:2], None, indices[3])):
        torch.library.opcheck(torch.ops.gantext.sphere_update, (*given, 0.3, 0.15, "paper", None))


def test_it_compiles_whole_with_a_rate_that_changes() -> None:
    (U, V, D), indices = draw(12, 5, F64)
    update = torch.compile(
        lambda tables, rate: batch_update(Given(*tables, *indices), rate=rate), backend="aot_eager", fullgraph=True
    )
    for rate in (0.3, 0.2, 0.1):
        compiled, plain = ([t.clone() for t in (U, V, D)] for _ in range(2))
        torch.testing.assert_close(update(compiled, rate), batch_update(Given(*plain, *indices), rate=rate))
        torch.testing.assert_close(compiled, plain)
    with pytest.raises(ValueError, match="rate is nan"):
        update([U, V, D], float("nan"))


def test_bad_arguments_are_refused_before_anything_moves() -> None:
    (U, V, D), (c, n, x, d) = draw(6, 5)
    good: dict[str, Any] = {
        "U": U,
        "V": V,
        "D": D,
        "centre": c,
        "negative": n,
        "context": x,
        "document": d,
        "rate": 0.1,
    }
    cases: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (TypeError, "rate is True", {"rate": True}),
        (ValueError, "rate is -0.1", {"rate": -0.1}),
        (ValueError, "rate is inf", {"rate": float("inf")}),
        (ValueError, "margin is 0", {"margin": 0}),
        (ValueError, "mode is 'joint'", {"mode": "joint"}),
        (ValueError, "'reference' with one hinge", {"mode": "reference"}),
        (ValueError, "backend is 'cuda'", {"backend": "cuda"}),
        (ValueError, "both None", {"context": None, "document": None}),
        (TypeError, "U is torch.float16.*vanishes", {"U": U.half(), "V": V.half(), "D": D.half()}),
        (TypeError, "U is torch.bfloat16", {"U": U.bfloat16()}),
        (TypeError, "V is torch.float64", {"V": V.double()}),
        (TypeError, "V is NoneType", {"V": None}),
        (TypeError, "U is list", {"U": U.tolist()}),
        (ValueError, r"D has shape \(3, 4\)", {"D": D[:, :4]}),
        (ValueError, r"U has shape \(7, 0\)", {"U": U[:, :0], "V": V[:, :0], "D": D[:, :0]}),
        (ValueError, r"U has shape \(5,\)", {"U": U[0]}),
        (ValueError, "V requires grad", {"V": V.clone().requires_grad_()}),
        (ValueError, "V is expanded", {"V": V[:1].expand(6, 5)}),
        (ValueError, "two tables share memory", {"V": U}),
        (TypeError, "centre is torch.int32", {"centre": c.int()}),
        (TypeError, "document is list", {"document": d.tolist()}),
        (TypeError, "centre is NoneType", {"centre": None}),
        (TypeError, "negative is NoneType", {"negative": None}),
        (ValueError, r"context has shape \(5,\)", {"context": x[:5]}),
        (ValueError, r"centre has shape \(6, 1\)", {"centre": c[:, None]}),
        (ValueError, "tensors lie on cpu, meta" if DEVICE == "cpu" else "tensors lie on cuda", {"D": D.to("meta")}),
    ]
    before = [t.clone() for t in (U, V, D)]
    for kind, message, change in cases:
        call = {**good, **change}
        with pytest.raises(kind, match=message):
            batch_update(Given(*(call.pop(name) for name in Given._fields)), **call)
    with pytest.raises(TypeError, match="batch is tuple, must be a Batch"):
        batch_update(cast(Any, (U, V, D, c, n, x, d)), rate=0.1)
    assert all(torch.equal(a, b) for a, b in zip(before, (U, V, D), strict=True))
    with torch.no_grad():  # a parameter may be a table where no graph is kept
        batch_update(Given(torch.nn.Parameter(U), V, D, c, n, x, d), rate=0.1)


def test_tables_that_share_memory_are_refused_and_neighbours_in_one_memory_are_not() -> None:
    one = torch.tensor([0, 1])
    rows = normalize(torch.randn(9, 4), dim=1)
    flat = rows.flatten()
    shared: list[tuple[Tensor, Tensor]] = [
        (rows[:5], rows[4:]),
        (rows[4:], rows[:5]),
        (rows, rows[3:6]),
        (rows[::2], rows[2::2]),
        (flat[1:13].view(3, 4), flat[12:24].view(3, 4)),
        (rows[:, :3], rows[:, 1:]),
        (flat.view(9, 4)[:4], flat.as_strided((4, 4), (1, 4))),
    ]
    for V, D in shared:
        before = rows.clone()
        with pytest.raises(ValueError, match="two tables share memory, must be separate"):
            batch_update(Given(torch.eye(V.shape[1]), V, D, one, one + 1, one, one), rate=0.3, margin=3.0)
        assert torch.equal(rows, before)
    for folded in (rows.unfold(0, 3, 1)[0].T.expand(3, 4).as_strided((4, 4), (1, 1)), flat.unfold(0, 4, 2)):
        with pytest.raises(ValueError, match="V is expanded, its rows must lie apart"):
            batch_update(Given(torch.eye(4), folded, None, one, one + 1, one), rate=0.3)
    apart: list[tuple[Tensor, Tensor]] = [
        (rows[:4], rows[4:]),
        (rows[::2], rows[1::2]),
        (flat[1:13].view(3, 4), flat[13:25].view(3, 4)),
        (rows[:, :2], rows[:, 2:]),
        (rows[:, 2:], rows[:, :2]),
    ]
    for V, D in apart:
        V.copy_(normalize(V, dim=1))
        D.copy_(normalize(D, dim=1))
        U, own = torch.eye(V.shape[1]), [V.clone(), D.clone()]
        for k, tables in enumerate(((U.clone(), V, D), (U.clone(), *own))):
            loss = batch_update(Given(*tables, one, 1 - one, one, one), rate=0.3, margin=3.0)  # pyright: ignore[reportCallIssue]  # *tables may be three for all it knows
            assert k == 0 or (torch.equal(V, own[0]) and torch.equal(D, own[1]) and loss > 0)


REGISTERS = {"hinges": 128, "sums": 96, "retract": 96}  # for float32: from 16 warps on a multiprocessor
POINTERS = {
    "*i64": "centre negative context document order in_a in_b",
    "*i32": "keys",
    "i32": "parts n words contexts documents",
}


def types_of(dtype: torch.dtype, **others: str) -> dict[str, str]:
    types = {name: kind for kind, names in POINTERS.items() for name in names.split()}
    tensors = "U V D rate steps loss factors partial mean total_loss".split()
    types |= dict.fromkeys(tensors, f"*fp{8 * dtype.itemsize}") | {"margin": "fp32" if dtype == F32 else "i64"}
    return types | others


@compiler
@pytest.mark.parametrize("dtype", [F32, F64], ids=["float32", "float64"])
def test_every_form_compiles(dtype: torch.dtype) -> None:
    """Scalars as arguments: those of float64 are bits, of which 0 has few; keys of every width; tables left out."""
    from gantext.kernels import sphere_triton

    cut = {"GROUP": sphere_triton.GROUP, "LENGTH": sphere_triton.LENGTH}
    for k, (mode, word, document) in enumerate(FORMS[1::3]):
        types = types_of(dtype, rate="fp32" if dtype == F32 else ("i64", "i32")[k % 2], keys=f"*i{(16, 32, 64)[k % 3]}")
        forms, sections = {"WORD": word, "DOCUMENT": document}, 2 + word + document
        for name, constants in {
            "hinges": {**forms, "MODE": mode, "BITS": dtype == F64, "MEMORY": False},
            "sums": {**cut, **forms},
            "retract": {**cut, "SECTIONS": sections, "TOTAL": False},
        }.items():
            tile, warps = sphere_triton.tiles(100, dtype.itemsize, name)
            used = cross_compile(getattr(sphere_triton, name), types, {**tile, **constants}, 90, warps)
            assert used.count("STG", "ST.") > 0


@compiler
@pytest.mark.parametrize("p", [100, 300, LONGEST])
@pytest.mark.parametrize(("capability", "dtype"), [*((c, F32) for c in CAPABILITIES), (80, F64), (90, F64)])
def test_compiled_kernels_fit_their_registers(capability: int, dtype: torch.dtype, p: int) -> None:
    from gantext.kernels import sphere_triton

    types, cut = types_of(dtype), {"GROUP": sphere_triton.GROUP, "LENGTH": sphere_triton.LENGTH}
    both = {"WORD": True, "DOCUMENT": True}
    constants = {
        "hinges": {**both, "MODE": "paper", "BITS": dtype == F64, "MEMORY": True},
        "sums": {**cut, **both},
        "retract": {**cut, "SECTIONS": 4, "TOTAL": True},
    }
    for name, budget in REGISTERS.items():
        tile, warps = sphere_triton.tiles(p, dtype.itemsize, name)
        used = cross_compile(getattr(sphere_triton, name), types, {**tile, **constants[name]}, capability, warps)
        assert used.registers <= budget * (dtype.itemsize // 4), f"{name} uses {used.registers} registers"
        assert used.stack == used.spills == 0, f"{name}: {used.stack} bytes of stack, {used.spills} spills"
        assert used.count("ATOM", "RED.", "REDG") == 0, (
            f"{name} uses atomics: its sums would depend on the order of arrival"
        )
        assert used.count("LDG", "LD.") > 0 and used.count("STG", "ST.") > 0, f"{name} reads or writes nothing"
        if name != "retract":  # rows are gathered 16 bytes at a time, four to eight instructions in flight
            wide = sum(count for op, count in used.instructions.items() if op.startswith("LDG") and ".128" in op)
            assert wide >= 8, f"{name} has {wide} loads of 16 bytes"
