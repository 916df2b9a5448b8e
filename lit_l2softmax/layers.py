"""The ``nn.Module`` shells of the operators: a normalisation, and heads that turn features into a loss and into logits.

A head is called as ``head(features, target)`` for the mean loss; ``constrain(features)`` gives the features its
classifier sees, ``logits(features)`` the scores. ``LitClassification`` asks for nothing else.

Legend: N rows, D features, C classes.
"""

import math
import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .alpha import alpha_lower_bound
from .initializers import truncated_normal_
from .kernels.local_response_norm import checked_size
from .ops import Window, linear_l2_softmax_cross_entropy, local_response_norm


def _accumulated(x: Tensor) -> Tensor:
    """``x`` in float32, or float64 where it is that already: what a norm or a softmax is computed in."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class LocalResponseNorm(nn.Module):
    """Divides each activation by a power of the energy of its neighbours in channel order.

    Takes the arguments of ``torch.nn.LocalResponseNorm`` and gives its results. TensorFlow's numbers mean something
    else: :meth:`tensorflow` takes them as they are.

    Args:
        size: channels in a window.
        alpha: weight of the window's mean square.
        beta: exponent.
        k: added to the weighted mean square.
        window: where an even window lies, as torch has it or as ONNX and cuDNN do.

    Raises:
        ValueError: on a number that ``local_response_norm`` refuses.
        TypeError: on a size that is no integer or a number that is none.

    Source: Krizhevsky et al. 2012, "ImageNet Classification with Deep Convolutional Neural Networks", section 3.3.
    """

    def __init__(
        self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0, *, window: Window = "torch"
    ) -> None:
        super().__init__()
        self.size = checked_size(size, alpha, beta, k, window)
        self.alpha, self.beta, self.k = alpha, beta, k
        self.window: Window = window

    @classmethod
    def tensorflow(
        cls, depth_radius: int = 5, bias: float = 1.0, alpha: float = 1.0, beta: float = 0.5
    ) -> "LocalResponseNorm":
        """The layer that ``tf.nn.local_response_normalization`` is with these arguments and defaults.

        Args:
            depth_radius: channels on either side of a window's own.
            bias: k.
            alpha: weight of the window's sum of squares, not of their mean.
            beta: exponent.
        """
        size = 2 * depth_radius + 1
        return cls(size, alpha * size, beta, bias)

    def forward(self, input: Tensor) -> Tensor:
        """``input`` ``(N, C, *)`` normalised, in its shape, dtype and memory format."""
        return local_response_norm(input, self.size, self.alpha, self.beta, self.k, window=self.window)

    def extra_repr(self) -> str:
        """What ``print`` shows between the parentheses."""
        window = "" if self.window == "torch" else f", window={self.window!r}"
        return f"{self.size}, alpha={self.alpha:g}, beta={self.beta:g}, k={self.k:g}{window}"


class L2SoftmaxLoss(nn.Module):
    """A classifier trained with the L2-constrained softmax loss; it owns the class weights.

    Args:
        in_features: D.
        num_classes: C.
        alpha: radius of the sphere the features are put on; 0 switches the constraint off (plain softmax). With
            ``learn_alpha``, where it starts.
        learn_alpha: whether alpha is a parameter, without bounds, as in the paper, which finds a good fixed one
            slightly better.
        normalize_weight: whether the class weights are normalised too (NormFace); such a head has no bias.
        angular_margin: radians, ArcFace's m; needs ``normalize_weight``.
        cosine_margin: CosFace's m; needs ``normalize_weight``.
        weight_std: the class weights start from a normal distribution of this deviation, cut at two of them; from
            Glorot's uniform one when None.

    Attributes:
        weight: ``(C, D)``.
        bias: ``(C,)``, zero at first; None with ``normalize_weight``.

    Raises:
        ValueError: on an alpha that is negative or not finite, or 0 together with an option that needs a sphere; on a
            weight_std that is not positive.

    Source: Ranjan et al. 2017, arXiv:1703.09507, eq. 3; the margins' sources are named in the operator's file.
    """

    alpha: Tensor | float

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        alpha: float = 16.0,
        learn_alpha: bool = False,
        normalize_weight: bool = False,
        angular_margin: float = 0.0,
        cosine_margin: float = 0.0,
        weight_std: float | None = None,
    ) -> None:
        super().__init__()
        if weight_std is not None and not 0 < weight_std < math.inf:
            raise ValueError(f"weight_std must be a finite positive number, got {weight_std}")
        if not 0 <= alpha < math.inf:
            raise ValueError(f"alpha must be 0 (plain softmax) or a finite positive number, got {alpha}")
        if alpha == 0 and (learn_alpha or normalize_weight):
            raise ValueError("alpha=0 is the plain softmax; learn_alpha and normalize_weight need a positive alpha")
        if (angular_margin or cosine_margin) and not normalize_weight:
            raise ValueError("angular_margin and cosine_margin need normalize_weight=True")
        if not learn_alpha and alpha > 0 and num_classes > 2 and alpha < (bound := alpha_lower_bound(num_classes)):
            warnings.warn(
                f"alpha={alpha:g} is below the lower bound {bound:.2f} of arXiv:1703.09507 for {num_classes} classes: "
                "with class weights of length 1, no feature reaches a probability of 0.9 for its class",
                stacklevel=2,
            )
        self.in_features, self.num_classes = in_features, num_classes
        self.normalize_weight = normalize_weight
        self.angular_margin, self.cosine_margin = angular_margin, cosine_margin
        self.weight_std = weight_std
        self.weight = nn.Parameter(torch.empty(num_classes, in_features))
        self.bias = None if normalize_weight else nn.Parameter(torch.empty(num_classes))
        self.constrained = alpha > 0
        if learn_alpha:
            self.alpha = nn.Parameter(torch.tensor(float(alpha)))
        else:
            self.alpha = float(alpha)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the weight from its distribution and sets the bias to zero; alpha stays."""
        if self.weight_std is None:
            nn.init.xavier_uniform_(self.weight)
        else:
            truncated_normal_(self.weight, self.weight_std)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def constrain(self, features: Tensor) -> Tensor:
        """The features ``(N, D)`` on the sphere of radius alpha; as they are when alpha is 0."""
        return self.alpha * F.normalize(_accumulated(features), dim=-1) if self.constrained else features

    def logits(self, features: Tensor) -> Tensor:
        """Scores ``(N, C)`` without a margin, which is a training device."""
        weight = F.normalize(self.weight, dim=-1) if self.normalize_weight else self.weight
        return F.linear(self.constrain(features).to(weight.dtype), weight, self.bias)

    def forward(self, features: Tensor, target: Tensor) -> Tensor:
        """Mean loss in nats of ``features`` ``(N, D)`` with classes ``target`` ``(N,)``, int64."""
        if not self.constrained:
            return F.cross_entropy(_accumulated(self.logits(features)), target)
        return linear_l2_softmax_cross_entropy(
            features,
            self.weight,
            target,
            linear_bias=self.bias,
            alpha=self.alpha,
            normalize_weight=self.normalize_weight,
            angular_margin=self.angular_margin,
            cosine_margin=self.cosine_margin,
        )

    def extra_repr(self) -> str:
        """What ``print`` shows between the parentheses."""
        alpha = f"{self.alpha.item():g}, learned" if isinstance(self.alpha, Tensor) else f"{self.alpha:g}"
        return f"{self.in_features}, {self.num_classes}, alpha={alpha}"


class TutorialL2SoftmaxHead(nn.Module):
    """The head of the System 1 tutorial, bug for bug; for reproducing its figures and nothing else.

    Its constraint divides by the Frobenius norm of the whole batch, so rows keep their relative lengths, and their mean
    length is alpha / sqrt(N). Dropout comes after the constraint and breaks it. Scores for evaluation skip both, and
    the loss reported by an evaluation still has dropout on. ``L2SoftmaxLoss`` is the constraint as the paper means it.

    Args:
        in_features: D.
        num_classes: C.
        alpha: the batch's Frobenius norm after scaling; 0 skips the scaling (the tutorial's plain softmax).
        dropout: share of features dropped. The tutorial's .75 was meant as the share kept.

    Raises:
        ValueError: on an alpha that is negative or not finite.

    Attributes:
        of_whole_batches: true: a batch that several processes share would be constrained in parts.

    Source: blog.manash.me, "Implementing L2-constrained Softmax Loss Function on a Convolutional Neural Network using
    TensorFlow", l2norm_softmax.py.
    """

    of_whole_batches = True

    def __init__(self, in_features: int, num_classes: int, alpha: float = 50.0, dropout: float = 0.75) -> None:
        super().__init__()
        if not 0 <= alpha < math.inf:
            raise ValueError(f"alpha must be 0 (plain softmax) or a finite positive number, got {alpha}")
        self.in_features, self.num_classes = in_features, num_classes
        self.alpha, self.dropout = float(alpha), dropout
        self.weight = nn.Parameter(torch.empty(num_classes, in_features))
        self.bias = nn.Parameter(torch.empty(num_classes))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the weight from Glorot's uniform distribution and sets the bias to zero, as ``tf.layers`` does."""
        nn.init.xavier_uniform_(self.weight)
        nn.init.zeros_(self.bias)

    def constrain(self, features: Tensor) -> Tensor:
        """The features as they are: the tutorial's evaluation skips its constraint."""
        return features

    def logits(self, features: Tensor) -> Tensor:
        """Scores ``(N, C)`` of the unconstrained features."""
        return F.linear(features, self.weight, self.bias)

    def forward(self, features: Tensor, target: Tensor) -> Tensor:
        """Mean loss in nats of the batch-wise scaled features, with dropout in training and evaluation alike."""
        if self.alpha:
            # No epsilon, as in the tutorial: a batch of zeros is not a number.
            features = self.alpha * features / torch.linalg.matrix_norm(features, ord="fro")
        features = F.dropout(features, self.dropout, training=True)
        return F.cross_entropy(_accumulated(self.logits(features)), target)

    def extra_repr(self) -> str:
        """What ``print`` shows between the parentheses."""
        return (
            f"{self.in_features}, {self.num_classes}, alpha={self.alpha:g} a batch, dropout={self.dropout:g} after it"
        )
