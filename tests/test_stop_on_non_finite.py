"""An inf or a NaN ends a training before it reaches the weights, and never reaches the disk."""

from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from memory import peak_extra_bytes
from run_records import result_of
from torch import nn
from torch.utils.data import DataLoader

from lit_l2softmax.__main__ import main
from lit_l2softmax.callbacks import StopOnNonFinite
from lit_l2softmax.callbacks.stop_on_non_finite import LARGE
from lit_l2softmax.classification import LitClassification
from lit_l2softmax.errors import NonFiniteError

INF, NAN = float("inf"), float("nan")


class Spoilt(torch.autograd.Function):
    """An input as it is, whose gradient is another."""

    @staticmethod
    def forward(ctx, input, gradient):
        ctx.gradient = gradient
        return input.clone()

    @staticmethod
    def backward(ctx, gradient):
        return torch.full_like(gradient, ctx.gradient), None


class Module(LightningModule):
    """A weight whose loss, or whose gradient, is something else in one batch."""

    def __init__(self, at, loss=None, gradient=None, sparse=False, rows=5):
        super().__init__()
        self.at, self.loss, self.gradient = at, loss, gradient
        self.table = nn.Embedding(rows, 3, sparse=sparse)
        self.history = []

    def training_step(self, batch, batch_idx):
        self.history.append(self.table.weight.detach().clone())
        rows = self.table(torch.tensor([1, 2]))
        if batch_idx == self.at:
            if self.gradient is not None:
                rows = Spoilt.apply(rows, self.gradient)
            if self.loss is not None:
                return rows.sum() * 0 + self.loss
        return rows.sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def train(module, **options):
    options = {"max_epochs": 1, "limit_train_batches": 6, "log_every_n_steps": 1} | options
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[StopOnNonFinite()],
        **options,
    )
    trainer.fit(module, DataLoader(torch.zeros(8, 1), batch_size=1))
    return trainer


pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers:UserWarning",
    "ignore:.*LeafSpec.*",
    "ignore:.*torch.sparse.*",
    "ignore:.*parse invariant.*",
)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_loss_that_is_no_number_ends_a_training_before_its_step(value):
    module = Module(at=3, loss=value)
    with pytest.raises(NonFiniteError, match=f"^the loss of step 4 is {value:g}$"):
        train(module)
    assert len(module.history) == 4
    assert module.table.weight.equal(module.history[3])
    assert not module.history[3].equal(module.history[2])


@pytest.mark.parametrize("rows", [5, LARGE])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("value", [NAN, INF])
def test_so_does_a_gradient_of_a_loss_that_is_one(value, sparse, rows):
    module = Module(at=2, gradient=value, sparse=sparse, rows=rows)
    with pytest.raises(NonFiniteError, match=r"^the gradient of table\.weight in step 3 is not finite$"):
        train(module)
    assert module.table.weight.equal(module.history[2])


def test_so_does_that_of_a_weight_that_was_frozen_when_the_training_began():
    module = Module(at=2, gradient=NAN)
    module.table.weight.requires_grad_(False)

    def thaw(*_):
        module.table.weight.requires_grad_(True)

    module.on_train_batch_start = thaw
    with pytest.raises(NonFiniteError, match=r"^the gradient of table\.weight in step 3 is not finite$"):
        train(module)
    assert module.table.weight.equal(module.history[2])


def test_nobody_looks_when_a_training_has_failed():
    module = Module(at=2, gradient=NAN, rows=LARGE)
    with pytest.raises(NonFiniteError):
        train(module)
    assert not module.table.weight._post_accumulate_grad_hooks


def test_nobody_looks_when_the_training_is_over():
    module = Module(at=None)
    train(module)
    module.table.weight.grad = None
    (module.table.weight.sum() * NAN).backward()
    assert module.table.weight.grad.isnan().all()


def test_gradients_whose_sum_overflows_are_gradients():
    """3e38 twice is an inf in float32, and no gradient here is one."""
    module = Module(at=2, gradient=3e38)
    train(module)
    assert len(module.history) == 6
    assert module.history[3].isfinite().all()


def test_a_batch_whose_gradients_are_only_added_up_is_looked_at_too():
    module = Module(at=1, loss=NAN)
    with pytest.raises(NonFiniteError, match="the loss of step 1 is nan"):
        train(module, accumulate_grad_batches=3)


def test_a_training_without_one_is_left_alone():
    module = Module(at=None)
    train(module)
    assert len(module.history) == 6


# ---- on a device that nobody waits for


@pytest.fixture
def device():
    """A callback that thinks its module is on a GPU, a trainer in its tenth step, and a module with gradients."""
    callback, module = StopOnNonFinite(), Module(at=None)
    trainer = SimpleNamespace(
        global_step=9,
        precision_plugin=SimpleNamespace(),
        _logger_connector=SimpleNamespace(should_update_logs=False),
    )
    callback._first = torch.zeros(())
    optimizer = module.configure_optimizers()

    def step(loss=1.0, gradient=1.0):
        module.table.weight.grad = torch.full((5, 3), gradient)
        callback.on_before_backward(trainer, module, torch.tensor(loss))
        callback.on_before_optimizer_step(trainer, module, optimizer)
        callback.on_train_batch_end(trainer, module, None, None, 0)
        trainer.global_step += 1

    return SimpleNamespace(callback=callback, trainer=trainer, module=module, step=step)


@pytest.mark.parametrize("wrong", [{"loss": NAN}, {"loss": INF}, {"gradient": NAN}, {"gradient": -INF}])
def test_a_gpu_is_asked_where_a_record_waits_for_it_and_names_the_first_step(device, wrong):
    device.step()
    device.step(gradient=3e38)
    device.step(**wrong)
    device.step(**wrong)
    device.step()
    assert device.callback._losses == []  # none is kept from step to step
    device.trainer._logger_connector.should_update_logs = True
    with pytest.raises(NonFiniteError, match=r"^the loss or a gradient of step 12 is not finite$"):
        device.step()


@pytest.mark.parametrize("before", ["on_validation_start", "on_save_checkpoint"])
def test_nothing_is_validated_or_saved_behind_such_a_step(device, before):
    arguments = [device.trainer, device.module, *([{}] if before == "on_save_checkpoint" else [])]
    device.step()
    getattr(device.callback, before)(*arguments)
    device.step(loss=NAN)
    with pytest.raises(NonFiniteError, match="step 11"):
        getattr(device.callback, before)(*arguments)


def test_an_inf_that_half_precisions_scale_has_made_is_the_scalers_business(device):
    device.trainer.precision_plugin.scaler = object()
    device.step(gradient=INF)
    device.callback.on_validation_start(device.trainer, device.module)
    device.step(loss=NAN)
    with pytest.raises(NonFiniteError, match="step 11"):
        device.callback.on_validation_start(device.trainer, device.module)


def test_weights_that_a_step_has_made_so_are_not_saved():
    module = Module(at=None)
    with torch.no_grad():
        module.table.weight[2, 1] = INF
    with pytest.raises(NonFiniteError, match=r"^table\.weight is not finite after step 7$"):
        StopOnNonFinite().on_save_checkpoint(SimpleNamespace(global_step=7), module, {})


# ---- of a run

SHORT = ["--data.source=digits", "--data.batch_size=32", "--trainer.max_steps=12", "--trainer.val_check_interval=4"]


def spoil(monkeypatch, at):
    step = LitClassification.training_step

    def spoilt(self, batch, batch_idx):
        outputs = step(self, batch, batch_idx)
        return {**outputs, "loss": outputs["loss"] * NAN} if self.global_step == at else outputs

    monkeypatch.setattr(LitClassification, "training_step", spoilt)


def test_a_run_that_comes_to_a_nan_keeps_its_last_good_checkpoint_and_says_how_to_go_on(fit, capsys, monkeypatch):
    with monkeypatch.context() as patched:
        spoil(patched, at=9)
        run, printed = fit("mnist", *SHORT, expect=2)
    last = run / "checkpoints" / "last.ckpt"
    assert printed.err == (
        f"error: the loss of step 10 is nan; {last} is of step 8, before it: "
        f"`fit --resume {run} --optimizer.lr LOWER` goes on from there\n"
    )
    saved = torch.load(last, weights_only=True)
    assert saved["global_step"] == 8
    assert all(weight.isfinite().all() for weight in saved["state_dict"].values())
    assert not (run / "result.json").exists()
    assert main(["fit", f"--resume={run}", "--optimizer.lr=0.0001"]) == 0
    assert result_of(run)["steps"] == 12
    assert "lr: 0.0001" in (run / "config.yaml").read_text()


def test_looking_at_weights_before_a_checkpoint_takes_no_memory():
    """A classifier may be half of all that there is."""
    module = Module(at=0, rows=100_000)
    callback, trainer = StopOnNonFinite(), SimpleNamespace(global_step=3)
    assert peak_extra_bytes(lambda: callback.on_save_checkpoint(trainer, module, {})) < 100
    module.table.weight.data[7, 1] = NAN
    with pytest.raises(NonFiniteError, match=r"table\.weight is not finite after step 3"):
        callback.on_save_checkpoint(trainer, module, {})
    module.table.weight.data.fill_(3e38)  # the sum of which is not finite, and each of which is
    callback.on_save_checkpoint(trainer, module, {})


@pytest.mark.parametrize(("at", "left"), [(0, False), (2, True)])
def test_one_that_comes_to_it_before_its_first_checkpoint_says_so(fit, monkeypatch, at, left):
    spoil(monkeypatch, at)
    run, printed = fit("mnist", *SHORT, expect=2)
    assert printed.err == f"error: the loss of step {at + 1} is nan; the training had no checkpoint yet\n"
    assert (run is not None) == left  # a run of no step leaves no folder


def test_weights_and_biases_is_told_that_a_training_failed(fit, monkeypatch):
    import wandb

    told, finish = [], wandb.Run.finish
    monkeypatch.setattr(
        wandb.Run, "finish", lambda self, exit_code=None: (told.append(exit_code), finish(self, exit_code))
    )
    with monkeypatch.context() as patched:
        spoil(patched, at=2)
        fit("mnist", *SHORT, "--wandb.mode=offline", expect=2)
    fit("mnist_tutorial", "--data.source=digits", "--trainer.max_steps=1", "--wandb.mode=offline")
    assert told == [1, 0]
