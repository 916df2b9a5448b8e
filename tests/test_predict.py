"""`predict --images`: a class and a probability for each picture, and a picture of them all."""

import re
from pathlib import Path

import pytest
from PIL import Image

from lit_l2softmax.__main__ import main
from lit_l2softmax.data import digits


@pytest.fixture
def run(fit):
    folder, _ = fit(
        "mnist",
        "--trainer.max_steps=60",
        "--trainer.val_check_interval=60",
        "--data.source=digits",
        "--data.batch_size=64",
    )
    return folder


def test_own_pictures_are_recognised_dark_on_light_or_light_on_dark(run, tmp_path, capsys):
    _, _, (images, labels) = digits.load_digits()
    paths = []
    for number, image in enumerate(images[:10]):
        pixels = image[0].numpy() if number % 2 else 255 - image[0].numpy()
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(pixels).convert("RGB").resize((150, 150)).save(paths[-1])
    assert main(["predict", f"--run={run}", "--images", *map(str, paths)]) == 0
    *lines, picture = capsys.readouterr().out.splitlines()
    right = 0
    for path, label, line in zip(paths, labels[:10].tolist(), lines, strict=True):
        name, _, said = line.partition(": ")
        assert name == str(path)
        assert said[1:].startswith("  (probability ")
        right += said[0] == str(label)
    assert right >= 8  # 60 steps reach some .95 on the test images themselves
    assert Path(picture).parent == run / "plots"
    with Image.open(picture) as drawn:
        assert drawn.size[0] > 500


def test_the_probability_is_that_of_the_class_and_the_ink_is_as_told(run, tmp_path, capsys):
    _, _, (images, _) = digits.load_digits()
    path = tmp_path / "digit.png"
    Image.fromarray(255 - images[0, 0].numpy()).save(path)
    lines = {}
    for ink in ("auto", "dark", "light"):
        assert main(["predict", f"--run={run}", f"--images={path}", f"--ink={ink}"]) == 0
        lines[ink] = capsys.readouterr().out.splitlines()[0]
        assert float(lines[ink].split()[-1].rstrip(")")) >= 0.1  # the largest of ten
    assert lines["light"] != lines["dark"]


def test_a_checkpoint_that_stands_alone_has_its_picture_beside_it(run, tmp_path, capsys):
    alone = tmp_path / "elsewhere" / "alone.ckpt"
    alone.parent.mkdir()
    (run / "checkpoints" / "best.ckpt").rename(alone)
    assert main(["predict", f"--ckpt_path={alone}"]) == 0
    assert Path(capsys.readouterr().out.splitlines()[-1]).parent == alone.parent


def test_a_bad_picture_is_one_clear_line(run, tmp_path, capsys):
    (tmp_path / "x.png").write_bytes(b"nonsense")
    assert main(["predict", f"--run={run}", "--images", str(tmp_path / "x.png")]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path}/x.png is not a picture in a format that can be read\n"
    assert not list((run / "plots").glob("predictions*"))


def test_a_regression_says_numbers_or_the_nearest_class(fit, capsys):
    """Points have no picture; images have."""
    for config, pattern in (
        ("yoghurt", r"test point \d: -?\d+\.\d{4}"),
        ("dots", r"test point \d: [01]  \(output -?\d+\.\d{4}\)"),
        ("recogniser_mse", r"test image \d: \d  \(output -?\d+\.\d{4}\)"),
    ):
        source = ["--data.source=digits"] if config == "recogniser_mse" else []
        run, _ = fit(
            config, "--trainer.max_steps=1", "--trainer.max_epochs=-1", "--trainer.limit_val_batches=0", *source
        )
        assert main(["predict", f"--run={run}"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [bool(re.fullmatch(pattern, line)) for line in lines[:4]] == [True] * 4
        assert bool(list(run.glob("plots/predictions-*.png"))) == (config == "recogniser_mse") == (len(lines) == 5)
