"""The margins: what they make of the cosine between a row and its own class, and how fast.

psi(c) = c cos m - sqrt(1 - c^2) sin m - k       while arccos c + m <= pi, that is while c > -cos m
psi(c) = c - m sin m - k                         beyond
"""

import math

import torch
from torch import Tensor


def with_margin(cosine: Tensor, angular_margin: float, cosine_margin: float) -> Tensor:
    """``psi`` of the target's cosines."""
    if angular_margin:
        sine = ((1 - cosine) * (1 + cosine)).clamp_min(torch.finfo(cosine.dtype).eps).sqrt()
        turned = cosine * math.cos(angular_margin) - sine * math.sin(angular_margin)
        beyond = cosine - angular_margin * math.sin(angular_margin)
        cosine = torch.where(cosine > -math.cos(angular_margin), turned, beyond)
    return cosine - cosine_margin


def margin_slope(cosine: Tensor, angular_margin: float) -> Tensor:
    """The derivative of ``with_margin``, where the sine is bounded from below as there."""
    room = (1 - cosine) * (1 + cosine)
    least = torch.finfo(cosine.dtype).eps
    cotangent = torch.where(room > least, cosine / room.clamp_min(least).sqrt(), 0.0)
    turned = math.cos(angular_margin) + cotangent * math.sin(angular_margin)
    return torch.where(cosine > -math.cos(angular_margin), turned, 1.0)
