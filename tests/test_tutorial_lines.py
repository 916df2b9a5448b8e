"""Lines in a tutorial's own words: when they are printed and what their fields mean."""

import pytest
import torch
from run_records import column_of

from lit_l2softmax.__main__ import main
from lit_l2softmax.callbacks import TutorialLines

LINES = "--trainer.callbacks=lit_l2softmax.callbacks.TutorialLines"


def printed_by(fit, config, line, *options, every=1, starting="|"):
    run, printed = fit(
        config,
        LINES,
        f"--trainer.callbacks.line={starting}{line}",
        f"--trainer.callbacks.every_n_steps={every}",
        "--trainer.limit_val_batches=0",
        *options,
    )
    return run, [line.removeprefix(starting) for line in printed.out.splitlines() if line.startswith(starting)]


def test_a_line_every_so_many_steps_from_the_first_on(fit):
    _, lines = printed_by(fit, "yoghurt", "{step} {epoch} {batch}", "--trainer.max_steps=10", every=3)
    assert lines == ["0 0 0", "3 0 3", "6 1 2", "9 2 1"]


def test_steps_can_be_counted_anew_in_each_epoch(fit):
    options = ("--trainer.max_steps=10", "--trainer.callbacks.each_epoch=true")
    _, lines = printed_by(fit, "yoghurt", "{step} {epoch} {batch}", *options, every=3)
    assert lines == ["0 0 0", "3 0 3", "4 1 0", "7 1 3", "8 2 0"]


def test_batches_that_end_no_step_print_nothing(fit):
    options = ("--trainer.max_steps=4", "--trainer.accumulate_grad_batches=2")
    _, lines = printed_by(fit, "yoghurt", "{step} {batch}", *options)
    assert lines == ["0 1", "1 3", "2 1", "3 3"]
    _, lines = printed_by(fit, "yoghurt", "{step} {batch}", *options, "--trainer.callbacks.each_epoch=true", every=2)
    assert lines == ["0 1", "2 1"]


def test_the_loss_of_accumulated_batches_is_the_last_batchs_own(fit):
    options = ("--trainer.max_steps=3", "--trainer.accumulate_grad_batches=2", "--optimizer.lr=0")
    _, lines = printed_by(fit, "parabola", "{loss}", *options)
    assert lines == ["36.0"] * 3


def test_losses_are_those_before_the_update_and_weights_those_after_it(fit):
    options = ("--trainer.max_steps=3", "--trainer.log_every_n_steps=1", "--optimizer.lr=0.25")
    run, lines = printed_by(fit, "parabola", "{loss} {network.weight:.3f} {loss_on_all}", *options)
    before, weights, after = zip(*(line.split() for line in lines), strict=True)
    assert [float(loss) for loss in before] == column_of(run, "train/loss") == [36.0, 9.0, 2.25]
    assert weights == ("2.000", "0.500", "-0.250")
    assert [float(loss) for loss in after] == [9.0, 2.25, 0.5625]


def test_accuracy_is_that_of_the_batch_before_the_update_without_dropout(fit):
    """Every unit dropped would make all answers one."""
    accuracies = []
    for dropout in (0.0, 0.999):
        _, lines = printed_by(
            fit,
            "lenet",
            "{accuracy}",
            "--trainer.max_steps=1",
            "--data.source=digits",
            f"--model.network.dropout={dropout}",
            "--optimizer.lr=0.5",
            "--trainer.log_every_n_steps=1",
        )
        accuracies.append(float(lines[0]))
    assert accuracies[0] == accuracies[1] > 0


def test_the_accuracy_of_a_network_without_dropout_is_the_recorded_one(fit):
    options = ("--trainer.max_steps=3", "--data.source=digits", "--trainer.log_every_n_steps=1")
    run, lines = printed_by(fit, "lenet_tutorial", "{accuracy}", *options)
    assert [float(line) for line in lines] == pytest.approx(column_of(run, "train/accuracy"))


def test_to_print_changes_nothing(fit):
    states = []
    for line in ("{step}", "{accuracy} {loss}"):
        run, _ = printed_by(fit, "lenet", line, "--trainer.max_steps=3", "--data.source=digits")
        states.append(torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_the_loss_on_all_is_that_of_images_as_the_network_sees_them(fit):
    """System 5's images reach the network from -1 to 1; 1,397 digits in batches of 64 are not all of one size, and none
    of them is left out where a shuffled training leaves some.
    """
    options = ("--trainer.max_epochs=1", "--data.source=digits", "--data.shuffle=false", "--optimizer.lr=0")
    run, lines = printed_by(fit, "recogniser_mse", "{loss_on_all}", *options, "--trainer.log_every_n_steps=1", every=99)
    losses = torch.tensor(column_of(run, "train/loss"))
    sizes = torch.tensor([64.0] * (len(losses) - 1) + [1397 % 64])
    assert float(lines[0]) == pytest.approx(float((losses * sizes).sum() / sizes.sum()), rel=1e-5)
    shuffled = ("--trainer.max_steps=1", "--trainer.max_epochs=-1", "--data.source=digits", "--optimizer.lr=0")
    _, again = printed_by(fit, "recogniser_mse", "{loss_on_all}", *shuffled)
    assert float(again[0]) == pytest.approx(float(lines[0]), rel=1e-5)


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "bf16-mixed"])
def test_lines_are_filled_in_at_every_precision(fit, precision):
    options = ("--trainer.max_steps=1", f"--trainer.precision={precision}", "--trainer.enable_checkpointing=true")
    for config, line in (("parabola", "{network.weight} {loss_on_all} {loss}"), ("dots", "{accuracy} {loss_on_all}")):
        _, lines = printed_by(fit, config, line, *options)
        numbers = [float(word) for word in lines[0].split()]
        assert numbers == pytest.approx([2.6, 12.96, 36.0], rel=0.01) if config == "parabola" else numbers[1] > 1
    _, lines = printed_by(fit, "lenet_tutorial", "{loss:.3f}", *options, "--data.source=digits")
    assert 2 < float(lines[0]) < 2.6


def test_the_last_line_comes_when_all_is_over(fit):
    _, lines = printed_by(
        fit,
        "yoghurt",
        "{step}",
        "--trainer.max_steps=5",
        "--trainer.callbacks.last=|done {step} {network.weight}",
        every=2,
    )
    assert lines[:3] == ["0", "2", "4"]
    assert lines[3].startswith("done 5 [")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["line={lose}"], "TutorialLines: there is no field 'lose' here; did you mean 'loss'?"),
        (["line={network.weigth}"], "no field 'network.weigth' here; did you mean 'network.weight'?"),
        (["line=a {} b"], "TutorialLines: there is no field '' here"),
        (["line={step"], "expected '}' before end of string"),
        (["line={network.weight:.6f}"], "TutorialLines: '{network.weight:.6f}' cannot be filled in"),
        (["line={step:x.y}"], "TutorialLines: '{step:x.y}' cannot be filled in"),
        (["line={step:{wrong}}"], "TutorialLines: '{step:{wrong}}' cannot be filled in"),
        (["line={accuracy}"], "TutorialLines: there is no field 'accuracy' here"),
        (["line={step}", "last={loss}"], "TutorialLines: there is no field 'loss' here"),
        (["line={step}", "every_n_steps=0"], "every_n_steps must be at least 1, got 0"),
    ],
)
def test_a_line_that_cannot_be_filled_in_is_refused_before_the_first_step(capsys, tmp_path, options, message):
    given = [f"--trainer.callbacks.{option}" for option in options]
    if not any(option.startswith("every") for option in options):
        given.append("--trainer.callbacks.every_n_steps=1")
    status = main(["fit", "--config=yoghurt", f"--runs={tmp_path / 'runs'}", LINES, *given])
    assert status == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_a_module_without_an_objective_has_no_loss_on_all(capsys, tmp_path):
    given = ["--trainer.callbacks.line={loss_on_all}", "--trainer.callbacks.every_n_steps=1", "--data.source=digits"]
    assert main(["fit", "--config=lenet", f"--runs={tmp_path / 'runs'}", LINES, *given]) == 2
    error = capsys.readouterr().err
    assert "LitClassification or MNISTData has no objective or no training rows for 'loss_on_all'" in error


def test_a_tutorials_lines_take_the_place_of_plain_progress(fit):
    for config, expected in (("parabola", False), ("lenet_tutorial", False), ("mnist_tutorial", True)):
        source = () if config == "parabola" else ("--data.source=digits",)
        _, printed = fit(config, "--trainer.max_steps=10", *source)
        assert ("steps/s" in printed.out) == expected


def test_it_wants_a_step_to_count():
    with pytest.raises(ValueError, match="every_n_steps must be at least 1"):
        TutorialLines("{step}", 0)
