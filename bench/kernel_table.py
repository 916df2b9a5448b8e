"""What every kernel uses of a card, compiled for three cards that need not be there; a regression is a diff.

``python bench/kernel_table.py`` rewrites ``bench/results/compiled-kernels.csv`` with the Triton that is installed.
"""

import csv
import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "bench" / "results" / "compiled-kernels.csv"
CARDS = (80, 90, 100)
COLUMNS = ("card", "triton", "kernel", "case", "registers", "spills", "shared_bytes", "wide_loads", "tensor_cores")


def compiled_for(capability: int, *which: str) -> list[dict[str, object]]:
    """What ``tests/compile_kernels.py`` says of each kernel, in a process without the interpreter.

    ``"product"`` asks for every combination of flags, where the covering set is the rule.

    Raises:
        RuntimeError: with the end of what it said, where it failed.
    """
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    script = ROOT / "tests" / "compile_kernels.py"
    done = subprocess.run(
        [sys.executable, script, str(capability), *which], capture_output=True, text=True, env=environment
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    return [json.loads(line) for line in done.stdout.splitlines()]


def rows(capability: int, kernels: list[dict[str, object]]) -> list[dict[str, str]]:
    """The table's rows for one card, in an order that does not depend on that of compilation."""
    named = [{"card": f"sm_{capability}", "triton": version("triton"), **kernel} for kernel in kernels]
    plain = [{column: str(row[column]) for column in COLUMNS} for row in named]
    return sorted(plain, key=lambda row: [row[column] for column in COLUMNS])


def read() -> list[dict[str, str]]:
    """The committed rows."""
    with TABLE.open(newline="") as file:
        return list(csv.DictReader(file))


def main() -> None:
    """Compiles for each card and writes the table."""
    found = [row for card in CARDS for row in rows(card, compiled_for(card))]
    with TABLE.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)
    print(f"{len(found)} kernels: {TABLE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
