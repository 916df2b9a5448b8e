"""What an exported file says about itself."""

import json
from typing import Any

import torch

from lit_l2softmax import __version__, runs

from .served import Served


def words(served: Served, data: Any, config: str, source: str | None) -> dict[str, str]:
    """The metadata of an exported file; what has a structure is JSON.

    - ``lit_l2softmax``, ``torch``: versions; ``data``: what the network was trained on
    - ``classes``: their names in order, ``[]`` where there are none
    - ``input``: its name, dtype and shape, what has to be true of it (``wanted``), and the preprocessing that the ONNX
      graph does itself and that users of the weights alone have to do (``preprocessing``)
    - ``outputs``: names and meanings
    - ``held_out``: the classes that the training data held out, null where they held none out
    - ``lit_l2softmax_config``: the configuration, as YAML, that rebuilds the module

    Args:
        served: the module.
        data: its data.
        config: YAML.
        source: of the data, as the run had it.
    """
    inputs = served.inputs
    count = getattr(served.module, "num_classes", None)
    names = getattr(data, "class_names", None) or [str(number) for number in range(count or 0)]
    return {
        "format": "pt",  # what other readers of safetensors look for
        "lit_l2softmax": __version__,
        "torch": torch.__version__,
        "data": source or str(getattr(data, "title", type(data).__name__)),
        "classes": json.dumps(list(names)),
        "input": json.dumps(
            {
                "name": inputs.name,
                "dtype": str(inputs.dtype).removeprefix("torch."),
                "shape": ["N", *inputs.shape],
                "wanted": inputs.wanted,
                "preprocessing": inputs.done,
            }
        ),
        "outputs": json.dumps(served.says),
        "held_out": json.dumps(getattr(data, "held_out", None)),
        runs.CONFIG_KEY: config,
    }
