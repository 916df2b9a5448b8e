"""What the linear operator takes for itself, beside its arguments and their gradients, each way.

Both schedules walk the scores in tiles, r rows times k classes (``kernels/_tiles.py``), and were read for what they
hold at a time: the numbers below count tensors. Largest are those of ``(N, D)``, a tile of scores ``r k`` and a tile of
classes ``k D``; those of N and k numbers are counted at the most that there are. Classifiers so small that their scores
are kept whole, which one process may have, are not told apart: what they take is within what the operator promises,
64 MiB + 32 N (D + 8).

A moment is what is held at one time; a pass takes the most of its moments.

Legend: as in ``training.py``; r rows and k classes of a tile.
"""

from typing import NamedTuple

from lit_l2softmax.kernels._tiles import Tile, tile_width, torch_tile, triton_tile

from .training import Training

LABEL = 8  # bytes of an int64


class Working(NamedTuple):
    """Bytes at the moment of a pass when they are most.

    Attributes:
        rows: in ``(N, D)`` tensors and in those of N numbers.
        tiles: in tiles of scores and of classes.
    """

    rows: int
    tiles: int


def tile_of(training: Training) -> Tile:
    """The tile that the operator takes."""
    rule = triton_tile if training.uses_kernels else torch_tile
    return rule(training.group_rows, training.features, training.own_classes)


def kept(training: Training) -> int:
    """What the forward pass leaves to the backward pass, ``8 N + 3 N e``, and ``K e`` of normalised weights.

    A label counted from the shard's first class; a row's norm, log-sum-exp and cosine; a class's norm.
    """
    e = training.computed
    norms = training.own_classes * e if training.normalize_weight else 0
    return training.group_rows * (LABEL + 3 * e) + norms


def forward(training: Training) -> Working:
    """The most that the forward pass takes, what it leaves included.

    PyTorch's schedule, in ``(N, D)`` tensors: the features on the sphere, and those times log2(e) for the products; at
    the end each row's own class and its product with the features. The kernels have none. Last, where classes are
    shared, what shards know of each row: 4 N numbers of this process, and twice those of all of a group.
    """
    N, e = training.group_rows, training.computed
    scores, classes, temporary = _tile(training)
    each = tile_of(training).classes * e  # lengths of a tile's classes, or their bias
    rows = N * training.features * e
    between = N * (4 * e + LABEL + 4)  # scale, sum and maximum, target, and masks
    if training.uses_kernels:
        moments = [Working(between, scores)]
    else:
        moments = [
            Working(2 * rows + between, scores + classes + temporary + each),
            Working(4 * rows + between, scores + classes),
        ]
    if training.classes_over > 1:
        moments.append(Working(4 * N * e * (1 + 2 * training.classes_over), 0))
    most = max(moments, key=sum)
    bias = 0 if training.uses_kernels else _wide_bias(training)
    return Working(most.rows + kept(training), most.tiles + bias)


def backward(training: Training) -> Working:
    """The most that the backward pass takes, beside the gradients of class weights and bias.

    PyTorch's schedule, in ``(N, D)`` tensors: the two of the forward pass, those two times what a row's loss counts
    for, and the sum over classes, which becomes the features' gradient; at the end each row's own class, once more in
    its own dtype if that is shorter. The kernels: the sum over classes, of which a tile's part is made apart; at the
    end the features' gradient; for float16 the features once more, which has not the range for what multiplies them.
    """
    N, D, e = training.group_rows, training.features, training.computed
    scores, classes, _ = _tile(training)
    rows, shorter = N * D * e, _is_short(training)
    between = N * (6 * e + 2 * LABEL + 3)  # scale, upstream, the target's slope and share, a shift; targets and masks
    tile = tile_of(training)
    tile_classes = tile.classes * D * e
    if training.uses_kernels:
        parts = -(-N // tile.rows)
        if training.dtype == "bfloat16":
            scores += tile.rows * tile_width(tile.classes) * training.number  # their gradient, rounded
        widened = training.dtype == "float16"
        if not training.normalize_weight:
            scores += -(-tile.rows // 8) * tile.classes * e  # sums for the bias, of eight rows each
        own = tile_classes * (shorter + widened)  # a class range's gradient before it is rounded, its classes widened
        more = parts > 1  # ranges of rows, of which all but the first make a product to add
        moments = [
            Working(rows + tile.rows * D * e, scores + tile_classes * (widened + shorter * more)),
            Working(rows, scores + own + tile_classes * more),
            Working(2 * rows, scores + own),
        ]
        most = max(moments, key=sum)
        held = rows * widened + between + kept(training)
        return Working(most.rows + held, most.tiles + _wider_gradient(training))
    copies = classes + tile_classes * shorter
    moments = [
        Working(5 * rows, scores + copies + tile_classes * training.normalize_weight + tile.classes * e),
        Working(6 * rows + N * D * training.number * shorter, scores + copies),
    ]
    most = max(moments, key=sum)
    return Working(most.rows + between + kept(training), most.tiles + _wide_bias(training) + _wider_gradient(training))


def _wide_bias(training: Training) -> int:
    """Bytes of this process's bias as it is computed with, where its own dtype is shorter."""
    return 0 if training.normalize_weight else training.own_classes * training.computed * _is_short(training)


def _wider_gradient(training: Training) -> int:
    """Bytes by which the bias's gradient is larger while it is added up."""
    return 0 if training.normalize_weight else training.own_classes * (training.computed - training.number)


def _is_short(training: Training) -> bool:
    return training.number < training.computed


def _tile(training: Training) -> tuple[int, int, int]:
    """Bytes of a tile's scores, of its classes where they are copied, and of what making the copy takes.

    Classes are copied to be normalised or, in PyTorch's schedule, to be computed with in more bytes than they have;
    both in one need another copy. The kernels read raw classes.
    """
    tile, e = tile_of(training), training.computed
    if training.uses_kernels:
        return tile.rows * tile_width(tile.classes) * e, 0, 0
    classes, shorter = tile.classes * training.features * e, _is_short(training)
    copied = training.normalize_weight or shorter
    return tile.rows * tile.classes * e, classes * copied, classes * (training.normalize_weight and shorter)
