"""scikit-learn's bundled handwritten digits, shaped like MNIST: what trains where MNIST cannot be had.

1,797 images of 8x8 pixels by 13 writers, from the UCI "Optical Recognition of Handwritten Digits" data. The split is
drawn over images, class by class, so the writers of the test images have been seen in training; over writers, test
accuracy is some four points lower.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

VALIDATION, TEST = 200, 400  # of 1,797; 1,197 train
Split = tuple[Tensor, Tensor]


def load_digits() -> tuple[Split, Split, Split]:
    """Training, validation and test images ``(N, 1, 28, 28)``, uint8, each with its labels ``(N,)``, int64."""
    # A second of import that only this stand-in has to pay.
    from sklearn.datasets import load_digits as load_8x8
    from sklearn.model_selection import train_test_split

    bundle = load_8x8()
    ink = torch.from_numpy(bundle.images).float()[:, None] * (255 / 16)  # 0 to 16 in the file
    images = F.interpolate(ink, size=(28, 28), mode="bilinear", align_corners=False).round().to(torch.uint8)
    labels = torch.from_numpy(bundle.target).long()

    rest, test = train_test_split(range(len(labels)), test_size=TEST, stratify=labels, random_state=0)
    train, validation = train_test_split(rest, test_size=VALIDATION, stratify=labels[rest], random_state=0)
    return (images[train], labels[train]), (images[validation], labels[validation]), (images[test], labels[test])
