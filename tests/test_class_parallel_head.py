"""A head whose classes are spread over processes trains as the head of one process."""

import json

import class_parallel_fit_ranks as fits
import pytest
import torch
from class_parallel_head_ranks import TRUE64
from gloo_ranks import ranks

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:.*{message}") for message in ("does not have many workers", "LeafSpec")
]

SCRIPT = "class_parallel_head_ranks.py"


def test_two_processes_that_share_the_classes_are_one(tmp_path):
    ranks(SCRIPT, 2, tmp_path, 2)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "overs"), [(2, (1,)), (3, (3, 1)), (4, (2, 4))])
def test_any_mesh_of_processes_is_one(tmp_path, size, overs):
    ranks(SCRIPT, size, tmp_path, *overs)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process with L2SoftmaxLoss saves at steps 2 and 4 of a training, and the weights it begins with."""
    folder = tmp_path_factory.mktemp("alone")
    dtype = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        torch.save(fits.training(False, "sgd").state_dict(), folder / "first.pt")
        said = {}
        for optimiser in ("sgd", "adam"):
            for steps in (2, 4):
                path = folder / f"{optimiser}-{steps}.ckpt"
                said[optimiser] = fits.fit(0, 1, steps, optimiser, folder / "first.pt", path, spread=False)
    finally:
        torch.set_default_dtype(dtype)
    return folder, said


def same(one, other):
    """Two checkpoints' weights and states of optimisers, to the rounding of so many steps."""
    one, other = (torch.load(path, weights_only=True) for path in (one, other))
    assert one["state_dict"].keys() == other["state_dict"].keys()
    for name, weight in other["state_dict"].items():
        assert (one["state_dict"][name] - weight).norm() <= TRUE64 * weight.norm(), name
    for mine, true in zip(one["optimizer_states"], other["optimizer_states"], strict=True):
        assert mine["param_groups"] == true["param_groups"]
        assert mine["state"].keys() == true["state"].keys()
        for number, state in true["state"].items():
            for name, value in state.items():
                off = (mine["state"][number][name] - value).norm()
                assert off <= TRUE64 * value.norm(), (number, name, off / value.norm())
    assert one["global_step"] == other["global_step"]


def on(size, steps, optimiser, before, after):
    ranks("class_parallel_fit_ranks.py", size, after.parent, steps, optimiser, before, after)
    return json.loads(after.with_suffix(".json").read_text())


def test_a_training_on_two_processes_goes_on_in_one(alone, tmp_path):
    """Clipped, with two groups of parameters and uneven rows."""
    folder, said = alone
    validated = on(2, 2, "sgd", folder / "first.pt", tmp_path / "two.ckpt")
    same(tmp_path / "two.ckpt", folder / "sgd-2.ckpt")
    torch.set_default_dtype(torch.float64)
    try:
        again = fits.fit(0, 1, 4, "sgd", tmp_path / "two.ckpt", tmp_path / "one.ckpt", spread=False)
    finally:
        torch.set_default_dtype(torch.float32)
    same(tmp_path / "one.ckpt", folder / "sgd-4.ckpt")
    assert again == pytest.approx(said["sgd"])
    assert validated.keys() == again.keys()


@pytest.mark.slow
@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_a_checkpoint_of_any_number_of_processes_is_that_of_another(alone, tmp_path, optimiser):
    folder, said = alone
    for size in (2, 3):
        validated = on(size, 4, optimiser, folder / f"{optimiser}-2.ckpt", tmp_path / f"{size}.ckpt")
        same(tmp_path / f"{size}.ckpt", folder / f"{optimiser}-4.ckpt")
        for name in ("val/accuracy", "val/calibration_error"):
            assert validated[name] == pytest.approx(said[optimiser][name])
    on(2, 2, optimiser, folder / "first.pt", tmp_path / "two.ckpt")
    on(3, 4, optimiser, tmp_path / "two.ckpt", tmp_path / "three.ckpt")
    same(tmp_path / "three.ckpt", folder / f"{optimiser}-4.ckpt")
