"""A resumed training: options from the configuration, progress from the checkpoint."""

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader

from lit_l2softmax.callbacks import ConfiguredOptimizer


class Line(LightningModule):
    def __init__(self, lr, momentum, step_size=None, gamma=0.1, plateau=False):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.options = lr, momentum, step_size, gamma
        self.plateau = plateau

    def configure_optimizers(self):
        lr, momentum, step_size, gamma = self.options
        optimizer = torch.optim.SGD(self.parameters(), lr, momentum)
        if self.plateau:  # keeps its progress in the learning rate alone
            schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=10.0)
            return [optimizer], [{"scheduler": schedule, "interval": "step", "monitor": "loss"}]
        if step_size is None:
            return optimizer
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size, gamma)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    def training_step(self, batch):
        loss = (self.weight - batch).square().mean()
        self.log("loss", loss)
        return loss


def trained(module, steps, tmp_path, checkpoint=None, callbacks=()):
    trainer = Trainer(
        max_steps=steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        callbacks=[ConfiguredOptimizer(), *callbacks],
        default_root_dir=tmp_path,
    )
    trainer.fit(module, DataLoader(torch.ones(8, 1), batch_size=1), ckpt_path=checkpoint, weights_only=True)
    return trainer


@pytest.fixture
def checkpoint(tmp_path, recwarn):
    def save(module):
        path = tmp_path / "x.ckpt"
        trained(module, 4, tmp_path).save_checkpoint(path)
        return path

    return save


pytestmark = [
    pytest.mark.filterwarnings(f"ignore:.*{message}")
    for message in ("does not have many workers", "LeafSpec", "your dataloader is not resumable")
]


def test_a_learning_rate_and_a_momentum_of_the_configuration_win_and_the_moments_stay(checkpoint, tmp_path):
    path = checkpoint(Line(0.1, 0.9))
    trainer = trained(Line(0.01, 0.5), 5, tmp_path, path)
    (group,) = trainer.optimizers[0].param_groups
    assert (group["lr"], group["momentum"]) == (0.01, 0.5)
    (state,) = trainer.optimizers[0].state.values()
    assert state["momentum_buffer"].abs() > 0


def test_a_schedule_of_the_configuration_wins_and_its_progress_stays(checkpoint, tmp_path):
    path = checkpoint(Line(0.1, 0.0, step_size=2, gamma=0.5))  # two of its steps taken: .025
    module = Line(1.0, 0.0, step_size=3, gamma=0.1)
    trainer = trained(module, 5, tmp_path, path)
    (config,) = trainer.lr_scheduler_configs
    assert (config.scheduler.step_size, config.scheduler.gamma) == (3, 0.1)
    assert config.scheduler.base_lrs == [1.0]
    assert config.scheduler.last_epoch == 5
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.25)


def test_a_schedule_that_keeps_its_progress_in_the_learning_rate_goes_on(checkpoint, tmp_path):
    path = checkpoint(Line(0.1, 0.0, plateau=True))
    saved = torch.load(path, weights_only=True)["optimizer_states"][0]["param_groups"][0]["lr"]
    assert saved < 0.1
    seen = []
    module = Line(1.0, 0.0, plateau=True)
    module.on_train_batch_start = lambda *_: seen.append(module.optimizers().param_groups[0]["lr"])
    trained(module, 5, tmp_path, path)
    assert seen == [pytest.approx(10 * saved)]


def test_with_the_same_options_resuming_changes_nothing(checkpoint, tmp_path):
    straight = Line(0.1, 0.9, step_size=3)
    trained(straight, 8, tmp_path)
    path = checkpoint(Line(0.1, 0.9, step_size=3))
    resumed = Line(0.1, 0.9, step_size=3)
    trained(resumed, 8, tmp_path, path)
    assert torch.equal(straight.weight, resumed.weight)
