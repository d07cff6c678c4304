"""The backward pass of `gantext.kernels.layer_norm` on a CPU: one compiled pass over the rows of each sequence.

Every number is read from memory once: a row stays in the first-level cache between its two sums and its gradient.
The gradients of a sequence's scale and shift are summed in blocks of rows, which rounds less than row after row does.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numba import njit
from torch import Tensor

__all__ = ["backward"]

FAST = {"reassoc", "contract", "arcp", "nsz"}  # not "nnan", "ninf": a NaN must remain one
BLOCK = 32  # rows
PART = 2**19  # numbers for which a thread of its own pays


def backward(grad: Tensor, x: Tensor, gamma: Tensor, mean: Tensor, rstd: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients with respect to x, gamma and beta.

    Args:
        grad, x: (B, L, D), float32 or float64. gamma: (B, D). mean, rstd: (B, L, 1), the latter 1 over the deviation.

    The threads are PyTorch's (`torch.set_num_threads`), each with whole sequences: their number changes no bit.
    """
    B = len(x)
    out = x.new_empty(x.shape), gamma.new_empty(gamma.shape), gamma.new_empty(gamma.shape)
    arrays = [t.detach().contiguous().numpy() for t in (grad, x, gamma, mean[..., 0], rstd[..., 0], *out)]
    parts = max(1, min(torch.get_num_threads(), B, x.numel() // PART))
    if parts == 1:
        _rows(*arrays)
    else:
        cuts = [B * k // parts for k in range(parts + 1)]
        with ThreadPoolExecutor(parts) as pool:
            list(pool.map(lambda a, b: _rows(*(array[a:b] for array in arrays)), cuts[:-1], cuts[1:]))
    return out


@njit(nogil=True, cache=True, fastmath=FAST)
def _rows(grad, x, gamma, mean, rstd, dx, dgamma, dbeta):
    B, L, D = x.shape
    g_sum, b_sum = np.empty(D, x.dtype), np.empty(D, x.dtype)  # of a block
    share = x.dtype.type(1) / x.dtype.type(D)
    for b in range(B):
        scale, g_total, b_total = gamma[b], dgamma[b], dbeta[b]
        g_total[:] = 0
        b_total[:] = 0
        g_sum[:] = 0
        b_sum[:] = 0
        for t in range(L):
            up, row, out, m, r = grad[b, t], x[b, t], dx[b, t], mean[b, t], rstd[b, t]
            first = second = x.dtype.type(0)
            for i in range(D):
                normal = (row[i] - m) * r
                u = up[i] * scale[i]
                first += u
                second += u * normal
                g_sum[i] += up[i] * normal
                b_sum[i] += up[i]
            first *= share
            second *= share
            for i in range(D):
                out[i] = r * (up[i] * scale[i] - first - (row[i] - m) * r * second)
            if t % BLOCK == BLOCK - 1 or t == L - 1:
                for i in range(D):
                    g_total[i] += g_sum[i]
                    b_total[i] += b_sum[i]
                g_sum[:] = 0
                b_sum[:] = 0
