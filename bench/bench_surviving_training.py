"""What it takes of a training step to survive kills, signals and NaN, and of a checkpoint to be safe on the disk."""

import random
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


class EveryOtherStep(Callback):
    """Lets callbacks act in one step of each two, drawn by lot, and adds up what both kinds of steps take.

    What slows the machine down slows both, and what callbacks leave behind, a cache that holds other things, is paid in
    the step that they act in. A step lasts from its batch to the next one. The first two, which allocate, are left out.
    """

    def __init__(self, callbacks):
        self.callbacks = callbacks
        self.draw = random.Random(0)
        for callback in callbacks:
            for hook in {name for name in dir(Callback) if name.startswith("on_")}:
                if getattr(type(callback), hook) is not getattr(Callback, hook):
                    setattr(callback, hook, self.sometimes(getattr(callback, hook)))

    def sometimes(self, hook):
        def call(*arguments):
            if self.acting:
                hook(*arguments)

        return call

    def begin(self):
        self.acting, self.order, self.start, self.steps = True, [], None, 0
        self.seconds = {True: 0.0, False: 0.0}

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        now = time.perf_counter()
        if trainer.global_step > 2:
            self.steps += 1
            self.seconds[self.acting] += now - self.start
        if not self.order:
            self.order = [True, False]
            self.draw.shuffle(self.order)
        self.acting = self.order.pop()
        self.start = now


@pytest.fixture
def ours(tmp_path):
    """System 1's training, and the callbacks that survive."""
    torch.manual_seed(0)
    return SYSTEM_1.fitted(BATCH, "32-true", tmp_path / "steps"), [
        StepRandomness(0),
        StopOnNonFinite(),
        StopSignals(tmp_path / "last.ckpt"),
    ]


def test_steps(measure, ours, monkeypatch):
    fitted, callbacks = ours
    steps = EveryOtherStep(callbacks)
    fitted.callbacks = [steps, *callbacks]
    # What looks at a gradient as soon as it is there is called by no trainer.
    monkeypatch.setattr(stop_on_non_finite, "_look", steps.sometimes(stop_on_non_finite._look))

    def without(calls):
        steps.begin()
        fitted.fit(2 * calls + 1, untimed_steps=2)  # the last one is over when the next one begins: there is none
        assert steps.steps == 2 * calls
        return steps.seconds[False]

    def surviving(calls):  # was measured together with the steps that do not survive
        return 2 * calls / steps.steps * steps.seconds[True]

    measure(
        "surviving, System 1",
        f"batch {BATCH}",
        {STEP: without, "the same, with seeds, looks for NaN and signals": surviving},
        baseline=STEP,
        calls_multiple=2 * SYSTEM_1.log_every_n_steps,
    )


def test_checkpoint(measure, ours, tmp_path):
    fitted, callbacks = ours
    kept = {}

    class Dump(Callback):
        def on_train_end(self, trainer: Trainer, pl_module):
            kept.update(trainer._checkpoint_connector.dump_checkpoint(weights_only=False))

    fitted.callbacks = [*callbacks, Dump()]
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
