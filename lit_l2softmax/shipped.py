"""The configurations that come with the package, by name."""

from pathlib import Path

from .errors import ConfigError
from .messages import nearest_or_all

CONFIGS = Path(__file__).parent / "configs"


def names() -> list[str]:
    """Every shipped configuration, without ``.yaml``."""
    return sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def config_file(name: str) -> str:
    """The file that ``--config name`` means: one of one's own, or a shipped one by its name.

    Raises:
        ConfigError: on neither, with the shipped name that is closest, or all of them.
    """
    if Path(name).is_file():
        return name
    stem = Path(name).name.removesuffix(".yaml")
    if stem in names():
        return str(CONFIGS / f"{stem}.yaml")
    raise ConfigError(f"the configuration {name} does not exist{nearest_or_all(stem, names())}")
