"""What it takes of a training step to survive kills, signals and NaN, and of a checkpoint to be safe on the disk."""

import time

import pytest
import torch
from bench_training_step_on_mnist import SYSTEM_1
from harness import timed
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Callback, Trainer
from records import OURS

from lit_l2softmax.callbacks import StepRandomness, StopOnNonFinite, StopSignals, stop_on_non_finite
from lit_l2softmax.durable_checkpoints import DurableCheckpointIO

BATCH = 128
STEP = "a training step"

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers:UserWarning",  # batches are indexed from memory
    "ignore:.*LeafSpec.*",  # Lightning's own use of torch
)


class Stopwatch:
    """Adds up what callbacks take, in the middle of the steps they are called in."""

    def __init__(self, callbacks):
        self.seconds = 0.0
        for callback in callbacks:
            for hook in {name for name in dir(Callback) if name.startswith("on_")}:
                if getattr(type(callback), hook) is not getattr(Callback, hook):
                    setattr(callback, hook, self.timed(getattr(callback, hook)))

    def timed(self, hook):
        def call(*arguments):
            start = time.perf_counter()
            hook(*arguments)
            self.seconds += time.perf_counter() - start

        return call


@pytest.fixture
def ours(tmp_path, monkeypatch):
    """System 1's training with what survives, and the watch on it."""
    torch.manual_seed(0)
    fitted = SYSTEM_1.fitted(BATCH, "32-true", tmp_path / "steps")
    fitted.callbacks = [StepRandomness(0), StopOnNonFinite(), StopSignals(tmp_path / "last.ckpt")]
    watch = Stopwatch(fitted.callbacks)
    # What looks at a gradient as soon as it is there is called by no trainer.
    monkeypatch.setattr(stop_on_non_finite, "_look", watch.timed(stop_on_non_finite._look))
    return fitted, watch


def test_steps(measure, ours):
    fitted, watch = ours

    def survival(calls):
        watch.seconds = 0.0
        fitted.fit(calls, untimed_steps=0)
        return watch.seconds

    survival(2)
    assert watch.seconds > 0  # or nothing was watched
    measure(
        "surviving, System 1",
        f"batch {BATCH}",
        {STEP: fitted, "seeds, looks for NaN, signals": survival},
        baseline=STEP,
        calls_multiple=SYSTEM_1.log_every_n_steps,
    )


def test_checkpoint(measure, ours, tmp_path):
    fitted, _ = ours
    kept = {}

    class Dump(Callback):
        def on_train_end(self, trainer: Trainer, pl_module):
            kept.update(trainer._checkpoint_connector.dump_checkpoint(weights_only=False))

    fitted.callbacks = [*fitted.callbacks, Dump()]
    fitted.fit(1)
    saved = {name: tmp_path / name for name in ("lightning", "ours")}
    savers = {"Lightning's": (TorchCheckpointIO(), saved["lightning"]), OURS: (DurableCheckpointIO(), saved["ours"])}
    for io, path in savers.values():
        io.save_checkpoint(kept, path)
    one, other = (torch.load(path, weights_only=True)["state_dict"] for path in saved.values())
    assert one.keys() == other.keys()
    assert all(weight.equal(other[name]) for name, weight in one.items())
    measure(
        "a checkpoint, System 1",
        "weights and Adam's moments",
        {name: timed(lambda io=io, path=path: io.save_checkpoint(kept, path)) for name, (io, path) in savers.items()},
        baseline="Lightning's",
    )
