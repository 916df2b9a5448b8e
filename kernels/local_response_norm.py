r"""Local response normalisation over channels.

    s_c = k + alpha / size * sum_{j in W(c)} x_j^2        y_c = x_c s_c^-beta

    W(c) = [c - size // 2, c + (size - 1) // 2]           window="torch", also Caffe's
    W(c) = [c - (size - 1) // 2, c + size // 2]           window="onnx", also cuDNN's

cut off at the first and the last channel. The two windows differ for even sizes only. With the mirrored window
``W'(m) = {c : m in W(c)}``,

    dx_m = g_m s_m^-beta - 2 alpha beta / size x_m sum_{c in W'(m)} g_c x_c s_c^(-beta-1)

The window is summed directly. A running sum or a cumulative one loses three digits to a single outlier and spreads an
inf over every later channel; here an inf or NaN stays inside the windows that hold it.

Source: Krizhevsky et al. 2012, "ImageNet Classification with Deep Convolutional Neural Networks", section 3.3, with
``alpha / size`` for its alpha, as in ``torch.nn.functional.local_response_norm``, Caffe, cuDNN and ONNX. TensorFlow's
``tf.nn.lrn(depth_radius=r, bias=k, alpha=a, beta=b)`` is ``size=2 * r + 1, k=k, alpha=a * size, beta=b``.
"""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from ._runtime import Impl, accumulate_dtype, check_floating, check_impl

Window = Literal["torch", "onnx"]


def local_response_norm_reference(
    input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0, *, window: Window = "torch"
) -> Tensor:
    """The equations of the module docstring, a PyTorch call each; the oracle of the tests."""
    behind, ahead = size // 2, (size - 1) // 2
    if window == "onnx":
        behind, ahead = ahead, behind
    x = input.to(accumulate_dtype(input))
    squares = F.pad(x.square().movedim(1, -1), (behind, ahead))
    window_sums = squares.unfold(-1, size, 1).sum(-1).movedim(-1, 1)
    return (x * (k + alpha / size * window_sums).pow(-beta)).to(input.dtype)


def local_response_norm(
    input: Tensor,
    size: int,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 1.0,
    *,
    window: Window = "torch",
    impl: Impl = "auto",
) -> Tensor:
    """Divides each activation by a power of the energy of its neighbours in channel order.

    ``alpha`` is divided by ``size``, as in PyTorch; TensorFlow's and the AlexNet paper's is not.

    Args:
        input: activations, ``(N, C, *)`` with one to three spatial dimensions, float16 | bfloat16 | float32 | float64,
            any strides.
        size: channels in a window, >= 1; may be even, and larger than C.
        alpha: weight of the window's mean square.
        beta: exponent.
        k: added to the weighted mean square, so that it is not a division by zero.
        window: where an even window lies: ``"torch"`` has the odd channel before the centre, ``"onnx"`` after it.
        impl: ``"auto"`` (the fastest there is for the device) | ``"triton"`` | ``"torch"`` | ``"reference"``; so far
            there is the reference.

    Returns:
        A tensor of ``input``'s shape and dtype; half types are computed in float32 and rounded once.

    Raises:
        ValueError: on a shape, size or window other than the above, or an ``impl`` that cannot run on this device.
        NotImplementedError: on an ``impl`` that does not exist yet.
        TypeError: on an input that is not floating-point.
    """
    if not 3 <= input.ndim <= 5:
        raise ValueError(f"input must have shape (N, C, *) with 1 to 3 spatial dimensions, got {tuple(input.shape)}")
    check_floating("input", input)
    if size < 1:
        raise ValueError(f"size must be at least 1 channel, got {size}")
    if window not in ("torch", "onnx"):
        raise ValueError(f"window must be 'torch' or 'onnx', got {window!r}")
    check_impl(impl, input, operator="local_response_norm")
    # This operator has its reference alone so far, and an explicit request never falls back.
    if impl in ("triton", "torch"):
        raise NotImplementedError(f"local_response_norm: impl={impl!r} does not exist yet; use 'auto' or 'reference'")
    return local_response_norm_reference(input, size, alpha, beta, k, window=window)
