"""What every demonstration gives."""

from typing import NamedTuple

from matplotlib.figure import Figure


class Demonstration(NamedTuple):
    """The lines that a demonstration prints and, where there is something to see, its picture."""

    text: str
    picture: Figure | None = None
