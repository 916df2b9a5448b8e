"""A page as a file."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from lit_l2softmax.whole_files import write_whole

REPORT_FILE = "report.html"


def write(folder: Path, template: str, **content: Any) -> Path:
    """Writes ``report.html`` into a folder, whole or not at all, and returns its path."""
    environment = Environment(
        loader=PackageLoader("lit_l2softmax.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = figure
    text = environment.get_template(template).render(**content)
    path = folder / REPORT_FILE
    write_whole(path, text, errors="xmlcharrefreplace")
    return path


def figure(value: Any) -> str:
    """A value as a person reads it: thousands apart, four decimals of what is small, a dash for what is not there."""
    if value is None:
        return "–"  # noqa: RUF001 - a dash on a page is one
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    size = abs(value)
    if isinstance(value, int) or (1 < size < 1e9 and value.is_integer()):
        return f"{int(value):,}"
    if not 1e-3 <= size < 1e9 and size != 0:
        return f"{value:.2g}"
    return f"{value:,.1f}" if size >= 10 else f"{value:.4f}"
