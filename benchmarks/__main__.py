"""Tables of ratios on the backend of KERAS_BACKEND: `python -m benchmarks [steps] [losses] …`."""

import argparse

from rich.console import Console

from benchmarks import imports, losses, output_layers, robustness, train_steps

TABLES = {
    "steps": train_steps.table,
    "losses": losses.table,
    "output_layers": output_layers.table,
    "robustness": robustness.table,
    "imports": imports.table,
}


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"any of {', '.join(TABLES)}")
    parser.add_argument("--quick", action="store_true", help="few rounds, rough numbers")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.tables) - set(TABLES))
    if unknown:
        parser.error(f"no such table: {', '.join(unknown)} (there are {', '.join(TABLES)})")

    console = Console()
    console.print(
        "In tables of cost, contestants take turns. Ratios are to the first row: of the medians, and of the\n"
        "fastest rounds (min), which hold when the machine is busy. A bar is the largest\n"
        "acceptable value of the latter.\n"
    )
    for name in arguments.tables or TABLES:
        with console.status(name) as status:
            table = TABLES[name](arguments.quick, lambda text: status.update(f"{name}: {text}"))  # noqa: B023
        console.print(table)
        console.print()


if __name__ == "__main__":
    main()
