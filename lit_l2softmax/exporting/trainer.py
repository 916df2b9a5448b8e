"""The command ``export``."""

from pathlib import Path
from typing import Literal

from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from lit_l2softmax import runs, safe_weights
from lit_l2softmax.data.raw_inputs import RawInputs
from lit_l2softmax.errors import ConfigError, RunError
from lit_l2softmax.whole_files import write_whole

from .onnx_graph import compared, graph_of
from .served import Served
from .words import words

Format = Literal["all", "safetensors", "onnx"]


class ExportingTrainer(Trainer):
    """Lightning's Trainer with one more command."""

    def export(
        self,
        model: LightningModule,
        datamodule: LightningDataModule,
        ckpt_path: str,
        folder: str | None = None,
        format: Format = "all",
    ) -> None:
        """Writes a checkpoint's weights as safetensors and its network, in float32, as ONNX, and prints where.

        Args:
            model: a module that the weights fit.
            datamodule: its data, which are not read.
            ckpt_path: the checkpoint.
            folder: that receives model.safetensors and model.onnx; export/ beside the checkpoint's folder when null.
            format: which of the two.

        Raises:
            ConfigError: where the data do not say what raw inputs are, or the module what it returns, or a package is
                missing.
            RunError: where the checkpoint cannot be used, the data hold other classes out than its training did, or the
                graph computes something else than the module, and then nothing is written; where a file cannot be.
        """
        checkpoint = Path(ckpt_path)
        runs.check_held_out(checkpoint, getattr(datamodule, "held_out", None))
        weights = runs.check_weights(model, checkpoint)
        model.load_state_dict(weights)
        inputs: RawInputs | None = getattr(datamodule, "raw_inputs", None)
        if inputs is None:
            raise ConfigError(f"{type(datamodule).__name__} does not say what an exported network is given: raw_inputs")
        if not hasattr(model, "says"):
            raise ConfigError(f"{type(model).__name__} does not say what its predict_step returns by name: says")
        served = Served(model, inputs)
        config, source = runs.shareable_config(checkpoint)
        metadata = words(served, datamodule, config, source)
        place = Path(folder) if folder is not None else runs.export_folder(checkpoint)
        graph, verdict = None, ""
        if format != "safetensors":
            graph = graph_of(served, metadata)
            comparison = compared(served, graph)
            if not comparison.right:
                raise RunError(
                    f"the error of the ONNX graph is {comparison.graph:.1e}, PyTorch's own {comparison.module:.1e}, "
                    "and twice that is trusted; nothing was written; --format=safetensors leaves it out"
                )
            shape = " x ".join(["N", *map(str, inputs.shape)])
            dtype = str(inputs.dtype).removeprefix("torch.")
            verdict = (
                f"{inputs.name} ({dtype}, {shape}) -> {', '.join(served.output_names)}; "
                f"run by ONNX Runtime, its error is {comparison.graph:.1e}, PyTorch's {comparison.module:.1e}"
            )
        if format != "onnx":
            safe_weights.write(file := place / f"model{safe_weights.SUFFIX}", weights, metadata)
            print(f"{file}  {_size(file)}")
        if graph is not None:
            file = place / "model.onnx"
            try:
                place.mkdir(parents=True, exist_ok=True)
                write_whole(file, graph)
            except OSError as error:
                raise RunError(f"{file} could not be written: {error.strerror}") from error
            print(f"{file}  {_size(file)}  {verdict}")


def _size(file: Path) -> str:
    return f"{file.stat().st_size / 1e6:.1f} MB"
