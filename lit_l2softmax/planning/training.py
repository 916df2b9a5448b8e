"""The training that is asked about, and what of it falls to one process.

Processes are G groups of c: those of a group share the classes, and the groups share the rows. Rank r is the
(r mod c)-th of group r // c.

Legend: n rows of this process, N rows of its group, D features, K classes of this process, C classes of all processes,
W = G c processes, P parameters of the network, b bytes of a number as it is kept, e bytes of one that is computed in.
"""

from dataclasses import dataclass

from lit_l2softmax.errors import ConfigError
from lit_l2softmax.messages import nearest_or_all

DTYPES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
DEVICES = ("cpu", "cuda")


@dataclass(frozen=True)
class Optimizer:
    """What an optimiser of ``torch.optim`` needs for each number that it changes.

    Attributes:
        states: numbers that it keeps.
        operations: that a step takes, as ``torch.optim`` writes it, without weight decay, which is two more.
        copies: temporary numbers in a loop over the parameters, torch's way on a CPU.
        copies_of_all: the same where all parameters are taken together, torch's way on CUDA.
    """

    states: int
    operations: int
    copies: int
    copies_of_all: int


# torch 2.11 to 2.13, torch/optim/sgd.py and adam.py. SGD: w += -lr g. Momentum: m *= mu, m += g, w += -lr m. Adam:
# m.lerp_ (3), v.mul_ (1), v.addcmul_ (3), the root of v (1) over a number (1) plus epsilon (1), w.addcdiv_ (3); the
# root and its quotient are new tensors, the second written over the first where all parameters are taken together.
OPTIMIZERS = {
    "sgd": Optimizer(states=0, operations=2, copies=0, copies_of_all=0),
    "momentum": Optimizer(states=1, operations=4, copies=0, copies_of_all=0),
    "adam": Optimizer(states=2, operations=13, copies=2, copies_of_all=1),
}


def shares(total: int, parts: int) -> list[int]:
    """How many of ``total`` each of ``parts`` gets, the first ones one more: ``tensor_split`` and ``class_shard``."""
    each, more = divmod(total, parts)
    return [each + (part < more) for part in range(parts)]


@dataclass(frozen=True)
class Training:
    """A network and a classifier that are trained by several processes.

    Args:
        rows: of a step, over all processes.
        features: D.
        classes: C.
        processes: W.
        classes_over: c, how many processes share the classes; 1: each has them all, under DistributedDataParallel.
        dtype: of weights, features and gradients.
        optimizer: ``sgd`` | ``momentum`` (SGD with it) | ``adam``.
        weight_decay: whether the optimiser has one.
        fused: whether the optimiser is torch's fused one.
        network: P.
        activations: numbers a row that the network keeps for its backward pass, its input included.
        normalize_weight: whether class weights are normalised, and then without a bias.
        learn_alpha: whether alpha is a parameter.
        device: ``cuda`` (kernels) | ``cpu`` (PyTorch calls); float64 is PyTorch calls on both.
        at_rest: bytes that the process holds beside tensors.
        rank: of the process that is asked about. Rank 0 has the most of everything.

    Raises:
        ConfigError: on a value that cannot be.
    """

    rows: int
    features: int
    classes: int
    processes: int = 1
    classes_over: int = 1
    dtype: str = "float32"
    optimizer: str = "sgd"
    weight_decay: bool = False
    fused: bool = False
    network: int = 0
    activations: int = 0
    normalize_weight: bool = False
    learn_alpha: bool = False
    device: str = "cuda"
    at_rest: int = 0
    rank: int = 0

    def __post_init__(self) -> None:
        for name in ("rows", "features", "classes", "processes", "classes_over"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name):,}")
        for name in ("network", "activations", "at_rest"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must be at least 0, got {getattr(self, name):,}")
        for name, known in (("dtype", DTYPES), ("optimizer", OPTIMIZERS), ("device", DEVICES)):
            if getattr(self, name) not in known:
                value = getattr(self, name)
                raise ConfigError(f"{name}: {value!r} is not known{nearest_or_all(value, known)}")
        if self.processes % self.classes_over:
            possible = [str(c) for c in range(1, self.processes + 1) if self.processes % c == 0]
            raise ConfigError(
                f"classes_over must divide the {self.processes:,} processes, got {self.classes_over:,}; "
                f"there are {', '.join(possible)}"
            )
        if not 0 <= self.rank < self.processes:
            raise ConfigError(f"rank must be one of 0 to {self.processes - 1:,}, got {self.rank:,}")

    @property
    def groups(self) -> int:
        """G."""
        return self.processes // self.classes_over

    @property
    def own_rows(self) -> int:
        """``n``."""
        return shares(self.rows, self.processes)[self.rank]

    @property
    def most_rows(self) -> int:
        """The most that any process of this one's group has."""
        return shares(self.rows, self.processes)[self.rank - self.rank % self.classes_over]

    @property
    def group_rows(self) -> int:
        """``N``, of all processes that share the classes with this one."""
        first = self.rank - self.rank % self.classes_over
        return sum(shares(self.rows, self.processes)[first : first + self.classes_over])

    @property
    def own_classes(self) -> int:
        """``K``."""
        return shares(self.classes, self.classes_over)[self.rank % self.classes_over]

    @property
    def number(self) -> int:
        """``b``."""
        return DTYPES[self.dtype]

    @property
    def computed(self) -> int:
        """``e``: float32 or, for float64, that."""
        return max(4, self.number)

    @property
    def classifier(self) -> int:
        """``K D + K`` numbers of this process's classifier; ``K D`` of normalised weights, which have no bias."""
        return self.own_classes * (self.features + (not self.normalize_weight))

    @property
    def whole_classifier(self) -> int:
        """``C D + C`` numbers of all classes; ``C D`` of normalised weights."""
        return self.classes * (self.features + (not self.normalize_weight))

    @property
    def replicated(self) -> int:
        """``P``, and a learned alpha: what every process has, whatever its classes."""
        return self.network + self.learn_alpha

    @property
    def uses_kernels(self) -> bool:
        """Whether ``impl="auto"`` takes the kernels."""
        return self.device == "cuda" and self.dtype != "float64"
