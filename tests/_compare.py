"""What tests of tensors share: random ones and weights, and comparisons that say where and how badly batches differ."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def randn(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normal numbers that are the same in every dtype, up to its rounding."""
    return torch.randn(*shape, dtype=torch.float64).to(dtype)


def errors(out: Tensor, ref: Tensor) -> Tensor:
    """||out - ref|| / ||ref|| (Frobenius) of every matrix of a batch, in float64."""
    wide = torch.complex128 if ref.is_complex() else torch.float64
    out, ref = (X.detach().to(wide).reshape(-1, *X.shape[-2:]) for X in (out, ref))
    return (out - ref).flatten(1).norm(dim=1) / ref.flatten(1).norm(dim=1)


def relative_error(out: Tensor, ref: Tensor) -> float:
    """The largest of `errors`; NaN anywhere gives NaN, an empty batch 0."""
    return errors(out, ref).amax().item() if out.numel() else 0.0


def report(out: Tensor, ref: Tensor) -> str:
    """The worst element, its index, and how many differ at all."""
    gap = (out.detach() - ref.detach()).abs().double()
    gap = torch.where(gap.isnan(), torch.inf, gap)  # a NaN is worse than any number
    worst = int(gap.argmax())
    index = tuple(int(i) for i in torch.unravel_index(torch.tensor(worst), gap.shape))
    differ = int((gap > 0).sum())
    return f"worst at {index}: got {out[index].item()}, expected {ref[index].item()}; {differ} of {gap.numel()} differ"


def assert_close(out: Tensor, ref: Tensor, tol: float) -> None:
    """Norm-wise relative error of every matrix at most `tol`."""
    assert out.shape == ref.shape, f"shape {tuple(out.shape)}, expected {tuple(ref.shape)}"
    error = relative_error(out, ref)
    assert error <= tol, f"relative error {error:.3e} > {tol:.3e}; {report(out, ref)}"


def assert_not_worse(out: Tensor, rival: Tensor, ref: Tensor) -> None:
    """Error of `out` at most twice the rival's own in the same dtype, plus four units in the last place.

    Errors are means over the batch: the largest of a dozen rounding errors is luck.
    """
    assert out.shape == rival.shape and out.dtype == rival.dtype, (
        f"{out.shape} {out.dtype}, {rival.shape} {rival.dtype}"
    )
    ours, theirs = (errors(X, ref).mean().item() for X in (out, rival))
    limit = 2 * theirs + 4 * torch.finfo(rival.dtype).eps
    assert ours <= limit, f"mean relative error {ours:.3e} > {limit:.3e} (rival {theirs:.3e}); {report(out, ref)}"


def enlarge(model: nn.Module, std: float) -> None:
    """Weights far from their start, so that nothing hides behind 0 or 1."""
    for name, weight in model.named_parameters():
        nn.init.normal_(weight, "norm" in name.lower() and "weight" in name, std)
