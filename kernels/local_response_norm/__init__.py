r"""Local response normalisation over channels.

    s_c = k + alpha / size * sum_{j in W(c)} x_j^2        y_c = x_c s_c^-beta

    W(c) = [c - size // 2, c + (size - 1) // 2]           window="torch", also Caffe's
    W(c) = [c - (size - 1) // 2, c + size // 2]           window="onnx", also cuDNN's

cut off at the first and the last channel. The two windows differ for even sizes only. With the mirrored window
``W'(m) = {c : m in W(c)}``,

    t_c  = g_c x_c s_c^(-beta-1)
    dx_m = g_m s_m^-beta - 2 alpha beta / size x_m sum_{c in W'(m)} t_c

Why one kernel each way may do it, for windows that a thread can hold: s is summed again instead of fetched, so nothing
is kept but x, and a position depends on its own channels alone. Forward reads x and writes y; backward reads x and g
and writes dx.

The window is summed directly, in every implementation. A running sum or a cumulative one loses three digits to a single
outlier and spreads an inf over every later channel, a product with a band matrix over all of them; here an inf or NaN
stays inside the windows that hold it. Nor is there a power for beta = 0.75, 0.5 and 1: with r = s^-1/2 they are
r sqrt(r), r and 1 / s.

Source: Krizhevsky et al. 2012, "ImageNet Classification with Deep Convolutional Neural Networks", section 3.3, with
``alpha / size`` for its alpha, as in ``torch.nn.functional.local_response_norm``, Caffe, cuDNN and ONNX. TensorFlow's
``tf.nn.lrn(depth_radius=r, bias=k, alpha=a, beta=b)`` is ``size=2 * r + 1, k=k, alpha=a * size, beta=b``.

Legend: N samples, C channels, x, y, dx, g (the gradient of y) of shape ``(N, C, *)``.
"""

from .operator import local_response_norm
from .problem import Window, checked_size
from .reference import local_response_norm_reference

__all__ = ["Window", "checked_size", "local_response_norm", "local_response_norm_reference"]
