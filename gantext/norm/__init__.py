"""Norms that take a condition: needed by who tells a trained model, through its norms, what to write.

`ConditionalLayerNorm` and `ConditionalRMSNorm` (in `modules`) compute scale and shift from a condition vector, by the
operations of `gantext.kernels.layer_norm`. `condition_all_norms` (in `models`) puts one in the place of every norm of a
model without changing its output, and `conditioned` sets the condition; `forms` says what is a norm. Statistics are
float32 or better, and everything can be differentiated twice.
"""

from gantext.norm.models import condition_all_norms, conditioned
from gantext.norm.modules import ConditionalLayerNorm, ConditionalRMSNorm

__all__ = ["ConditionalLayerNorm", "ConditionalRMSNorm", "condition_all_norms", "conditioned"]
