"""A batch of updates of spherical text embedding: the Triton kernels beside `index_add_`, plain and compiled. On a GPU.

python benchmarks/bench_sphere_kernel.py [--rounds 9]. Without a GPU nothing runs and nothing is stored.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from _common import ROOT, begin, interleave, write_json
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize
from tqdm import tqdm

from gantext.kernels.sphere import Batch, batch_update, batch_update_ref

sys.path.insert(0, str(ROOT / "tests"))
from _compare import relative_error  # the measure of error is the tests' own

SIZES = [(14_000, 100, 8_192), (14_000, 100, 65_536), (200_000, 100, 65_536), (14_000, 300, 65_536)]  # words, p, n
TUPLES_PER_DOCUMENT = 2000  # 100 words, 10 neighbours, 2 negatives
LEAST = 2.0  # times as fast as the compiled rival
PLAIN, COMPILED = "index_add_, eager", "index_add_, compiled"
Row = dict[str, Any]


def dense(tables: list[Tensor], indices: list[Tensor], rate: float) -> None:
    """Gather, the formulas, `index_add_` into a buffer as large as the table, normalise the table. Mode "paper"."""
    (U, V, D), (c, n, x, d) = tables, indices
    u, u1, v, doc = U[c], U[n], V[x], D[d]
    w, e = v + doc, u - u1
    active = rate * ((0.15 - (u * w).sum(1) + (u1 * w).sum(1) > 0) & (c != n)).to(U.dtype)
    for table, jobs in (
        (U, ((c, u, w, active), (n, u1, w, -active))),
        (V, ((x, v, e, active),)),
        (D, ((d, doc, e, active),)),
    ):
        total = torch.zeros_like(table)
        for index, rows, g, s in jobs:
            factor = s * (1 - cosine_similarity(rows, g, dim=1) * s.sign())
            total.index_add_(0, index, factor[:, None] * (g - (g * rows).sum(1, keepdim=True) * rows))
        table.copy_(normalize(table + total, dim=1))


def draw(words: int, p: int, n: int, place: torch.device) -> tuple[list[Tensor], list[Tensor]]:
    """Random unit tables; words by Zipf's law, documents one after the other, as a corpus is read."""
    documents = max(2, n // TUPLES_PER_DOCUMENT)
    tables = [normalize(torch.randn(k, p, device=place), dim=1) for k in (words, words, documents)]
    zipf = 1 / torch.arange(1, words + 1, dtype=torch.float64, device=place)
    law = [zipf.sqrt(), zipf**0.75, zipf.sqrt()]  # subsampling makes the law of the kept words flatter
    indices = [torch.multinomial(weights, n, replacement=True) for weights in law]
    return tables, [*indices, torch.arange(n, device=place) * documents // n]


def measure(words: int, p: int, n: int, place: torch.device, rounds: int) -> Row:
    tables, indices = draw(words, p, n, place)
    compiled = torch.compile(dense)
    calls = {
        "ours": lambda T, rate: batch_update(Batch(T[0], T[1], T[2], *indices), rate=rate, backend="triton"),
        PLAIN: lambda T, rate: dense(T, indices, rate),
        COMPILED: lambda T, rate: compiled(T, indices, rate),
    }
    exact = [t.double() for t in tables]
    batch_update_ref(Batch(exact[0], exact[1], exact[2], *indices), rate=0.04)
    errors = {}
    for name, call in calls.items():
        copies = [t.clone() for t in tables]
        call(copies, 0.04)
        errors[name] = max(relative_error(found[None], ref[None]) for found, ref in zip(copies, exact, strict=True))
    # A rate at which no bit of a row changes: else the hinges fall silent while the clock runs.
    times = interleave({name: lambda call=call: call(tables, 1e-12) for name, call in calls.items()}, rounds)
    touched = sum(len(torch.cat(i).unique()) for i in (indices[:2], indices[2:3], indices[3:]))
    return {
        "what": "update of three tables",
        "dtype": "float32",
        "size": f"{words} words, p = {p}, {n} tuples",
        "results": {name: {**t, "error": errors[name]} for name, t in times.items()},
        "ratio": times[COMPILED]["median_ms"] / times["ours"]["median_ms"],
        "bytes": tables[0].element_size() * p * (4 * n + 2 * touched),  # each tuple's rows, and the rows that change
    }


def copy_rate(place: torch.device, rounds: int) -> float:
    """Bytes a second, read and written, of a copy of half a gigabyte."""
    source = torch.zeros(2**27, device=place)
    target = torch.empty_like(source)
    return 2 * source.nbytes / interleave({"copy": lambda: target.copy_(source)}, rounds)["copy"]["median_ms"] * 1e3


def claims(rows: list[Row], copy: float) -> list[Row]:
    slow, *_, fast = sorted(rows, key=lambda r: r["ratio"])
    share = [r["bytes"] / r["results"]["ours"]["median_ms"] * 1e3 / copy for r in rows]
    worst = max(rows, key=lambda r: r["results"]["ours"]["error"])
    return [
        {
            "claim": f"at least {LEAST:g}x the compiled index_add_ route",
            "measured": f"{slow['ratio']:.2f} to {fast['ratio']:.2f} times as fast",
            "verdict": "holds" if slow["ratio"] >= LEAST else "fails",
            "where": f"every size; least at {slow['size']}. The necessary bytes move at {min(share):.2f} to "
            f"{max(share):.2f} of the speed of a copy, {copy / 1e9:.0f} GB/s",
        },
        {
            "claim": "float32 error at most 1e-6 of the float64 update",
            "measured": f"at most {worst['results']['ours']['error']:.1e}",
            "verdict": "holds" if worst["results"]["ours"]["error"] <= 1e-6 else "fails",
            "where": f"most at {worst['size']}",
        },
    ]


def main() -> None:
    if not torch.cuda.is_available():
        print("not run: no GPU")
        return
    rounds, place, record = begin(__doc__, "tests/kernels/test_sphere_kernel.py", "triton")
    rows = [measure(*size, place, rounds) for size in tqdm(SIZES, file=sys.stderr)]
    found = claims(rows, copy_rate(place, rounds))
    title = "A batch of updates on the sphere"
    write_json(
        "sphere_kernel",
        {
            "schema": 1,
            "title": title,
            "chapter": "jose",
            "command": "python benchmarks/bench_sphere_kernel.py",
            **record,
            "rows": rows,
            "claims": found,
        },
    )
    for r in rows:
        times = "  ".join(f"{name} {t['median_ms']:.3g} ms ({t['error']:.1e})" for name, t in r["results"].items())
        print(f"{r['size']:40} ratio {r['ratio']:5.2f}  {times}")
    for c in found:
        print(f"{c['verdict']:6} {c['claim']}: {c['measured']} [{c['where']}]")


if __name__ == "__main__":
    main()
