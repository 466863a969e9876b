"""Tables of ratios on the backend of KERAS_BACKEND, all or by name: `… steps --only SAM AWP`."""

import argparse
import functools

from rich.console import Console

from benchmarks import (
    alternatives,
    audio,
    autoencoders,
    boosting,
    boxes_and_ranking,
    calibrated_regression,
    contrastive,
    curvature,
    features,
    forecasting,
    generative,
    hyperparameters,
    imports,
    inverse,
    losses,
    metrics,
    noise,
    output_layers,
    probabilistic,
    regularizers,
    robustness,
    robustness_report,
    segmentation,
    train_steps,
)

TABLES = {
    "steps": train_steps.table,
    "alternatives": alternatives.table,
    "losses": losses.table,
    "metrics": metrics.table,
    "regularizers": regularizers.table,
    "features": features.table,
    "noise": noise.table,
    "output_layers": output_layers.table,
    "probabilistic": probabilistic.table,
    "robustness": robustness.table,
    "robustness_report": robustness_report.table,
    "segmentation": segmentation.table,
    "boosting": boosting.table,
    "boxes_and_ranking": boxes_and_ranking.table,
    "forecasting": forecasting.table,
    "calibrated_regression": calibrated_regression.table,
    "curvature": curvature.table,
    "contrastive": contrastive.table,
    "generative": generative.table,
    "autoencoders": autoencoders.table,
    "hyperparameters": hyperparameters.table,
    "inverse": inverse.table,
    "audio": audio.table,
    "imports": imports.table,
}


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"any of {', '.join(TABLES)}")
    parser.add_argument("--quick", action="store_true", help="few rounds, rough numbers")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=[name for name in train_steps.METHODS if name != "plain"],
        metavar="ROW",
        help="rows of the table `steps`, such as SAM; with that table alone",
    )
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.tables) - set(TABLES))
    if unknown:
        parser.error(f"no such table: {', '.join(unknown)} (there are {', '.join(TABLES)})")
    tables = {name: TABLES[name] for name in arguments.tables or TABLES}
    if arguments.only:
        if arguments.tables != ["steps"]:
            parser.error("`--only` goes with the table `steps` alone")
        tables["steps"] = functools.partial(train_steps.table, only=arguments.only)

    console = Console()
    console.print(
        "In tables of cost, contestants take turns. Ratios are to the first row: of the medians, and of the\n"
        "fastest rounds (min), which hold when the machine is busy. A bar is the largest\n"
        "acceptable value of the latter.\n"
    )
    for name, make in tables.items():
        with console.status(name) as status:
            table = make(arguments.quick, lambda text: status.update(f"{name}: {text}"))  # noqa: B023
        console.print(table)
        console.print()


if __name__ == "__main__":
    main()
