"""Speed, gradient norm and memory of a training: what is counted, what is not, and where it goes."""

import math

import pytest
import torch
from run_records import column_of, rows_of

from lit_l2softmax.callbacks import TrainingMonitor, training_monitor
from lit_l2softmax.classification import LitClassification

SHORT = ["--trainer.max_steps=20", "--trainer.val_check_interval=10", "--trainer.log_every_n_steps=5"]
SHORT += ["--data.source=digits", "--data.batch_size=32"]


class Module(torch.nn.Module):
    def __init__(self, device="cpu"):
        super().__init__()
        self.device, self.logged = torch.device(device), {}

    def log(self, name, value, **options):
        if name.endswith("_per_second"):  # of all processes together
            assert options == {"reduce_fx": "sum", "sync_dist": True}
        if name == "train/gradient_norm":
            self.norm = float(value)
            return
        self.logged.setdefault(name, []).append(float(value))


class Trainer:
    """A trainer whose batches take a second, of which every second one is recorded."""

    def __init__(self, monkeypatch, module):
        self.now, self.module, self.monitor = 0.0, module, TrainingMonitor()
        self.batches, self.accumulates = 0, False
        weight = torch.nn.Parameter(torch.zeros(2))
        weight.grad = torch.tensor([3.0, 4.0])
        self.optimizer = torch.optim.SGD([weight])
        monkeypatch.setattr(training_monitor.time, "perf_counter", lambda: self.now)
        self._logger_connector = self.precision_plugin = self

    @property
    def should_update_logs(self):
        return self.batches % 2 == 1

    def train(self, batch):
        self.monitor.on_train_batch_start(self, self.module, batch, self.batches)
        self.now += 1
        if not self.accumulates:
            self.monitor.on_before_optimizer_step(self, self.module, self.optimizer)
        self.monitor.on_train_batch_end(self, self.module, None, batch, self.batches)
        self.batches += 1

    def validate(self):
        self.monitor.on_validation_start(self, self.module)
        self.now += 100


def batch(rows):
    return torch.zeros(rows, 3), torch.zeros(rows)


def test_the_first_batch_and_validations_do_not_count(monkeypatch):
    trainer = Trainer(monkeypatch, Module())
    trainer.monitor.on_train_start(trainer, trainer.module)
    trainer.train(batch(1000))
    assert "train/images_per_second" not in trainer.module.logged
    trainer.train(batch(10))
    trainer.train(batch(20))
    trainer.validate()
    trainer.train(batch(30))
    trainer.validate()
    trainer.train(batch(40))
    assert trainer.module.logged == {"train/images_per_second": [10.0, (20 + 30) / 2]}


def test_a_second_training_starts_anew(monkeypatch):
    trainer = Trainer(monkeypatch, Module())
    for _ in range(2):
        trainer.batches = 0
        trainer.now += 1000
        trainer.monitor.on_train_start(trainer, trainer.module)
        for _ in range(3):
            trainer.train(batch(8))
    assert trainer.module.logged["train/images_per_second"] == [8.0, 8.0]


def test_rows_are_called_what_the_data_call_them_and_need_not_be_countable(monkeypatch):
    trainer = Trainer(monkeypatch, Module())
    trainer.datamodule = type("Data", (), {"row_name": "point"})()
    trainer.train(batch(8))
    trainer.train({"no": "rows"})
    trainer.train(torch.tensor(1.0))
    trainer.train([])
    assert trainer.module.logged == {}
    trainer.train(batch(12))
    trainer.train(batch(13))
    assert trainer.module.logged == {"train/points_per_second": [(12 + 13) / 5]}  # of all seconds since the first batch


def test_batches_whose_gradients_are_added_up_are_one_record(monkeypatch):
    trainer = Trainer(monkeypatch, Module("cuda"))
    waits = []
    monkeypatch.setattr(torch.cuda, "synchronize", waits.append)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 0)
    trainer.train(batch(8))
    trainer.batches = 1  # all of these are the recorded step's
    for accumulates in (True, True, False):
        trainer.accumulates, trainer.batches = accumulates, 1
        trainer.train(batch(10))
    assert trainer.module.logged["train/images_per_second"] == [10.0]
    assert len(waits) == 1


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # torch 2.11's word on every such tensor
def test_sparse_gradients_have_a_length_too(monkeypatch):
    trainer = Trainer(monkeypatch, Module())
    weight = torch.nn.Parameter(torch.zeros(5, 1))
    weight.grad = torch.sparse_coo_tensor(
        [[1, 1, 3]], [[1.0], [2.0], [4.0]], (5, 1), check_invariants=True
    )  # 3 at 1, 4 at 3
    trainer.optimizer = torch.optim.SGD([weight])
    trainer.batches = 1
    trainer.train(batch(8))
    assert trainer.module.norm == 5


@pytest.mark.parametrize(("fused", "norm"), [(True, 5 / 1024), (False, 5.0)])
def test_a_fused_optimisers_gradients_are_measured_without_their_scale(monkeypatch, fused, norm):
    trainer = Trainer(monkeypatch, Module())
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    trainer.scaler.scale(torch.tensor(1.0))
    trainer.optimizer._step_supports_amp_scaling = fused
    trainer.batches = 1
    trainer.train(batch(8))
    assert trainer.module.norm == norm


def test_a_gpus_memory_is_recorded_after_it_has_done_what_was_asked(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: asked.append(("wait", device.type)))
    monkeypatch.setattr(
        torch.cuda, "max_memory_allocated", lambda device: asked.append(("peak", device.type)) or 3 << 19
    )
    trainer = Trainer(monkeypatch, Module("cuda"))
    for _ in range(3):
        trainer.train(batch(8))
    assert asked == [("wait", "cuda"), ("peak", "cuda")]  # only where a record is kept
    assert trainer.module.logged["train/gpu_memory_mib"] == [1.5]


def test_a_trainings_records_have_the_gradients_length(fit, monkeypatch):
    lengths = []

    def kept(self, _):
        squares = sum(float(weight.grad.double().square().sum()) for weight in self.parameters())
        lengths.append(math.sqrt(squares))

    monkeypatch.setattr(LitClassification, "on_before_optimizer_step", kept)
    run, _ = fit("mnist", *SHORT, "--trainer.gradient_clip_val=0.01")
    assert column_of(run, "train/gradient_norm") == pytest.approx(
        lengths[4::5], rel=1e-4
    )  # three million squares are summed in float32
    assert min(lengths) > 0.01  # they are those before clipping
    assert [int(row["step"]) for row in rows_of(run) if row["train/images_per_second"]] == [4, 9, 14, 19]
    assert all(value > 1 for value in column_of(run, "train/images_per_second"))
    assert "train/gpu_memory_mib" not in rows_of(run)[0]
