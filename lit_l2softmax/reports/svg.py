"""Figures as inline SVG in the colours of the page around them, light or dark."""

import io
import re
from html import escape

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

from lit_l2softmax.plots import write

# What a figure is drawn in, and the page's variable that takes its place.
VARIABLES = {
    "#000000": "ink",
    "#ffffff": "page",
    "#1f77b4": "first",
    "#ff7f0e": "second",
    "#009e73": "third",
    "#cc79a7": "fourth",
    "#4c4c4c": "ink",
    "#8c8c8c": "muted",
    "#cccccc": "grid",
    "#ebebeb": "grid",
}
_COLOUR = re.compile("|".join(VARIABLES))
_NUMBERED = re.compile(r' id="[A-Za-z0-9.]+_\d+"')
_FONT = re.compile(r" font-family: [^;\"]*;?")  # the page has one
_STYLE = re.compile(r"<style.*?</style>", re.DOTALL)
_TAG = re.compile(r"<[^>]*>")
_DIGITS = re.compile(r"(?<=\d\.\d\d)\d+")  # of a coordinate, beyond a hundredth of a point
NOTHING = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def inline(figure: Figure, name: str, label: str) -> Markup:
    """An ``svg`` element.

    Args:
        figure: in matplotlib's default black, white and greys and the colours above.
        name: tells the element's parts from those of others on the page.
        label: says what is to be seen, for those who do not see it.
    """
    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        write(figure, file, format="svg", transparent=True, metadata=NOTHING)
    _, _, drawn = file.getvalue().partition("<svg")
    for superfluous in (_NUMBERED, _FONT, _STYLE):
        drawn = superfluous.sub("", drawn)
    drawn = _TAG.sub(lambda found: _DIGITS.sub("", found[0]), drawn)
    drawn = _COLOUR.sub(lambda found: f"var(--{VARIABLES[found[0]]})", drawn)
    return Markup(f'<svg role="img" aria-label="{escape(label)}"{drawn}')
