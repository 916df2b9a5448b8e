"""``show``: the demonstrations of Systems 3 to 5 that train nothing, printed and drawn."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NoReturn

from lit_l2softmax.errors import ConfigError
from lit_l2softmax.messages import nearest_or_all, one_line
from lit_l2softmax.program import COMMANDS, PROGRAM

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALL = "all"
FOLDER = "plots"
FILES = {3: "optimisation", 4: "convolution", 5: "recognition"}  # in demos/, by system
# Their functions bear the same names; what they show is said here, for a list that must not wait for torch.
DEMONSTRATIONS = {
    "cross-entropy": (3, "two predictions of one answer, and the logarithm that the text takes"),
    "parameters": (3, "the layers and the 26 parameters of a 3-4-2 network"),
    "activations": (3, "sigmoid, tanh and ReLU with their derivatives; a picture"),
    "moving-average": (3, "an average chases its variable, as TensorFlow's; a picture"),
    "lenet-parameters": (4, "what a convolution saves on a large image, and what LeNet has"),
    "convolution": (4, "a 3x3 filter slides over a 5x5 image; a picture"),
    "logarithm": (5, "ln x of a probability, from which the loss is made; a picture"),
    "softmax": (5, "three scores as probabilities, once and wrongly twice"),
    "one-hot": (5, "the digit 6 as ten probabilities"),
    "two-class-softmax": (5, "the softmax of two scores is the sigmoid of their difference; a picture"),
    "tumours": (5, "a straight line and a sigmoid meet one very large tumour; a picture"),
    "boxes": (5, "a white ball, two boxes, and maximum likelihood"),
}


class _Parser(argparse.ArgumentParser):
    """Says what is wrong and leaves the rest to whoever called."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(one_line(ValueError(message), ["plots"]))


def overview() -> str:
    """Every demonstration with what it shows, and the options."""
    lines = [
        f"usage: {PROGRAM} show NAME [--plots FOLDER]",
        "",
        COMMANDS["show"],
    ]
    for system in FILES:
        lines += ["", f"System {system}"]
        lines += [f"  {name:<20}{text}" for name, (of, text) in DEMONSTRATIONS.items() if of == system]
    lines += [
        "",
        f"  {ALL:<20}every one of them",
        f"  {'--plots FOLDER':<20}where pictures go (default: {FOLDER})",
    ]
    return "\n".join(lines)


def shown(name: str, folder: Path) -> str:
    """What a demonstration prints; its picture, if it has one, is written as ``<folder>/<name>.png``.

    Raises:
        ConfigError: where the picture cannot be written.
    """
    from lit_l2softmax import demos  # torch and matplotlib take seconds, which the list need not wait for

    system, _ = DEMONSTRATIONS[name]
    text, picture = getattr(getattr(demos, FILES[system]), name.replace("-", "_"))()
    path = folder / f"{name}.png"
    if picture is not None:
        _save(picture, path)
        text += f"\n\n{path}"
    return f"{name}  (System {system})\n\n{text}"


def _save(picture: "Figure", path: Path) -> None:
    """Writes a picture whole or not at all."""
    from lit_l2softmax import plots

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".", dir=path.parent) as beside:
            plots.save(picture, Path(beside) / path.name)
            (Path(beside) / path.name).replace(path)
    except OSError as error:
        raise ConfigError(
            f"the picture {path} cannot be written ({error.strerror}); name another folder with --plots"
        ) from error


def main(arguments: Sequence[str]) -> int:
    """Shows the named demonstration, or all of them; lists them where none is named.

    Raises:
        ConfigError: on an unknown name or option, or a picture that cannot be written.
    """
    _, *options = arguments
    if {"-h", "--help"} & set(options):
        print(overview())
        return 0
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("name", nargs="?")
    parser.add_argument("--plots", default=FOLDER)
    given = parser.parse_args(options)
    if given.name is None:
        print(overview())
        return 0
    if given.name not in (*DEMONSTRATIONS, ALL):
        known = nearest_or_all(given.name, [*DEMONSTRATIONS, ALL])
        raise ConfigError(f"{given.name!r} is not a demonstration{known}")
    if not given.plots:
        raise ConfigError("--plots needs the name of a folder")
    names = list(DEMONSTRATIONS) if given.name == ALL else [given.name]
    for place, name in enumerate(names):
        text = shown(name, Path(given.plots))
        print(f"\n\n{text}" if place else text)
    return 0
