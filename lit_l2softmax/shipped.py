"""The configurations that come with the package, by name."""

from pathlib import Path

from .errors import ConfigError
from .messages import did_you_mean, nearest_or_all
from .program import PROGRAM

CONFIGS = Path(__file__).parent / "configs"
SWEEPS = "sweeps"
WHERE_ALL_ARE = f"`{PROGRAM} list` names all there are, mnist is one"


def names() -> list[str]:
    """Every shipped configuration, ``mnist`` or ``optim/yoghurt``, without ``.yaml``."""
    files = (path.relative_to(CONFIGS) for path in CONFIGS.rglob("*.yaml"))
    return sorted(file.with_suffix("").as_posix() for file in files if file.parts[0] != SWEEPS)


def config_file(name: str) -> str:
    """The file that ``--config name`` means: one's own, or a shipped one, ``dots`` or ``configs/optim/dots.yaml``.

    Raises:
        ConfigError: on neither, with the shipped name that is closest, or where all of them are named.
    """
    if Path(name).is_file():
        return name
    wanted = name.removesuffix(".yaml").removeprefix("configs/")
    for shipped in names():
        if wanted in (shipped, Path(shipped).name):
            return str(CONFIGS / f"{shipped}.yaml")
    known = [Path(shipped).name for shipped in names()]
    hint = did_you_mean(Path(wanted).name, known) or f"; {WHERE_ALL_ARE}"
    raise ConfigError(f"the configuration {name} does not exist{hint}")


def sweeps() -> list[str]:
    """Every shipped sweep, ``mnist_alpha``, without ``.yaml``."""
    return sorted(path.stem for path in (CONFIGS / SWEEPS).glob("*.yaml"))


def sweep_file(name: str) -> str:
    """The file that ``sweep name`` means: one's own, or a shipped one.

    Raises:
        ConfigError: on neither, with the shipped name that is closest, or all of them.
    """
    if Path(name).is_file():
        return name
    wanted = name.removesuffix(".yaml").removeprefix("configs/").removeprefix(f"{SWEEPS}/")
    if wanted not in sweeps():
        raise ConfigError(f"the sweep {name} does not exist{nearest_or_all(wanted, sweeps())}")
    return str(CONFIGS / SWEEPS / f"{wanted}.yaml")
