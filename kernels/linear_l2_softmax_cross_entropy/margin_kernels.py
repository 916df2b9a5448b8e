"""The margins on the device; the equations are those of ``margin``. The host computes the constants, in float64."""

import math
from typing import NamedTuple

import triton
import triton.language as tl

# The rounding of 1 in float32, torch.finfo(torch.float32).eps, by which 1 - c^2 is bounded from below.
_LEAST = tl.constexpr(2.0**-23)


class MarginConstants(NamedTuple):
    """``cos m``, ``sin m``, ``m sin m`` and ``k`` of an angular margin m and a cosine margin k."""

    cos_m: float
    sin_m: float
    m_sin_m: float
    cosine_margin: float

    @classmethod
    def of(cls, angular_margin: float, cosine_margin: float) -> "MarginConstants":
        """The constants of two margins."""
        sine = math.sin(angular_margin)
        return cls(math.cos(angular_margin), sine, angular_margin * sine, cosine_margin)


@triton.jit
def with_margin(cosine, cos_m, sin_m, m_sin_m, cosine_margin):
    """``psi`` of the target's cosine, and its derivative."""
    room = (1.0 - cosine) * (1.0 + cosine)
    sine = tl.sqrt(tl.maximum(room, _LEAST))
    turned = cosine > -cos_m
    psi = tl.where(turned, cosine * cos_m - sine * sin_m, cosine - m_sin_m)
    slope = tl.where(turned, cos_m + tl.where(room > _LEAST, cosine / sine, 0.0) * sin_m, 1.0)
    return psi - cosine_margin, slope
