"""CIFAR-10 in small."""

import numpy as np

IMAGES = 40  # in each of its files


def write(root):
    """CIFAR-10's folder below ``root``, of 40 images a file whose colour tells their class."""
    from lit_l2softmax.data import cifar10_files

    folder = root / cifar10_files.FOLDER
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for name in cifar10_files.FILES:
        labels = np.arange(IMAGES, dtype=np.uint8) % 10
        images = random.integers(0, 100, (IMAGES, 3, 1024), dtype=np.uint8)
        images[np.arange(IMAGES), labels % 3] += 50 + 10 * labels[:, None]
        np.concatenate([labels[:, None], images.reshape(IMAGES, -1)], 1).tofile(folder / name)
    return root
