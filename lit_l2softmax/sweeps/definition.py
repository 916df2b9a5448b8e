"""A sweep as W&B's own files describe it: which settings are tried, and by which command.

Source: the keys and their meaning are W&B's, docs.wandb.ai/guides/sweeps/define-sweep-configuration; what needs its
server (``bayes``, ``early_terminate``) is refused.
"""

import itertools
import json
import math
import random
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lit_l2softmax.errors import ConfigError
from lit_l2softmax.messages import did_you_mean

SEED = "seed_everything"
CONFIG = "config"  # a parameter of this name chooses what is trained
COMMAND = ("-m", "lit_l2softmax", "fit")
Setting = Mapping[str, Any]  # an option and its value

_KEYS = ("name", "description", "project", "entity", "program", "method", "metric", "parameters", "command", "run_cap")
_MACROS = ("${env}", "${interpreter}", "${program}", "${args}")


def _log_uniform(generator: random.Random, low: float, high: float) -> float:
    return math.exp(generator.uniform(math.log(low), math.log(high)))


_DRAWS: Mapping[str, Callable[[random.Random, Any, Any], Any]] = {
    "uniform": random.Random.uniform,
    "int_uniform": random.Random.randint,
    "log_uniform_values": _log_uniform,
}


@dataclass(frozen=True)
class Parameter:
    """The values an option is given: some, or drawn from a distribution between two."""

    values: tuple[Any, ...] = ()
    probabilities: tuple[float, ...] | None = None
    distribution: str = ""
    low: float = 0.0
    high: float = 0.0

    def draw(self, generator: random.Random) -> Any:
        """One value."""
        if self.values:
            return generator.choices(self.values, self.probabilities)[0]
        return _DRAWS[self.distribution](generator, self.low, self.high)


@dataclass(frozen=True)
class Sweep:
    """What a file asks for.

    Attributes:
        metric: a key of ``result.json``.
        command: with W&B's macros.
        count: how many settings are drawn at random; None for a grid.
    """

    name: str
    metric: str
    command: tuple[str, ...]
    parameters: Mapping[str, Parameter]
    count: int | None

    @property
    def folder_name(self) -> str:
        """The name as that of a folder."""
        return re.sub(r"[^\w.-]+", "-", self.name).strip(".-") or "sweep"

    @property
    def bases(self) -> list[Setting]:
        """What is trained before anything else is set: one setting for each configuration that is tried, or none."""
        chosen = self.parameters.get(CONFIG)
        return [{}] if chosen is None else [{CONFIG: value} for value in chosen.values]

    def settings(self) -> list[Setting]:
        """Every combination of a grid, seeds together, or ``count`` random ones, the same each time; none twice."""
        if self.count is None:
            # The seed is the innermost: a variant is complete before the next one begins.
            names = sorted(self.parameters, key=lambda name: name == SEED)
            combinations = itertools.product(*(self.parameters[name].values for name in names))
            return _distinct(dict(zip(names, values, strict=True)) for values in combinations)
        generator = random.Random(0)
        return _distinct(
            {name: parameter.draw(generator) for name, parameter in self.parameters.items()} for _ in range(self.count)
        )

    def arguments(self, setting: Setting) -> list[str]:
        """The command line of one setting, its macros replaced as ``wandb agent`` does; Python is this one.

        A configuration comes first, or it would overrule the other options of the setting.
        """
        options = sorted(setting.items(), key=lambda option: option[0] != CONFIG)
        replaced = {
            "${env}": ["/usr/bin/env"],
            "${interpreter}": [sys.executable],
            "${args}": [f"--{name}={value}" for name, value in options],
        }
        return [argument for part in self.command for argument in replaced.get(part, [part])]


def key(setting: Setting) -> str:
    """What makes a setting the same as another: its options and their values, 1 and 1.0 apart."""
    return json.dumps(dict(setting), sort_keys=True, default=str)


def _distinct(settings: Iterable[Setting]) -> list[Setting]:
    return list({key(setting): setting for setting in settings}.values())


def read(path: Path) -> Sweep:
    """The sweep of a file.

    Raises:
        ConfigError: naming the file and what is wrong in it.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"the sweep {path} cannot be read: {' '.join(str(error).split())}") from error
    try:
        return _sweep(content, path.stem)
    except ValueError as error:
        raise ConfigError(f"the sweep {path}: {error}") from error


def _sweep(content: Any, stem: str) -> Sweep:
    if not isinstance(content, dict) or "parameters" not in content:
        raise ValueError("has no parameters; it needs method, metric, parameters and command, as W&B's sweeps do")
    for key in content:
        if key == "early_terminate":
            raise ValueError("early_terminate needs W&B's server")
        if key not in _KEYS:
            raise ValueError(f"{key!r} is no key of a sweep{did_you_mean(str(key), _KEYS)}")
    method = content.get("method")
    if method not in ("grid", "random"):
        raise ValueError(f"method must be grid or random (bayes needs W&B's server), got {method!r}")
    parameters = content["parameters"]
    if not isinstance(parameters, dict) or not parameters:
        raise ValueError("parameters are empty: there is nothing to try")
    read = {str(name): _parameter(str(name), given, method) for name, given in parameters.items()}
    cap = content.get("run_cap")
    if cap is not None and (isinstance(cap, bool) or not isinstance(cap, int) or cap < 1):
        raise ValueError(f"run_cap must be a number of runs, got {cap!r}")
    if method == "random" and cap is None:
        raise ValueError("a random sweep needs run_cap, the number of runs")
    if method == "grid" and cap is not None:
        raise ValueError("run_cap would cut a grid off; leave values out instead")
    metric = content.get("metric")
    if not isinstance(metric, dict) or not isinstance(metric.get("name"), str):
        raise ValueError("metric needs a name, a figure of result.json such as test/accuracy")
    goal = metric.get("goal", "minimize")
    if goal not in ("maximize", "minimize"):
        raise ValueError(f"metric.goal must be maximize or minimize, got {goal!r}")
    command = _command(content)
    if CONFIG in read:
        _check_order(command)
    return Sweep(str(content.get("name") or stem), metric["name"], command, read, cap)


def _parameter(name: str, given: Any, method: str) -> Parameter:
    if not isinstance(given, dict):
        raise ValueError(f"parameter {name} needs value, values, or min and max, got {given!r}")
    if "parameters" in given:
        raise ValueError(f"parameter {name}: write what is below it with a dot, {name}.NAME")
    known = ("value", "values", "probabilities", "distribution", "min", "max")
    for key in given:
        if key not in known:
            raise ValueError(f"parameter {name}: {key!r} is unknown here{did_you_mean(str(key), known)}")
    listed = {"value": "constant", "values": "categorical"}
    for form, distribution in listed.items():
        if form in given and given.get("distribution", distribution) != distribution:
            raise ValueError(f"parameter {name}: {form} and distribution {given['distribution']!r} exclude each other")
    if "value" in given:
        return Parameter((given["value"],))
    if "values" in given:
        values = given["values"]
        if not isinstance(values, list) or not values:
            raise ValueError(f"parameter {name} has no values: the grid is empty")
        return Parameter(tuple(values), _probabilities(name, given.get("probabilities"), len(values)))
    low, high = (_number(given.get(end)) for end in ("min", "max"))
    if not low < high:
        hint = "; YAML wants a dot in 1.0e-4" if "e-" in str(given) else ""
        raise ValueError(f"parameter {name} needs value, values, or a min below its max, got {given!r}{hint}")
    whole = isinstance(low, int) and isinstance(high, int)
    distribution = given.get("distribution", "int_uniform" if whole else "uniform")
    if distribution not in _DRAWS:
        raise ValueError(f"parameter {name}: distribution must be {', '.join(_DRAWS)}, got {distribution!r}")
    if distribution == "log_uniform_values" and low <= 0:
        raise ValueError(f"parameter {name}: log_uniform_values needs a positive min, got {low}")
    if distribution == "int_uniform" and not whole:
        raise ValueError(f"parameter {name}: int_uniform needs whole numbers, got {low} and {high}")
    if method == "grid":
        raise ValueError(f"parameter {name}: a grid needs values, not min and max")
    return Parameter(distribution=distribution, low=low, high=high)


def _number(given: Any) -> float:
    """A number as it is; NaN, which is below nothing, for whatever is none."""
    return given if isinstance(given, (int, float)) and not isinstance(given, bool) else math.nan


def _probabilities(name: str, given: Any, count: int) -> tuple[float, ...] | None:
    if given is None:
        return None
    right = isinstance(given, list) and len(given) == count and all(isinstance(each, (int, float)) for each in given)
    if not right or min(given) < 0 or not math.isclose(sum(given), 1, abs_tol=1e-6):
        raise ValueError(f"parameter {name}: probabilities must be one for each value and add up to 1, got {given!r}")
    return tuple(given)


def _command(content: Mapping[str, Any]) -> tuple[str, ...]:
    given = content.get("command")
    if not isinstance(given, list) or not all(isinstance(part, (str, int, float)) for part in given):
        raise ValueError(f"command must be a list such as [${{env}}, ${{interpreter}}, {', '.join(COMMAND)}, ...]")
    command = [str(content.get("program", part)) if part == "${program}" else str(part) for part in given]
    for part in command:
        if part.startswith("${") and part not in _MACROS:
            raise ValueError(f"command: {part} is no macro that is known here{did_you_mean(part, _MACROS)}")
    if not _contains(command, COMMAND):
        raise ValueError(f"command must run this program's fit, ... {' '.join(COMMAND)} ...")
    if "${args}" not in command:
        raise ValueError("command has no ${args}: every run would be the same")
    return tuple(command)


def _check_order(command: Sequence[str]) -> None:
    """Refuses options that a configuration behind them would overrule unseen."""
    before = [part for part in command[: command.index("${args}")] if part.startswith("--")]
    if before:
        raise ValueError(
            f"the parameter {CONFIG} comes with ${{args}} and would overrule {before[0]}, which stands before it: "
            "put options behind ${args}"
        )


def _contains(parts: Sequence[str], wanted: Sequence[str]) -> bool:
    return any(tuple(parts[at : at + len(wanted)]) == tuple(wanted) for at in range(len(parts)))
