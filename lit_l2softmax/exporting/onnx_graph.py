"""A module as an ONNX graph, which is run before anybody gets it.

The reference is the module in float64. ONNX Runtime and PyTorch add up the same products in other orders, so their
errors against it are of one size; two to one is what is trusted of another order (Dao et al. 2022, flash-attention's
tests). They are compared as root mean squares over every output of every batch that is tried: some thousand numbers, in
which one that is plainly wrong shows. To each error comes the rounding of the result itself.
"""

import copy
import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lit_l2softmax.errors import ConfigError, RunError

from .served import Served

OPSET = 18
BATCHES = 1, 2, 7  # the middle one is traced with
MOST_BYTES = 2**31  # of a file of Protocol Buffers
EXTRA = "pip install 'lit_l2softmax[export]'"


@dataclass(frozen=True)
class Comparison:
    """How far a graph is from its module, as root mean squares over all outputs and batches that were tried.

    Attributes:
        graph: its error against float64.
        module: the module's own, in float32.
        rounding: of the results.
    """

    graph: float
    module: float
    rounding: float

    @property
    def right(self) -> bool:
        """Whether the graph computes what the module does."""
        return self.graph <= 2 * self.module + self.rounding


def graph_of(served: Served, metadata: Mapping[str, str]) -> bytes:
    """The file of a module's graph, its batch of any size, with words about it.

    Raises:
        ConfigError: where the packages that make one are not installed, or its weights are too large for a file.
        RunError: where the module is none that ONNX can say.
    """
    if (size := sum(weight.nbytes for weight in served.state_dict().values())) >= MOST_BYTES:
        raise ConfigError(
            f"weights of {size:,} bytes do not fit an ONNX file, whose limit is 2 GiB: --format=safetensors"
        )
    try:
        from .onnx_operators import TRANSLATIONS
    except ImportError as error:
        raise ConfigError(f"ONNX needs packages that are not installed: {EXTRA}, or --format=safetensors") from error

    # It warns of a package that is not there because it is not needed.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad(), torch.compiler.set_stance("force_eager"):
            warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # torch's use of itself
            program = torch.onnx.export(
                served,
                (served.example(BATCHES[1], torch.Generator().manual_seed(0)),),
                dynamo=True,
                opset_version=OPSET,
                input_names=[served.inputs.name],
                output_names=served.output_names,
                dynamic_shapes=({0: torch.export.Dim("N")},),
                custom_translation_table=TRANSLATIONS,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise RunError(
            f"the network has no ONNX graph: {' '.join(str(cause).split())}; --format=safetensors"
        ) from error
    assert program is not None
    program.model.metadata_props.update(metadata)
    content: bytes = program.model_proto.SerializeToString()
    return content


def compared(served: Served, content: bytes) -> Comparison:
    """Runs a graph on random batches of several sizes beside its module.

    Raises:
        ConfigError: where ONNX Runtime is not installed.
        RunError: where it does not run the graph, or a class it predicts is another.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError(f"ONNX Runtime is not installed: {EXTRA}, or --format=safetensors") from error
    exact = Served(copy.deepcopy(served.module), served.inputs, torch.float64)
    generator = torch.Generator().manual_seed(1)
    triples: list[tuple[Tensor, Tensor, Tensor]] = []
    for rows in BATCHES:
        raw = served.example(rows, generator)
        with torch.no_grad():
            references, ours = exact(raw), served(raw)
        try:
            session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
            said = session.run(None, {served.inputs.name: raw.numpy()})
        except Exception as error:  # it has a dozen types without a common base
            raise RunError(f"ONNX Runtime does not run the graph: {' '.join(str(error).split())}") from error
        triples += zip(references, ours, map(torch.from_numpy, said), strict=True)
    return _comparison(triples)


def _comparison(triples: Sequence[tuple[Tensor, Tensor, Tensor]]) -> Comparison:
    if any(theirs.shape != ours.shape or theirs.dtype != ours.dtype for _, ours, theirs in triples):
        raise RunError("the ONNX graph gives other shapes than its module")
    graph = module = total = count = 0.0
    for reference, ours, theirs in triples:
        if not ours.is_floating_point():
            if not theirs.equal(ours):
                raise RunError("the ONNX graph predicts other classes than its module")
            continue
        # Each output counts alike, whatever its scale.
        scale = float(reference.abs().max()) or 1.0
        graph += float((theirs.double() - reference).div(scale).square().sum())
        module += float((ours.double() - reference).div(scale).square().sum())
        total += float((reference / scale).square().sum())
        count += reference.numel()
    rounding = torch.finfo(torch.float32).eps / 2
    return Comparison((graph / count) ** 0.5, (module / count) ** 0.5, rounding * (total / count) ** 0.5)
