"""The schedules against TensorFlow's formulas, in Python and through the command line."""

import pytest
import torch
from run_records import column_of

from lit_l2softmax.schedules import ExponentialDecay, averaging_decay


def rates(steps, **options):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    schedule = ExponentialDecay(optimizer, **options)
    for _ in range(steps):
        yield optimizer.param_groups[0]["lr"]
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize("staircase", [True, False])
def test_it_is_tensorflows_formula(staircase):
    for t, rate in enumerate(rates(50, decay_steps=7, decay_rate=0.4, staircase=staircase)):
        exponent = t // 7 if staircase else t / 7
        assert rate == pytest.approx(0.3 * 0.4**exponent, rel=1e-12)


@pytest.mark.parametrize("options", [{"decay_steps": 0}, {"decay_steps": 5, "decay_rate": 0.0}])
@pytest.mark.parametrize("rate", [None, float("nan"), float("inf"), -1.0])
def test_numbers_that_make_no_schedule_are_refused(options, rate):
    if rate is not None:
        options = {"decay_steps": 5, "decay_rate": rate}
    with pytest.raises(ValueError, match="decay_steps must be at least 1 and decay_rate positive and finite, got"):
        list(rates(1, **options))


def test_the_decay_of_an_average_grows_to_what_was_asked_for():
    assert averaging_decay(0.9999, 0) == 0.1
    assert averaging_decay(0.9999, 100) == 101 / 110
    assert averaging_decay(0.9999, 89_980) < 0.9999
    assert averaging_decay(0.9999, 89_991) == 0.9999
    assert averaging_decay(0.5, 10**6) == 0.5


def test_on_the_command_line_it_counts_steps_and_is_resumed_where_it_was(fit):
    options = [
        "--lr_scheduler=lit_l2softmax.schedules.ExponentialDecay",
        "--lr_scheduler.decay_steps=4",
        "--lr_scheduler.staircase=true",
        "--optimizer.lr=0.001",
        "--trainer.log_every_n_steps=1",
        "--data.source=digits",
        "--trainer.limit_val_batches=1",
    ]

    first, _ = fit("mnist", *options, "--trainer.max_steps=9")  # 1,197 digits: an epoch
    expected = [1e-3 * 0.1 ** (step // 4) for step in range(13)]
    assert column_of(first, "train/learning_rate") == pytest.approx(expected[:9])
    then, _ = fit("mnist", *options, "--trainer.max_steps=13", f"--ckpt_path={first / 'checkpoints' / 'last.ckpt'}")
    assert column_of(then, "train/learning_rate") == pytest.approx(expected[9:])


def test_other_schedules_count_epochs_as_they_did(fit):
    run, _ = fit(
        "mnist",
        "--lr_scheduler=StepLR",
        "--lr_scheduler.step_size=1",
        "--trainer.max_steps=10",
        "--trainer.log_every_n_steps=1",
        "--data.source=digits",
        "--trainer.limit_val_batches=1",
    )
    assert column_of(run, "train/learning_rate") == pytest.approx([1e-3] * 9 + [1e-4])
