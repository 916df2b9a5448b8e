"""What is exported is what was trained: the same numbers, with everything that somebody else needs to know."""

import copy
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors.torch
import torch
from run_records import result_of
from torch import nn

from lit_l2softmax import runs, safe_weights
from lit_l2softmax.__main__ import main
from lit_l2softmax.classification import LitClassification
from lit_l2softmax.data import MNISTData
from lit_l2softmax.data.digits import load_digits
from lit_l2softmax.data.raw_inputs import RawInputs
from lit_l2softmax.errors import RunError
from lit_l2softmax.exporting import onnx_graph
from lit_l2softmax.exporting.served import Served
from lit_l2softmax.layers import L2SoftmaxLoss, LocalResponseNorm

README = Path(__file__).parents[1] / "README.md"
DIGITS = ["--data.source=digits", "--trainer.max_steps=30", "--trainer.val_check_interval=30"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of mnist on the digits, exported."""
    folder = tmp_path_factory.mktemp("exported")
    options = [f"--runs={folder}", f"--data.root={folder}", "--wandb.mode=disabled"]
    assert main(["fit", "--config=mnist", *DIGITS, *options]) == 0
    (run,) = folder.glob("*/*")
    assert main(["export", f"--run={run}"]) == 0
    return run


def metadata_of(run):
    """The words of both files, which are the same."""
    graph = {one.key: one.value for one in onnx.load(run / "export" / "model.onnx").metadata_props}
    _, words = safe_weights.read(run / "export" / "model.safetensors")
    assert graph == words
    return words


def test_a_stranger_with_the_graph_alone_gets_the_runs_accuracy_from_bytes(run):
    session = onnxruntime.InferenceSession(run / "export" / "model.onnx")
    _, _, (images, labels) = load_digits()
    features, probability, prediction = session.run(None, {"images": images.numpy()})
    assert [output.name for output in session.get_outputs()] == ["features", "probability", "prediction"]
    assert (prediction == labels.numpy()).mean() == pytest.approx(result_of(run)["test/accuracy"])
    assert np.linalg.norm(features, axis=1) == pytest.approx(16, rel=1e-5)
    assert probability.sum(1) == pytest.approx(1, rel=1e-5)


def test_the_readmes_example_runs(run, monkeypatch):
    (example,) = re.findall(r"```python\n(session = .*?)```", README.read_text(), re.DOTALL)
    monkeypatch.chdir(run / "export")
    _, _, (images, labels) = load_digits()
    names = {"json": json, "onnxruntime": onnxruntime, "uint8_images": images.numpy()}
    exec(example, names)
    right = [int(names["classes"][number]) for number in names["prediction"]] == labels.numpy()
    assert right.mean() == pytest.approx(result_of(run)["test/accuracy"])


def test_its_words_say_what_a_stranger_has_to_know(run):
    words = metadata_of(run)
    assert json.loads(words["classes"]) == [*"0123456789"]
    assert json.loads(words["input"]) == {
        "name": "images",
        "dtype": "uint8",
        "shape": ["N", 1, 28, 28],
        "wanted": "grey, a light digit on a dark ground, in the middle, as in MNIST",
        "preprocessing": "pixels from 0 to 255 become 0 to 1",
    }
    assert list(json.loads(words["outputs"])) == ["features", "probability", "prediction"]
    assert words["data"] == "digits"


def test_its_words_do_not_say_where_on_whose_machine_it_was_made(run):
    for file in (run / "export").iterdir():
        assert str(run.parents[1]).encode() not in file.read_bytes()


def test_the_weights_are_the_checkpoints_and_any_reader_has_them(run):
    checkpoint = torch.load(run / result_of(run)["checkpoint"], weights_only=True)["state_dict"]
    weights = safetensors.torch.load_file(run / "export" / "model.safetensors")
    assert weights.keys() == checkpoint.keys()
    assert all(weights[name].equal(weight) for name, weight in checkpoint.items())


@pytest.mark.parametrize(("precision", "dtype"), [("64-true", torch.float64), ("bf16-true", torch.bfloat16)])
def test_weights_keep_the_type_they_were_trained_in(fit, precision, dtype):
    run, _ = fit("dots", "--trainer.max_steps=2", "--trainer.val_check_interval=2", f"--trainer.precision={precision}")
    assert main(["export", f"--run={run}"]) == 0
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    weights = safetensors.torch.load_file(run / "export" / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {dtype}
    assert all(weights[name].equal(weight) for name, weight in checkpoint.items())


def test_they_are_tested_and_predicted_with_like_a_checkpoint(run, capsys):
    said = []
    for which in (f"--run={run}", f"--ckpt_path={run / 'export' / 'model.safetensors'}"):
        capsys.readouterr()
        assert main(["test", which]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert main(["predict", f"--ckpt_path={run / 'export' / 'model.safetensors'}"]) == 0


def test_no_training_goes_on_from_weights_alone(run, capsys):
    file = run / "export" / "model.safetensors"
    assert main(["fit", "--config=mnist", *DIGITS, f"--ckpt_path={file}", f"--runs={run}"]) == 2
    assert capsys.readouterr().err == (
        f"error: {file} holds weights alone; a training goes on from a .ckpt of its run\n"
    )


def test_what_is_printed_says_where_and_how_well(run, capsys, tmp_path):
    assert main(["export", f"--run={run}", f"--folder={tmp_path / 'new' / 'place'}"]) == 0
    weights, graph = capsys.readouterr().out.splitlines()
    assert weights == f"{tmp_path / 'new' / 'place' / 'model.safetensors'}  6.7 MB"
    assert graph.startswith(f"{tmp_path / 'new' / 'place' / 'model.onnx'}  6.7 MB  images (uint8, N x 1 x 28 x 28) -> ")
    assert sorted(path.name for path in (tmp_path / "new" / "place").iterdir()) == ["model.onnx", "model.safetensors"]


def test_a_photograph_is_cropped_and_standardised_by_the_graph_and_normalised_by_its_own_operator(
    fit, tiny_cifar10, capsys
):
    run, _ = fit("cifar10", f"--data.root={tiny_cifar10}", "--data.batch_size=16", "--trainer.max_steps=3")
    assert main(["export", f"--run={run}"]) == 0
    graph = onnx.load(run / "export" / "model.onnx")
    (one, _) = (node for node in graph.graph.node if node.op_type == "LRN")
    assert {a.name: onnx.helper.get_attribute_value(a) for a in one.attribute} == pytest.approx(
        {"size": 9, "alpha": 0.001, "beta": 0.75, "bias": 1.0}
    )
    assert json.loads(metadata_of(run)["classes"])[0] == "airplane"
    raw = np.fromfile(tiny_cifar10 / "cifar-10-batches-bin" / "test_batch.bin", np.uint8).reshape(40, 3073)
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    _, _, prediction = session.run(None, {"images": raw[:, 1:].reshape(40, 3, 32, 32)})
    assert (prediction == raw[:, 0]).mean() == pytest.approx(result_of(run)["test/accuracy"])
    # What is exported are the averages, by which the run is judged.
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    weights = safetensors.torch.load_file(run / "export" / "model.safetensors")
    assert all(weights[name].equal(weight) for name, weight in state["state_dict"].items())
    assert not weights["network.conv1.weight"].equal(state["current_model_state"]["network.conv1.weight"])


def test_a_regression_is_exported_too(fit):
    run, _ = fit("dots", "--trainer.max_steps=2", "--trainer.val_check_interval=2", "--data.fresh=30")
    assert main(["export", f"--run={run}"]) == 0
    session = onnxruntime.InferenceSession(run / "export" / "model.onnx")
    points = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    output, prediction = session.run(None, {"points": points})
    assert output.shape == (5,)
    assert (prediction == (output > 0.5)).all()


# ---- a graph and its module


class Tiny(nn.Module):
    """Four channels of a normalised convolution."""

    out_features = 16

    def __init__(self, norm=None):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3, stride=13), norm or nn.Identity()

    def forward(self, images):
        return self.norm(self.conv(images)).flatten(1)


def served(network=None, head=None):
    torch.manual_seed(0)
    module = LitClassification(network or Tiny(), head or L2SoftmaxLoss(16, 5))
    return Served(module, MNISTData().raw_inputs)


@pytest.mark.parametrize(
    "options",
    [
        {"learn_alpha": True},
        pytest.param({"alpha": 0.0}, marks=pytest.mark.slow),
        pytest.param({"normalize_weight": True, "angular_margin": 0.5}, marks=pytest.mark.slow),
        pytest.param({"normalize_weight": True, "cosine_margin": 0.35}, marks=pytest.mark.slow),
    ],
)
def test_every_head_has_a_graph_without_its_margin(options):
    one = served(head=L2SoftmaxLoss(16, 5, **options))
    assert onnx_graph.compared(one, onnx_graph.graph_of(one, {})).right


@pytest.mark.parametrize(
    ("size", "window"), [(2, "torch"), (4, "onnx"), pytest.param(6, "torch", marks=pytest.mark.slow)]
)
def test_windows_of_an_even_number_of_channels_which_onnx_runtime_has_none_of(size, window):
    one = served(Tiny(LocalResponseNorm(size, alpha=3.0, beta=0.6, k=1.5, window=window)))
    assert onnx_graph.compared(one, onnx_graph.graph_of(one, {})).right


@pytest.mark.parametrize("error", [1e-5, 1e-2])
def test_a_graph_that_computes_something_else_is_found(error):
    one = served()
    other = copy.deepcopy(one)
    with torch.no_grad():
        other.module.network.conv.weight[0, 0, 1, 1] += error
    comparison = onnx_graph.compared(one, onnx_graph.graph_of(other, {}))
    assert not comparison.right


def test_a_graph_of_other_classes_is_found():
    one = served()
    other = copy.deepcopy(one)
    with torch.no_grad():
        other.module.head.bias[3] += 100
    with pytest.raises(RunError, match="predicts other classes than its module"):
        onnx_graph.compared(one, onnx_graph.graph_of(other, {}))


def test_a_graph_of_one_batch_size_is_found():
    class Fixed(Tiny):
        def forward(self, images):
            return super().forward(images).reshape(len(images), 16)

    one = served(Fixed())
    with pytest.raises(RunError, match=r"ONNX Runtime does not run the graph: .* Got: 1 Expected: 2"):
        onnx_graph.compared(one, onnx_graph.graph_of(one, {}))


def test_a_network_that_no_graph_can_say_is_one_line():
    class Branching(Tiny):
        def forward(self, images):
            return super().forward(images) * (2 if images.sum() > 0 else 1)

    with pytest.raises(RunError, match=r"^the network has no ONNX graph: .*--format=safetensors$"):
        onnx_graph.graph_of(served(Branching()), {})


# ---- what goes wrong


def test_nothing_is_written_where_the_graph_is_wrong(run, tmp_path, capsys, monkeypatch):
    compared = onnx_graph.Comparison(graph=3e-6, module=0.0, rounding=1e-8)
    monkeypatch.setattr("lit_l2softmax.exporting.trainer.compared", lambda *_: compared)
    assert main(["export", f"--run={run}", f"--folder={tmp_path}"]) == 2
    assert capsys.readouterr().err == (
        "error: the error of the ONNX graph is 3.0e-06, PyTorch's own 0.0e+00, and twice that is trusted; "
        "nothing was written; --format=safetensors leaves it out\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("package", ["onnxscript", "onnxruntime"])
def test_without_onnxs_packages_the_weights_can_be_had(run, tmp_path, capsys, monkeypatch, package):
    monkeypatch.delitem(sys.modules, "lit_l2softmax.exporting.onnx_operators")  # which has imported one of them
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["export", f"--run={run}", f"--folder={tmp_path}"]) == 2
    assert "pip install 'lit_l2softmax[export]', or --format=safetensors\n" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert main(["export", f"--run={run}", f"--folder={tmp_path}", "--format=safetensors"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_the_graph_alone_can_be_had(run, tmp_path):
    assert main(["export", f"--run={run}", f"--folder={tmp_path}", "--format=onnx"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_weights_that_no_onnx_file_can_hold_are_refused_before_anything_is_made(run, monkeypatch, capsys):
    monkeypatch.setattr(onnx_graph, "MOST_BYTES", 1000)
    assert main(["export", f"--run={run}"]) == 2
    assert "do not fit an ONNX file, whose limit is 2 GiB: --format=safetensors" in capsys.readouterr().err


def test_data_that_do_not_say_what_they_are_are_named(run, monkeypatch, capsys):
    monkeypatch.delattr(MNISTData, "raw_inputs")
    assert main(["export", f"--run={run}"]) == 2
    assert capsys.readouterr().err == ("error: MNISTData does not say what an exported network is given: raw_inputs\n")


def test_a_module_that_does_not_say_what_it_returns_is_named(run, monkeypatch, capsys):
    monkeypatch.delattr(LitClassification, "says")
    assert main(["export", f"--run={run}"]) == 2
    assert capsys.readouterr().err == (
        "error: LitClassification does not say what its predict_step returns by name: says\n"
    )


@pytest.mark.parametrize("format", ["safetensors", "onnx"])
def test_a_place_that_cannot_be_written_is_one_line(run, tmp_path, capsys, format):
    (tmp_path / "file").write_text("")
    assert main(["export", f"--run={run}", f"--folder={tmp_path / 'file'}", f"--format={format}"]) == 2
    assert f"error: {tmp_path / 'file' / 'model.'}{format} could not be written: " in capsys.readouterr().err


# ---- weights in a file


def weights():
    generator = torch.Generator().manual_seed(0)
    conv = torch.randn(4, 3, 5, 5, generator=generator).to(memory_format=torch.channels_last)
    return {"conv": conv, "again": conv, "alpha": torch.tensor(3.0), "half": torch.ones(2, dtype=torch.bfloat16)}


def test_weights_of_any_layout_and_type_are_read_as_they_were(tmp_path):
    safe_weights.write(tmp_path / "new" / "w.safetensors", weights(), {"a": "b"})
    read, words = safe_weights.read(tmp_path / "new" / "w.safetensors")
    assert words["a"] == "b"
    assert {name: (one.dtype, one.tolist()) for name, one in read.items()} == {
        name: (one.dtype, one.tolist()) for name, one in weights().items()
    }
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["w.safetensors"]


def test_any_byte_that_changes_is_found(tmp_path):
    file = tmp_path / "w.safetensors"
    safe_weights.write(file, weights(), {"alpha": "16", "beta": "0.75"})
    whole = file.read_bytes()
    for place in [*range(0, 40, 3), *range(40, len(whole), 17), whole.index(b"16"), len(whole) - 1]:
        changed = bytearray(whole)
        changed[place] ^= 1
        file.write_bytes(changed)
        with pytest.raises(RunError, match=r"w\.safetensors"):
            safe_weights.read(file)
    file.write_bytes(whole[:-1])
    with pytest.raises(RunError, match="is damaged or not a file of safetensors"):
        safe_weights.read(file)
    with pytest.raises(RunError, match=r"nowhere\.safetensors cannot be read"):
        safe_weights.read(tmp_path / "nowhere.safetensors")


def test_weights_of_somebody_else_are_not_taken_for_ours(tmp_path):
    file = tmp_path / "w.safetensors"
    safetensors.torch.save_file({"a": torch.ones(1)}, file)
    with pytest.raises(RunError, match="was not written by `lit_l2softmax export`"):
        runs.read_checkpoint(file)
    safe_weights.write(file, {"a": torch.ones(1)}, {})  # by this program, but of no run
    with pytest.raises(RunError, match="it carries no configuration"):
        runs.rebuilding_config(file)


def test_a_full_disk_leaves_the_weights_that_were_there(tmp_path):
    file = tmp_path / "w.safetensors"
    safe_weights.write(file, weights(), {})
    before = file.read_bytes()
    script = (
        "import resource, signal, sys, torch\n"
        "from pathlib import Path\n"
        "from lit_l2softmax import safe_weights\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))\n"
        "safe_weights.write(Path(sys.argv[1]), {'w': torch.ones(1000)}, {})\n"
    )
    done = subprocess.run([sys.executable, "-c", script, file], capture_output=True, text=True, check=False)
    assert "w.safetensors could not be written: " in done.stderr
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


def test_raw_inputs_are_what_training_makes_of_bytes():
    for darkest in (0.0, -1.0):
        inputs: RawInputs = MNISTData(darkest=darkest).raw_inputs
        pixels = torch.tensor([0, 51, 255], dtype=torch.uint8)
        expected = torch.tensor([0.0, 0.2, 1.0], dtype=torch.float64) * (1 - darkest) + darkest
        assert torch.allclose(inputs.preprocess(pixels, torch.float64), expected, rtol=0, atol=2**-50)
