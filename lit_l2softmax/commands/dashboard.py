"""``dashboard``: W&B workspaces and reports as code, published where there is a key, and files in any case."""

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from lit_l2softmax.errors import ConfigError, RunError
from lit_l2softmax.messages import nearest_or_all
from lit_l2softmax.program import COMMANDS, PROGRAM
from lit_l2softmax.wandb_options import WandbOptions
from lit_l2softmax.whole_files import write_whole

from .option_parser import OptionParser

if TYPE_CHECKING:
    from lit_l2softmax.dashboards.documents import Document

FAMILIES = {
    "mnist": "System 1, configs/mnist*.yaml",
    "cifar10": "System 2, configs/cifar10*.yaml",
    "sweep": "the sweeps over alpha, configs/sweeps/",
    "bench": "benchmark rows, of files that --rows has logged",
}
FOLDER = "dashboards"
MODES = ("auto", "online", "offline", "disabled")

HELP = f"""usage: {PROGRAM} dashboard [FAMILY ...] [options]

{COMMANDS["dashboard"]}

{chr(10).join(f"  {name:<18}{text}" for name, text in FAMILIES.items())}
                    (default: all of them)

  --folder FOLDER   where they are written, FAMILY.workspace.json and FAMILY.report.json (default: {FOLDER})
  --project NAME    W&B project (default: {WandbOptions.project})
  --entity NAME     W&B user or team (default: the key's own)
  --mode MODE       online publishes too, offline and disabled only write (default: $WANDB_MODE, else online where
                    `wandb login` has left a key); what was published before is replaced
  --rows FILE       with bench: logs benchmark rows, bench/results/<device>.csv, as a W&B run, offline into FOLDER
"""


def main(arguments: Sequence[str]) -> int:
    """Writes the asked dashboards, and publishes them where it may; returns 0.

    Raises:
        ConfigError: on an option that there is not, a file that cannot be written, or a package that is missing.
        DataError: on rows that are none.
        RunError: where W&B's server fails; what was written stays.
    """
    _, *options = arguments
    if {"-h", "--help"} & set(options):
        print(HELP, end="")
        return 0
    parser = OptionParser(["folder", "project", "entity", "mode", "rows"])
    parser.add_argument("families", nargs="*")
    parser.add_argument("--folder", type=Path, default=Path(FOLDER))
    parser.add_argument("--project", default=WandbOptions.project)
    parser.add_argument("--entity")
    parser.add_argument("--mode", choices=MODES, default="auto")
    parser.add_argument("--rows", type=Path)
    given = parser.parse_intermixed_args(options)
    families = list(dict.fromkeys(given.families)) or list(FAMILIES)
    for name in families:
        if name not in FAMILIES:
            raise ConfigError(f"{name!r} is not a family of dashboards{nearest_or_all(name, FAMILIES)}")
    if given.rows is not None and "bench" not in families:
        raise ConfigError("--rows are of benchmarks: name the family bench too")
    if find_spec("wandb_workspaces") is None:
        raise ConfigError(
            "dashboards need wandb-workspaces: pip install 'lit_l2softmax[dashboards]', or '.[dashboards]'"
        )
    where = WandbOptions(mode=given.mode, project=given.project, entity=given.entity)
    _make(families, where, given.folder, given.rows)
    return 0


def _make(families: Sequence[str], where: WandbOptions, folder: Path, rows_file: Path | None) -> None:
    try:
        mode = where.resolved_mode()
    except ValueError as error:
        raise ConfigError(str(error)) from error
    from lit_l2softmax.dashboards import bench_rows  # half a second, which help need not wait for

    rows = None if rows_file is None else bench_rows.read(rows_file)
    made = {name: _documents(name) for name in families}
    for name, found in made.items():
        for document in found:
            print(_written(folder / f"{name}.{document.kind}.json", document))
    if mode == "online":
        _publish([document for found in made.values() for document in found], where, folder)
    else:
        print(f"not published: W&B is {mode}; `wandb login` leaves a key, --mode online publishes")
    if rows is not None and rows_file is not None and mode != "disabled":
        run = bench_rows.log(rows, rows_file.stem, where, mode, folder)
        print(f"logged {len(rows):,} rows" + (f"; wandb sync {run}" if run else ""))


def _documents(family: str) -> "list[Document]":
    from lit_l2softmax.dashboards.documents import documents

    return documents(family, import_module(f"lit_l2softmax.dashboards.{family}").DASHBOARD)


def _written(path: Path, document: "Document") -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, document.pretty())
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror}); name another place with --folder") from error
    return path


def _publish(documents: "Sequence[Document]", where: WandbOptions, folder: Path) -> None:
    from lit_l2softmax.dashboards.publishing import Server

    try:
        server = Server(where)
        for document in documents:
            print(server.publish(document), flush=True)
    except RunError as error:
        raise RunError(f"{error}; the dashboards are kept as files in {folder}") from error
