"""The averaged weights: TensorFlow's recursion, seen by whoever evaluates, kept in checkpoints with the weights."""

import copy

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from lit_l2softmax.callbacks import ExponentialMovingAverage, LastCheckpoint
from lit_l2softmax.classification import LitClassification
from lit_l2softmax.data import MNISTData
from lit_l2softmax.layers import L2SoftmaxLoss

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:.*{message}") for message in ("does not have many workers", "LeafSpec")
]


class Network(nn.Sequential):
    """Small, and with buffers of its own."""

    out_features = 12

    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(784, 12), nn.BatchNorm1d(12), nn.ReLU())


class Watch(Callback):
    """Keeps the weights before the first step and after each, and those that validations see."""

    def __init__(self):
        self.weights, self.validated = [], {}

    @staticmethod
    def copied(module):
        return {name: weight.detach().double().clone() for name, weight in module.named_parameters()}

    def on_train_start(self, trainer, pl_module):
        self.weights.append(self.copied(pl_module))

    def on_train_batch_end(self, trainer, pl_module, *_):
        if trainer.global_step == len(self.weights):
            self.weights.append(self.copied(pl_module))

    def on_validation_batch_end(self, trainer, pl_module, *_):
        self.validated[trainer.global_step] = self.copied(pl_module)
        assert torch.equal(pl_module.network[2].running_mean, trainer.callbacks[0].seen_mean)


class Mean(Callback):
    """Keeps the newest running mean of a training."""

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.seen_mean = pl_module.network[2].running_mean.clone()


def module(decay=0.9999, order="after"):
    torch.manual_seed(0)
    made = LitClassification(Network(), L2SoftmaxLoss(12, 10), ema_decay=decay, ema_order=order)
    made.configure_optimizers = lambda: torch.optim.SGD(made.parameters(), 0.5)
    return made


def trainer(folder, *callbacks, **options):
    options = {"max_steps": 20, "val_check_interval": 10, "check_val_every_n_epoch": None} | options
    return Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        num_sanity_val_steps=0,
        callbacks=list(callbacks),
        **options,
    )


def data():
    return MNISTData(source="digits", batch_size=16)


def recursion(weights, decay, order):
    """tf.train.ExponentialMovingAverage with num_updates=global_step, in float64: the average after each step."""
    average = copy.deepcopy(weights[0])
    yield copy.deepcopy(average)
    for t in range(len(weights) - 1):
        kept = min(decay, (1 + t) / (10 + t))
        seen = weights[t + 1] if order == "after" else weights[t]
        for name, value in average.items():
            value -= (1 - kept) * (value - seen[name])
        yield copy.deepcopy(average)


def assert_same(found, expected, steps):
    for name, value in expected.items():
        # Each step rounds a difference, a product and a sum of weights; what it rounds is itself averaged away.
        bound = 3 * steps * torch.finfo(torch.float32).eps / 2 * max(1.0, float(value.abs().max()))
        assert (found[name].double() - value).abs().max() <= bound, name


@pytest.mark.parametrize("order", ["after", "before"])
@pytest.mark.parametrize("decay", [0.9999, 0.5])
@pytest.mark.parametrize("accumulated", [1, 2])
def test_it_is_tensorflows_recursion_seen_by_validations_and_left_in_the_module(tmp_path, order, decay, accumulated):
    watch, trained = Watch(), module(decay, order)
    trainer(
        tmp_path,
        Mean(),
        watch,
        accumulate_grad_batches=accumulated,
        val_check_interval=10 * accumulated,
        enable_checkpointing=False,
    ).fit(trained, data())
    assert len(watch.weights) == 21
    averages = list(recursion(watch.weights, decay, order))
    assert sorted(watch.validated) == [10, 20]
    for step, seen in watch.validated.items():
        assert_same(seen, averages[step], step)
    assert_same(Watch.copied(trained), averages[20], 20)
    assert (averages[20]["head.weight"] - watch.weights[20]["head.weight"]).abs().max() > 1e-3


@pytest.mark.parametrize("final_first", [True, False])
def test_every_checkpoint_holds_the_averages_and_the_weights(tmp_path, final_first):
    watch, trained = Watch(), module()
    final = LastCheckpoint(tmp_path / "last.ckpt")
    own = ExponentialMovingAverage()  # in the trainer's list, where its place among the callbacks is the user's
    trained.configure_callbacks = list
    kept = ModelCheckpoint(tmp_path, "{step}", monitor=None, save_top_k=-1)
    callbacks = [Mean(), watch, *((final, own) if final_first else (own, final)), kept]
    trainer(tmp_path, *callbacks).fit(trained, data())
    averages = list(recursion(watch.weights, 0.9999, "after"))
    for step, name in ((10, "step=10"), (20, "step=20"), (20, "last")):
        checkpoint = torch.load(tmp_path / f"{name}.ckpt", weights_only=True)
        assert_same(checkpoint["state_dict"], averages[step], step)
        for key, weight in watch.weights[step].items():
            assert torch.equal(checkpoint["current_model_state"][key].double(), weight), name


def test_a_resumed_training_goes_on_from_the_weights_and_their_averages(tmp_path):
    whole = module()
    trainer(tmp_path, max_epochs=2, max_steps=-1, enable_checkpointing=False).fit(whole, data())

    first, then = module(), module()
    half = LastCheckpoint(tmp_path / "half.ckpt")
    trainer(tmp_path, half, max_epochs=1, max_steps=-1).fit(first, data())
    resumed = trainer(tmp_path, max_epochs=2, max_steps=-1, enable_checkpointing=False)
    resumed.fit(then, data(), ckpt_path=tmp_path / "half.ckpt", weights_only=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(then.state_dict()[name], value), name


def test_a_later_validation_and_test_score_what_the_module_holds(tmp_path):
    trained = module()
    own = ExponentialMovingAverage()
    trained.configure_callbacks = list
    runner = trainer(tmp_path, own, LastCheckpoint(tmp_path / "last.ckpt"))
    digits = data()
    runner.fit(trained, digits)
    held = Watch.copied(trained)
    for score in (runner.validate, runner.test, runner.validate):
        score(trained, digits, verbose=False)
        assert all(torch.equal(weight, held[name]) for name, weight in Watch.copied(trained).items())
    runner.save_checkpoint(tmp_path / "later.ckpt")
    later = torch.load(tmp_path / "later.ckpt", weights_only=True)
    assert all(torch.equal(later["state_dict"][name].double(), weight) for name, weight in held.items())
    assert not torch.equal(later["current_model_state"]["head.weight"], later["state_dict"]["head.weight"])


def test_a_second_training_averages_anew_from_what_the_module_holds(tmp_path):
    own, trained = ExponentialMovingAverage(), module()
    trained.configure_callbacks = list
    trainer(tmp_path, own, enable_checkpointing=False).fit(trained, data())
    held, watch = Watch.copied(trained), Watch()
    trainer(tmp_path, Mean(), watch, own, enable_checkpointing=False).fit(trained, data())
    averages = list(recursion(watch.weights, 0.9999, "after"))
    assert_same(watch.weights[0], held, 1)
    for step, seen in watch.validated.items():
        assert_same(seen, averages[step], step)
    assert_same(Watch.copied(trained), averages[20], 20)


@pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
def test_the_averages_of_other_types_lose_nothing(tmp_path, precision):
    watch, trained = Watch(), module()
    callbacks = Mean(), watch, LastCheckpoint(tmp_path / "last.ckpt")
    trainer(tmp_path, *callbacks, precision=precision, max_steps=60, val_check_interval=20).fit(trained, data())
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    averages = list(recursion(watch.weights, 0.9999, "after"))
    assert_same(checkpoint["state_dict"], averages[60], 60)
    for name, weight in watch.weights[60].items():
        assert torch.equal(checkpoint["current_model_state"][name].double(), weight)
        shown = averages[20][name].to(trained.dtype).double()
        # Rounded to the module's type: a half of its last digit, and one more where the average lay near a tie.
        assert (watch.validated[20][name] - shown).abs().max() <= 2 * torch.finfo(trained.dtype).eps * shown.abs().max()


def test_tied_weights_have_one_average_under_both_names(tmp_path):
    trained = module()
    trained.head.tied = trained.head.weight
    trainer(tmp_path, LastCheckpoint(tmp_path / "last.ckpt")).fit(trained, data())
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    for part in ("state_dict", "current_model_state"):
        assert torch.equal(checkpoint[part]["head.tied"], checkpoint[part]["head.weight"])
    assert not torch.equal(checkpoint["state_dict"]["head.tied"], checkpoint["current_model_state"]["head.tied"])


def test_the_averages_follow_the_weights_to_their_device():
    own, moved = ExponentialMovingAverage(), module()
    own.setup(None, moved, "fit")
    moved.to("meta")
    own.on_fit_start(None, moved)
    assert all(average.is_meta for average in own._averages)
    assert all(copied.is_meta for copied, _ in own._buffers)


def test_an_order_that_is_none_is_refused():
    with pytest.raises(ValueError, match="the order of a moving average must be 'after' or 'before', got 'Before'"):
        ExponentialMovingAverage(order="Before")


@pytest.mark.parametrize("decay", [0.0, 1.0, -1.0, float("nan")])
def test_a_decay_that_is_none_is_refused(decay):
    with pytest.raises(ValueError, match=r"the decay of a moving average must be in \(0, 1\), got"):
        LitClassification(Network(), L2SoftmaxLoss(12, 10), ema_decay=decay)
