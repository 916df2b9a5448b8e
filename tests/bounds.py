"""Bounds on rounding errors, derived from the number of operations; no tolerance in the tests is a guess.

Notation of Higham, "Accuracy and Stability of Numerical Algorithms", chapter 3: an inner product of n terms computed
with unit roundoff u, in any order, is off by at most gamma_n |x| . |y| with gamma_n = n u / (1 - n u).
"""

import math

import torch


def unit_roundoff(dtype):
    """Half the distance from 1 to the next number."""
    return torch.finfo(dtype).eps / 2


def gamma(n, dtype):
    nu = n * unit_roundoff(dtype)
    assert nu < 1
    return nu / (1 - nu)


def softmax_cross_entropy_bound(num_classes, logit_error, largest_logit, dtype):
    """How far ``logsumexp(l) - l_y`` may be off when each logit is off by ``logit_error``.

    Log-sum-exp and the picked logit each pass an error on at most once. The sum of C exponentials has a relative error
    of gamma_(C + 4) (C - 1 additions, a subtraction of the maximum that the exponential turns into a relative error of
    |l - max| u, and 2 u for the exponential), the logarithm turns it into an absolute one, and rounding the two terms
    and their difference adds three roundings of numbers below the largest logit + log C.
    """
    u = unit_roundoff(dtype)
    magnitude = largest_logit + math.log(num_classes)
    return 2 * logit_error + gamma(num_classes + 4, dtype) + 2 * largest_logit * u + 3 * u * magnitude


def linear_l2_loss_bound(features, weight, alpha, bias_size, dtype):
    """Bound for one row's L2-constrained loss, whichever way its products and sums are ordered.

    The norm of D squares is off by gamma_(D/2 + 2) relatively, the division and the scaling by alpha add two roundings,
    the inner product of D terms gamma_D of |alpha u| . |w| <= alpha ||w||, the bias one more.
    """
    d = features.shape[1]
    largest = alpha * float(weight.detach().double().norm(dim=1).max()) + bias_size
    logit_error = (gamma(d // 2 + 2, dtype) + gamma(d, dtype) + gamma(4, dtype)) * largest
    return softmax_cross_entropy_bound(weight.shape[0], logit_error, largest, dtype)


def l2_softmax_bounds(exact, dtype, *, stored=None, tile=None):
    """Bounds of every result of the operators, elementwise, whichever way products and sums are ordered.

    Args:
        exact: the float64 quantities that ``softmax_cases.exact_parts`` names; |.| of them is taken here.
        dtype: in which the operator computes.
        stored: in which it returns each gradient, by name: one more rounding.
        tile: in which a tile of the logits' gradient is kept between two products: one more, of each entry.

    Returns:
        Bounds for ``loss`` ``(N,)``, ``input`` ``(N, D)``, ``linear_weight`` ``(C, D)``, ``linear_bias`` ``(C,)`` and
        ``alpha``.

    An error travels on at most as the absolute values do. A cosine of D terms, each of two normalised factors whose
    norms sum D squares, is off by gamma_(2D + 12) |u| . |v|. The logit multiplies that by alpha (and by psi' at the
    target) and adds four roundings. A probability is off relatively by twice the largest logit error of its row, by the
    sum of C exponentials and by the rounding of their arguments; 1 - p_y alike. What remains are sums, of C terms for a
    row and N for a class, and projections, each of which passes its operands' errors on and adds its own.
    """
    N, D = exact["u"].shape
    C = exact["v"].shape[0]
    u, v, alpha = exact["u"].abs(), exact["v"].abs(), abs(float(exact["alpha"]))
    unit, tiny = unit_roundoff(dtype), torch.finfo(dtype).tiny  # below tiny, numbers lose digits or are zero
    cosine = gamma(2 * D + 12, dtype) * (u @ v.T)
    logit = alpha * torch.where(exact["target"], exact["slope"].abs()[:, None] * cosine + gamma(8, dtype), cosine)
    logit = logit + gamma(4, dtype) * (exact["logits"].abs() + exact["bias"].abs())
    size = exact["logits"].abs().amax(1) + math.log(C)
    relative = 2 * logit.amax(1) + gamma(C + 16, dtype) + 8 * unit * size

    weighted = exact["weights"] * alpha * (u @ v.T)
    smoothing = exact["smoothing"] * (weighted.mean(1) * gamma(C + D + 8, dtype) + exact["weights"].mean() * relative)
    loss = exact["scale"] * (relative + 4 * unit * size) + 2 * smoothing + 4 * unit * exact["loss"].abs() + tiny
    # The reference itself, in float64, subtracts p_y from 1 and a logit from a log-sum-exp; the schedules do neither.
    oracle = 8 * unit_roundoff(torch.float64)
    loss = loss + oracle * exact["scale"] * size

    # Majorants of the logits' gradient, and of the same behind the margin.
    entry = exact["majorant"]
    bent = torch.where(exact["target"], exact["slope"].abs()[:, None] * entry, entry)
    turn = torch.where(exact["target"], entry * (exact["bend"].abs()[:, None] * cosine + gamma(8, dtype)), 0.0)
    error = relative[:, None] * bent + turn + tiny + oracle * exact["whole"][:, None]
    if tile is not None:
        error = error + unit_roundoff(tile) * bent

    def projected(error, size, direction):
        """``x - d (d . x)`` of something off by ``error`` and as large as ``size``."""
        error = error + gamma(D + 12, dtype) * size
        along = (error + size * gamma(2 * D + 12, dtype)).mul(direction).sum(1, keepdim=True)
        return error + direction * along + gamma(D + 12, dtype) * direction * (size * direction).sum(1, keepdim=True)

    h_error, h = error @ v + gamma(C + D + 12, dtype) * (bent @ v), bent @ v
    dv_error, dv = alpha * (error.T @ u + gamma(N + D + 12, dtype) * (bent.T @ u)), alpha * (bent.T @ u)
    dx = exact["x_factor"][:, None] * projected(h_error, h, u)
    dw = exact["w_factor"][:, None] * (projected(dv_error, dv, v) if exact["normalized"] else dv_error)
    dalpha = ((h_error * u).sum() + gamma(2 * D + N + C, dtype) * (h * u).sum()) + (
        torch.where(exact["target"], entry * (cosine + gamma(8, dtype)) * (1 + exact["slope"].abs()[:, None]), 0.0)
        + torch.where(exact["target"], 2 * (turn + relative[:, None] * entry), 0.0)
    ).sum()
    bounds = {
        "loss": loss,
        "input": dx,
        "linear_weight": dw,
        "linear_bias": error.sum(0) + gamma(N + 4, dtype) * entry.sum(0),
        "alpha": dalpha,
    }
    for name, kept in (stored or {}).items():
        bounds[name] = bounds[name] + unit_roundoff(kept) * exact["gradients"][name].abs()
    return bounds


def local_response_norm_bounds(exact, dtype, stored):
    """Bounds of the result and of its gradient, elementwise, whichever way a window is summed.

    Args:
        exact: the float64 quantities that ``lrn_cases.exact_parts`` names.
        dtype: in which the operator computes.
        stored: in which it returns what it has computed: one more rounding.

    Returns:
        Bounds for ``output`` and ``gradient``, like the input.

    Relative errors, in units of u. Of s: a square, n - 1 additions, alpha / size and k in this precision, a product, an
    addition. Of s^-beta: beta times that, and in closed form three operations, a reciprocal root and a root among them,
    which are off by up to 2.2 on a card; through logarithms, errors of 3 of -beta log2(s), which is rounded twice, and
    2 of a power of two. Of 1 / s: once that of s, and twice that of the root. All that is multiplied adds 1 each.
    """
    n, u = exact["size"], unit_roundoff(dtype)
    s_error = (n + 4) * u
    power_error = exact["beta"] * s_error + (8 + 5 * math.log(2) * exact["beta"] * exact["s"].log2().abs()) * u
    inverse_error = s_error + 6 * u
    t_error = exact["t"].abs() * (power_error + inverse_error + (3 + n) * u)
    sums_error, sums = exact["mirrored_sums"](t_error), exact["mirrored_sums"](exact["t"].abs())
    turned = exact["twice"] * exact["x"].abs()
    direct = exact["direct"].abs() * (power_error + 2 * u)
    tiny = torch.finfo(stored).smallest_normal * unit_roundoff(stored)  # half the distance of the smallest numbers
    half = unit_roundoff(stored)
    # Second-order terms are below a thousandth of the first for every size tested: two per cent are granted.
    return {
        "output": 1.02 * (exact["output"].abs() * (power_error + u)) + half * exact["output"].abs() + tiny,
        "gradient": 1.02 * (direct + turned * (sums_error + 5 * u * sums)) + half * exact["gradient"].abs() + tiny,
    }
