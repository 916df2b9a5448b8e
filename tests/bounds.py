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
