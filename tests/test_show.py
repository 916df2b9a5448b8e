"""`show`: the tutorials' numbers to their digits, pictures of them, and a list that waits for nothing."""

import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from lit_l2softmax import plots
from lit_l2softmax.__main__ import main
from lit_l2softmax.commands.show import DEMONSTRATIONS
from lit_l2softmax.demos import convolution, optimisation, recognition
from lit_l2softmax.schedules import averaging_decay

PICTURED = {name for name, (_, text) in DEMONSTRATIONS.items() if text.endswith("; a picture")}


@pytest.fixture
def shown(tmp_path, capsys):
    """What a demonstration prints, with single blanks and none around a line."""

    def run(name):
        assert main(["show", name, "--plots", str(tmp_path / "plots")]) == 0
        printed = capsys.readouterr()
        assert not printed.err
        return "".join(f"{' '.join(line.split())}\n" for line in printed.out.splitlines())

    return run


def test_cross_entropies_are_the_programs_and_the_texts(shown):
    text = shown("cross-entropy")
    # natural, base 10, and over the tensor, which halves for two classes
    assert "(0.6, 0.4) 0.5108 0.2218 0.2554\n(0.8, 0.2) 0.2231 0.0969 0.1116\n" in text
    assert "The text prints 0.222 and 0.097, with base-10 logarithms" in text
    assert "divides by n * C, examples times classes, here 1 * 2." in text
    assert "it makes 0.1835; their mean cross-entropy is 0.3670." in text


def test_a_3_4_2_network_has_2_layers_and_26_parameters(shown):
    text = shown("parameters")
    assert "hidden layers + 1 = 1 + 1 = 2;" in text
    assert "3 * 4 + 4 + 4 * 2 + 2 = 26:" in text
    assert "has 2 layers with parameters:\n0.weight 12\n0.bias 4\n2.weight 8\n2.bias 2\nall 26\n" in text
    assert 'lost its asterisks: its "34+4 + 42+2"' in text


def test_activations_and_their_slopes_are_the_functions(shown):
    text = shown("activations")
    for x in range(-2, 3):
        sigmoid, tanh = 1 / (1 + np.exp(-x)), np.tanh(x)
        values = (sigmoid, sigmoid * (1 - sigmoid), tanh, 1 - tanh**2, max(x, 0), float(x > 0))
        assert f"\n{x} {' '.join(f'{value:.4f}' for value in values)}\n" in text
    assert "s * (1 - s), at most 0.25\n" in text
    assert "1 - t * t, at most 1.00\n" in text
    assert "wrong sign" in text
    assert "at 2\nthe sigmoid is 0.8808, and 1 / (1 + exp(x)), which falls, is 0.1192." in text


def test_the_moving_average_has_every_digit_that_tensorflow_prints(shown):
    text = shown("moving-average")
    printed = " ".join(re.findall(r"^\d .*?(\S+)$", text, re.MULTILINE))
    assert printed == "0.0 0.9 1.6445453 2.3281732 2.955868 3.532206 4.061389 4.547275 4.9934072"
    assert "\n1 0 0.1000 1 0.9\n2 100 0.9182 10 1.6445453\n" in text
    assert "w1 is updated to 1.644. That is its average" in text
    assert "w1 stays 10." in text


def test_the_training_averages_with_the_decay_that_is_shown(monkeypatch):
    from lit_l2softmax.callbacks import exponential_moving_average

    for module in (exponential_moving_average, optimisation):
        assert module.averaging_decay is averaging_decay
    monkeypatch.setattr(optimisation, "averaging_decay", lambda decay, earlier_updates: 0.0)
    assert "0.0000    10   10.0\n" in optimisation.moving_average().text


def test_lenets_arithmetic_and_its_layers_add_up(shown):
    text = shown("lenet-parameters")
    for line in (
        "each unit sees every pixel 1,000,000,000,000 1e12",
        "each unit sees 10 x 10 pixels 100,000,000 1e8",
        "all units share one filter of 10 x 10 100 1e2",
        "a hundred such filters 10,000 1e4",
        "Seeing 10 x 10 pixels instead of all saves 4 orders of magnitude.",
        "conv1 32 x 24 x 24 832",
        "conv2 64 x 8 x 8 51,264",
        "dense 1024 1,049,600",
        "the head 10 10,250",
        "all 1,111,946",
        "flat_size = 7 * 7 * 64 = 3,136, and never uses it.",
        "4 * 4 * 64 = 1,024.",
    ):
        assert line in text


def test_the_filter_slides_over_nine_places(shown):
    text = shown("convolution")
    assert "image\n1 1 1 0 0\n0 1 1 1 0\n0 0 1 1 1\n0 0 1 1 0\n0 1 1 0 0\n" in text
    assert "filter\n1 0 1\n0 1 0\n1 0 1\n" in text
    assert "result\n4 3 4\n2 4 3\n2 3 4\n" in text
    sums = re.findall(r"row (\d), column (\d): (.*) = (\d)\n", text)
    assert [int(total) for *_, total in sums] == [4, 3, 4, 2, 4, 3, 2, 3, 4]
    for row, column, terms, total in sums:
        row, column = int(row) - 1, int(column) - 1
        window = convolution.IMAGE[row : row + 3, column : column + 3]
        corners_and_middle = [window[0, 0], window[0, 2], window[1, 1], window[2, 0], window[2, 2]]
        assert terms == " + ".join(str(int(pixel)) for pixel in corners_and_middle)
        assert sum(map(int, terms.split(" + "))) == int(total)


def test_the_logarithm_of_a_probability_is_its_loss(shown):
    text = shown("logarithm")
    assert "0.01 -4.6052\n0.10 -2.3026\n0.50 -0.6931\n0.90 -0.1054\n1.00 0.0000\n" in text


def test_the_softmax_is_the_texts_and_twice_is_flat(shown):
    text = shown("softmax")
    assert "scores 3 1 -3\nsoftmax 0.8789 0.1189 0.0022 the text prints 0.88, 0.12, 0.00\n" in text
    once = np.exp([3.0, 1.0, -3.0]) / np.exp([3.0, 1.0, -3.0]).sum()
    twice = np.exp(once) / np.exp(once).sum()
    assert "softmax of that " + " ".join(f"{p:.4f}" for p in twice) in text
    of_3, of_10 = (np.e / (np.e + classes - 1) for classes in (3, 10))
    assert f"of 3 classes none gets more than {of_3:.4f}, of 10 none more\nthan {of_10:.4f}" in text
    assert f"never falls below {-np.log(of_10):.4f} there" in text


def test_the_digit_6_is_one_of_ten(shown):
    text = shown("one-hot")
    assert "class 0 1 2 3 4 5 6 7 8 9\nlabel 6 0 0 0 0 0 0 1 0 0 0\n" in text
    loss = np.log(np.exp(np.arange(10)).sum()) - 6
    assert f"- sum(answer * ln p) is {loss:.4f}, and - ln p of class 6 is {loss:.4f}." in text


def test_the_softmax_of_two_is_the_sigmoid_of_their_difference(shown):
    text = shown("two-class-softmax")
    for a, b in ((0, 0), (1, 0), (3, 1), (-2, 3)):
        p = 1 / (1 + np.exp(b - a))
        assert f"\n{a} {b} {p:.6f} {p:.6f}\n" in text
    (apart,) = re.findall(r"at most (\S+) apart", text)
    assert float(apart) <= 4 * np.finfo(float).eps  # an exponential, a sum and a quotient each, of numbers up to 1


def test_a_very_large_tumour_moves_the_line_and_not_the_sigmoid(shown):
    text = shown("tumours")
    assert "ten 3.00 none 3.00 none\nand the eleventh 3.57 3.2, 3.5 3.00 none\n" in text
    assert "The sizes are ours." in text
    sizes = np.array([*recognition.BENIGN, *recognition.MALIGNANT])
    classes = np.repeat([0, 1], 5)
    line = recognition.fitted_line(sizes, classes)
    slope = np.cov(sizes, classes)[0, 1] / sizes.var(ddof=1)
    assert line.slope == pytest.approx(slope)
    assert line.intercept == pytest.approx(0.5 - slope * sizes.mean())
    assert f"gives the largest of ten tumours {slope * 5 + line.intercept:.2f}." in text.replace("\n", " ")
    # Where the sum of cross-entropies plus half the square of the slope is least, its derivatives vanish; scikit-learn
    # stops where the mean over the ten tumours is below 1e-4.
    sigmoid = recognition.fitted_sigmoid(sizes, classes)
    errors = 1 / (1 + np.exp(-sigmoid.slope * sizes - sigmoid.intercept)) - classes
    assert abs(errors.sum()) < 1e-3
    assert abs((errors * sizes).sum() + sigmoid.slope) < 1e-3
    assert line.slope * line.crossing + line.intercept == pytest.approx(0.5)
    assert sigmoid.slope * sigmoid.crossing + sigmoid.intercept == pytest.approx(0, abs=1e-12)


def test_a_white_ball_comes_from_the_white_box(shown):
    text = shown("boxes")
    assert "A 99 1 0.99 -0.0101\nB 1 99 0.01 -4.6052\n" in text
    assert "most probable:\nA, 0.99 against 0.01.\n" in text


def test_all_are_shown_one_after_the_other_with_the_pictures_they_have(tmp_path, capsys):
    folder = tmp_path / "made" / "too"
    assert main(["show", "all", "--plots", str(folder)]) == 0
    text = capsys.readouterr().out
    headings = [f"{name}  (System {system})" for name, (system, _) in DEMONSTRATIONS.items()]
    assert [line for line in text.splitlines() if line in headings] == headings
    assert {path.name for path in folder.iterdir()} == {f"{name}.png" for name in PICTURED}
    assert {line for line in text.splitlines() if line.endswith(".png")} == set(map(str, folder.iterdir()))
    for path in folder.iterdir():
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            assert (np.asarray(picture.convert("L")) < 250).mean() > 0.02, path
    assert max(map(len, text.replace(str(folder), "").splitlines())) <= 104


def test_a_demonstration_without_a_picture_makes_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["show", "boxes"]) == 0
    assert not list(tmp_path.iterdir())
    assert main(["show", "logarithm"]) == 0
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png")] == ["plots/logarithm.png"]


def lines_of(name):
    """The curves of a demonstration's picture, by axes and label."""
    system, _ = DEMONSTRATIONS[name]
    module = {3: optimisation, 4: convolution, 5: recognition}[system]
    axes = getattr(module, name.replace("-", "_"))().picture.axes
    return [{line.get_label(): line.get_xydata() for line in axis.get_lines()} for axis in axes]


def test_the_curves_that_are_drawn_are_the_functions():
    values, slopes = lines_of("activations")
    for drawn in (values, slopes):
        assert list(drawn) == ["sigmoid", "tanh", "ReLU"]
    x, y = values["tanh"].T
    assert y == pytest.approx(np.tanh(x), abs=1e-6)
    assert slopes["tanh"][:, 1] == pytest.approx(1 - np.tanh(x) ** 2, abs=1e-6)
    (drawn,) = lines_of("moving-average")
    average, constant = (drawn[label] for label in drawn if label.startswith("its average"))
    assert average[8] == pytest.approx((8, 4.9934072))
    assert constant[1] == pytest.approx((1, 0.01))
    assert drawn["w1"][:3].tolist() == [[0, 0], [1, 1], [2, 10]]
    assert (
        optimisation.moving_average().picture.axes[0].get_lines()[0].get_drawstyle() == "steps-pre"
    )  # set, then averaged
    (drawn,) = lines_of("logarithm")
    ((x, y),) = (line.T for line in drawn.values())
    assert (x[0], x[-1], y[-1]) == pytest.approx((0.01, 1, 0))
    assert y == pytest.approx(np.log(x))
    (drawn,) = lines_of("two-class-softmax")
    x, y = drawn["softmax, second class"].T
    assert y == pytest.approx(1 / (1 + np.exp(x)))
    without, with_large = lines_of("tumours")
    assert "missed by the line" not in without
    assert with_large["missed by the line"][:, 0].tolist() == [3.2, 3.5]
    for drawn in (without, with_large):
        for name in ("straight line", "sigmoid"):
            (label,) = (label for label in drawn if label.startswith(f"{name}, 0.5 at"))
            x, y = drawn[label].T
            assert np.interp(0.5, y, x) == pytest.approx(float(label.split()[-2]), abs=0.006)


def test_every_place_of_the_filter_is_drawn_where_it_is():
    places = [axis for axis in convolution.convolution().picture.axes if axis.patches]
    assert [axis.get_title() for axis in places] == list("434243234")
    for place, axis in enumerate(places):
        *ones, frame = axis.patches
        assert frame.get_xy() == (place % 3 - 0.5, place // 3 - 0.5)
        assert (frame.get_width(), frame.get_height()) == (3, 3)
        drawn = {(round(one.get_y() - frame.get_y()), round(one.get_x() - frame.get_x())) for one in ones}
        assert drawn == {(0, 0), (0, 2), (1, 1), (2, 0), (2, 2)}


def test_a_picture_is_written_whole_or_not_at_all(tmp_path, capsys, monkeypatch):
    assert main(["show", "logarithm", "--plots", str(tmp_path)]) == 0
    (picture,) = tmp_path.iterdir()
    before = picture.read_bytes()

    def fails_half_way(figure, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(plots, "save", fails_half_way)
    capsys.readouterr()
    assert main(["show", "logarithm", "--plots", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert "cannot be written (No space left on device)" in printed.err
    assert not printed.out
    assert list(tmp_path.iterdir()) == [picture]
    assert picture.read_bytes() == before


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["tumours", "--help"], ["--plots", "x"], ["tumour"]])
def test_the_list_waits_for_nothing(arguments):
    program = (
        "import sys; from lit_l2softmax.__main__ import main; status = main(['show', *sys.argv[1:]]);"
        "assert not {'torch', 'matplotlib', 'numpy', 'sklearn', 'lightning'} & set(sys.modules); sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == (2 if arguments == ["tumour"] else 0), done.stderr
    if arguments != ["tumour"]:
        assert done.stdout.startswith("usage: python -m lit_l2softmax show NAME [--plots FOLDER]\n")
        for name, (_, text) in DEMONSTRATIONS.items():
            assert done.stdout.count(f"\n  {name:<20}{text}\n") == 1
        for heading in ("System 3\n  cross-entropy ", "System 4\n  lenet-parameters ", "System 5\n  logarithm "):
            assert heading in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sofmax"], "'sofmax' is not a demonstration; did you mean 'softmax'?"),
        (["moving_average"], "'moving_average' is not a demonstration; did you mean 'moving-average'?"),
        (["zz"], f"'zz' is not a demonstration; there are {', '.join(DEMONSTRATIONS)}, all"),
        (["softmax", "--plot", "x"], "'plot' is not an option; did you mean 'plots'?"),
        (["--zzz"], "'zzz' is not an option"),
        (["softmax", "boxes"], "unrecognized arguments: boxes"),
        (["softmax", "--plots"], "argument --plots: expected one argument"),
        (["softmax", "--plots="], "--plots needs the name of a folder"),
    ],
)
def test_what_is_wrong_is_one_line(capsys, arguments, message):
    assert main(["show", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.err == f"error: {message}\n"
    assert not printed.out


@pytest.mark.parametrize(("folder", "reason"), [("a_file", "File exists"), ("a_file/x", "Not a directory")])
def test_a_folder_that_takes_no_picture_is_one_line(tmp_path, monkeypatch, capsys, folder, reason):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a_file").touch()
    assert main(["show", "logarithm", "--plots", folder]) == 2
    printed = capsys.readouterr()
    message = f"the picture {folder}/logarithm.png cannot be written ({reason}); name another folder with --plots"
    assert printed.err == f"error: {message}\n"
    assert not printed.out
