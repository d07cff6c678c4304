"""Norms that take a condition: a language model is told what to write through the scale and shift of its norms.

The chapter is `conditional-layer-norm`. `ConditionalLayerNorm` and `ConditionalRMSNorm` (in `modules`) compute the
scale and shift of a norm from a condition vector. `condition_all_norms` (in `models`) puts one in the place of every
norm of a trained model without changing its output, and `conditioned` sets the condition; `forms` says what is a norm.
The operations are those of `gantext.kernels.layer_norm`.

Statistics are float32 or better and everything can be differentiated twice. An argument of the wrong kind raises
TypeError, one outside its stated range ValueError, before anything is computed.
"""

from gantext.norm.models import condition_all_norms, conditioned
from gantext.norm.modules import ConditionalLayerNorm, ConditionalRMSNorm

__all__ = ["ConditionalLayerNorm", "ConditionalRMSNorm", "condition_all_norms", "conditioned"]
