r"""The L2-constrained softmax loss with its classifier, its normalised-weight relatives and their margins.

    u_i = x_i / max(||x_i||, eps)        v_j = w_j, or w_j / max(||w_j||, eps) with normalised weights
    c_ij = u_i . v_j                     l_ij = alpha c_ij + b_j, but alpha psi(c_iy) for the target's class
    loss_i = logsumexp(l_i) - l_i[y_i]

``psi`` is the identity without margins. With an angular margin m and a cosine margin k, both on normalised weights,

    psi(c) = cos(arccos c + m) - k = c cos m - sqrt(1 - c^2) sin m - k    while arccos c + m <= pi
    psi(c) = c - m sin m - k                                             beyond, where the cosine would turn back

No arccos is taken: its derivative is infinite at c = +-1, where a fitted sample lives. ``1 - c^2`` is bounded from
below by the rounding of 1, so the gradient there is finite, and it is the derivative of what was computed
(insightface's is a straight-through estimate, up to 19 % off).

With ``G_i = g_i (softmax(l_i) - onehot(y_i))``, ``h_i = sum_j G_ij psi'_ij v_j`` and ``psi' = 1`` off the target,

    dx_i = alpha r_i (h_i - u_i (u_i . h_i))              with r_i = 1 / max(||x_i||, eps)
    dv_j = alpha sum_i G_ij psi'_ij u_i
    dw_j = dv_j, or q_j (dv_j - v_j (v_j . dv_j))         with q_j = 1 / max(||w_j||, eps), normalised weights
    db_j = sum_i G_ij                                     dalpha = sum_ij G_ij psi(c_ij)

Sources: Ranjan et al. 2017, arXiv:1703.09507, eq. 3 (features on a sphere of radius alpha); Wang et al. 2017, NormFace,
arXiv:1704.06369 (weights too); Wang et al. 2018, CosFace, arXiv:1801.09414, eq. 4 (cosine margin); Deng et al. 2019,
ArcFace, arXiv:1801.07698, eq. 3 (angular margin; the continuation beyond pi is its authors' code's). Class weights,
ignored rows, label smoothing and reductions mean what they mean in ``torch.nn.functional.cross_entropy``; names and
their order follow ``torch.nn.functional.linear_cross_entropy``.

Legend: N rows, D features, C classes.
"""

from .class_parallel import ClassShard, class_parallel_linear_l2_softmax_cross_entropy, class_shard
from .operator import linear_l2_softmax_cross_entropy
from .reference import linear_l2_softmax_cross_entropy_reference

__all__ = [
    "ClassShard",
    "class_parallel_linear_l2_softmax_cross_entropy",
    "class_shard",
    "linear_l2_softmax_cross_entropy",
    "linear_l2_softmax_cross_entropy_reference",
]
