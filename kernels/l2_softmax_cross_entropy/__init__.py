r"""Cross-entropy of L2-normalised, scaled logits: one row of C numbers in, one loss out.

    r_i = 1 / max(||z_i||, eps)    l_i = alpha r_i z_i    loss_i = logsumexp(l_i) - l_i[y_i]

With ``G_i = g_i (softmax(l_i) - onehot(y_i))`` and ``u_i = r_i z_i``,

    dz_i = alpha r_i (G_i - u_i (u_i . G_i))              dalpha = sum_i u_i . G_i

Why one kernel may do it: a row is its own norm, its own softmax and its own gradient, so it is read once forward, read
once and written once backward, and nothing of its size is kept in between but the row itself. Kept are three numbers:
the norm, the log-sum-exp of all logits but the target's, and ``u_i . G_i / g_i``.

Source: Wei et al. 2022, "Mitigating Neural Network Overconfidence with Logit Normalization", arXiv:2205.09310,
eq. 5, where alpha is 1 / tau. Class weights, ignored rows, label smoothing and reductions mean what they mean in
``torch.nn.functional.cross_entropy``.

Legend: N rows, C classes.
"""

from .operator import l2_softmax_cross_entropy
from .reference import l2_softmax_cross_entropy_reference

__all__ = ["l2_softmax_cross_entropy", "l2_softmax_cross_entropy_reference"]
