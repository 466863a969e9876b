"""Writes the catalog and the API pages, grouped by family, from the public names and their docstrings.

`docs/catalog.md` lists every public name once, across the namespaces; `docs/api/<namespace>.md` has the entries of
one namespace. Both are made by `make docs` and not kept.
"""

import importlib
import inspect
import pathlib
import re

import keras_regularize as kr

ROOT = pathlib.Path(__file__).resolve().parent.parent

#: What a reader looks for, and what is found there: folders of a namespace, or single names.
FAMILIES = {
    "Bases for methods of your own": [
        "models.RegularizedModel",
        "models.WithLabels",
        "models.WeightPenalty",
        "losses.Loss",
        "losses.ClassLoss",
        "attacks.Attack",
        "optimizers.OptimizerWrapper",
    ],
    "Flat minima": ["models.sharpness"],
    "Adversarial robustness": [
        "models.adversarial",
        "losses.robust",
        "attacks",
        "analysis.robust_accuracy",
        "analysis.input_gradient_norm",
        "analysis.gradient_norm_bound",
        "callbacks.RobustAccuracy",
    ],
    "Few labels": [
        "models.VAT",
        "models.RobustSelfSupervised",
        "losses.conditional_entropy",
        "analysis.private_bag_means",
        "losses.AggregateResponse",
    ],
    "Noisy labels": ["losses.noisy_labels", "models.noisy_labels", "utils.with_index"],
    "Unequal classes": ["losses.imbalance"],
    "Calibration": ["losses.calibration", "metrics.ExpectedCalibrationError"],
    "Class probabilities": [
        "losses.classification",
        "activations",
        "layers.Entmax",
        "layers.LegendreLink",
        "losses.MatchingLoss",
        "models.EnsLoss",
        "models.FactoredSphericalClassifier",
    ],
    "Margins and features": [
        "layers.heads",
        "losses.features",
        "analysis.naive_bayes_head",
        "models.FunctionalEntropyRegularization",
    ],
    "Groups, risk and abstention": [
        "losses.risk",
        "losses.Rejection",
        "losses.SmoothedIPS",
        "analysis.off_policy_bound",
        "models.GroupDRO",
        "models.Prospect",
        "metrics.GroupAccuracy",
        "metrics.WorstGroupAccuracy",
        "metrics.Coverage",
        "metrics.SelectiveAccuracy",
    ],
    "Teachers and ensembles": [
        "models.Distillation",
        "models.Ensemble",
        "models.RDrop",
        "losses.distillation",
        "analysis.self_distillation",
        "analysis.fit_power_law",
        "callbacks.StochasticWeightAveraging",
    ],
    "Anchors: learning one task after another": [
        "regularizers.anchors",
        "analysis.fisher_diagonal",
    ],
    "Orthogonal and diverse filters": ["regularizers.orthogonality", "regularizers.MHE"],
    "Size of weights": [
        "regularizers.NormLoss",
        "regularizers.Spectral",
        "regularizers.SpectralDecoupling",
        "regularizers.ActivationKurtosis",
        "regularizers.attach",
        "constraints.attach",
        "utils.AllBut",
        "layers.AccordionBlock",
        "analysis.spectrum",
        "analysis.compositional",
        "analysis.outlier_channels",
    ],
    "Weight decay and the learning rate": [
        "optimizers.DecoupledWeightDecay",
        "optimizers.IrrelevantWeightDecay",
        "optimizers.LAWN",
        "optimizers.AdaptiveGradientClipping",
        "optimizers.OneCycle",
        "optimizers.normalized_weight_decay",
        "optimizers.unit_axes",
        "callbacks.OneCycle",
        "callbacks.WarmRestarts",
        "callbacks.LearningRateFinder",
        "callbacks.EffectiveLearningRate",
        "analysis.effective_learning_rate",
        "analysis.max_margin",
        "hyper.weight_decay_search",
    ],
    "Sparse networks": [
        "regularizers.HyperSparse",
        "constraints.sparsity",
        "optimizers.Masked",
        "optimizers.LOBSTER",
        "optimizers.Proximal",
        "models.ART",
        "callbacks.IterativePruning",
        "callbacks.ThresholdPruning",
        "callbacks.RelativeImportancePruning",
        "analysis.relative_importance",
    ],
    "Few bits": [
        "regularizers.cauchy_schwarz",
        "regularizers.WeightDistribution",
        "layers.quantization",
        "constraints.quantization",
        "models.ElasticQuantization",
        "hyper.AccuracyPredictor",
        "hyper.search_bits",
    ],
    "Reparameterized weights": ["layers.reparameterization"],
    "Augmentation and noise": [
        "layers.Cutout",
        "ops.cutout",
        "layers.NestedDropout",
        "layers.nested_dropout_probabilities",
        "analysis.gaussian_cutoff",
    ],
    "Black-box generation": ["generative", "metrics.BlackBoxSquare"],
}

#: Namespaces whose page is one list: pieces to build with, no methods.
TOOLS = ("autodiff", "numerics", "ops", "utils", "testing")

HEAD = """\
# Catalog

Every public name by what it is for: in short, the paper it comes from, what it costs (in passes over a batch where
it adds passes) and the guides that show it at work. Where it goes is in its namespace:

| namespace | goes into |
|---|---|
"""

GOES_INTO = {
    "losses": "`compile(loss=…)`; functions are called",
    "regularizers": "`kernel_regularizer=…`, `activity_regularizer=…`",
    "constraints": "`kernel_constraint=…`",
    "activations": "`activation=…`",
    "layers": "the model",
    "optimizers": "`compile(optimizer=…)`",
    "metrics": "`compile(metrics=[…])`",
    "models": "around the model: `SAM(model, …)`",
    "attacks": "called: `attack(model, x, y)`, or an argument of models",
    "callbacks": "`fit(callbacks=[…])`",
    "analysis": "called on a trained model",
    "generative": "called",
    "hyper": "called, around whole trainings",
    "ops": "called on tensors",
    "utils": "called on labels; `where=…`",
}


def members(namespace: str) -> dict[str, object]:
    """The public names of a namespace, those of a module without `__all__` being what it defines itself."""
    module = importlib.import_module(f"keras_regularize.{namespace}")
    own = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]
    return {name: getattr(module, name) for name in getattr(module, "__all__", own)}


def methods() -> dict[str, object]:
    """`{"losses.MaxSup": MaxSup, …}`: every public name of the catalog."""
    return {
        f"{namespace}.{name}": symbol
        for namespace in GOES_INTO
        for name, symbol in members(namespace).items()
    }


def family(key: str, symbol: object) -> str | None:
    """The family of a public name: by itself, else by its folder or module, else by its namespace."""
    module = getattr(symbol, "__module__", "").removeprefix("keras_regularize.")
    namespace = key.split(".")[0]
    places = [key, ".".join(module.split(".")[:2]), namespace]
    for place in places:
        for title, entries in FAMILIES.items():
            if place in entries:
                return title
    return None


def section(symbol: object, name: str) -> str:
    """The first paragraph of a docstring's section such as `Cost:`, on one line; empty if there is none."""
    pattern = rf"^{name}:\s+(.*?)(?=\n\n|\n(?:Args|Returns|Raises|Cost|Example|References?):|\Z)"
    found = re.search(pattern, inspect.getdoc(symbol) or "", re.MULTILINE | re.DOTALL)
    return " ".join(found[1].split()) if found else ""


def summary(symbol: object) -> str:
    """The first sentence of a docstring."""
    return " ".join((inspect.getdoc(symbol) or "").split("\n\n")[0].split()).rstrip(".:")


def paper(symbol: object) -> str:
    """Title and year of the first paper of `Reference:`, linked where it is on arXiv."""
    reference = section(symbol, "References?")
    found = re.search(r"""\*([^*]+)\*|"([^"]+)"|“([^”]+)”""", reference)
    if not found:
        return ""
    title = next(group for group in found.groups() if group).rstrip(".,")
    # What follows the title, up to the next one, holds the venue, the year and the identifier.
    rest = re.split(r"""[*"“]""", reference[found.end() :])[0]
    arxiv = re.search(r"arXiv:(\d{4}\.\d{4,5}|[a-z.-]+/\d{7})", rest)
    year = re.search(r"(?<![\d:.])(?:18|19|20)\d\d(?![\d.]\d)", rest)
    text = f"[{title}](https://arxiv.org/abs/{arxiv[1]})" if arxiv else title
    return f"{text}, {year[0]}" if year else text


def cost(symbol: object) -> str:
    """The first statement of `Cost:`."""
    return re.split(r"(?<=[\w)`$])[.;] ", section(symbol, "Cost"))[0].rstrip(".")


def guides(key: str) -> str:
    """Links to the guides that use the symbol."""
    uses = re.compile(rf"\bkr\.{re.escape(key)}\b")
    return ", ".join(
        f"[{path.stem.replace('_', ' ')}](guides/{path.stem}.md)"
        for path in sorted((ROOT / "guides").glob("*.py"))
        if uses.search(path.read_text("utf-8"))
    )


def table(head: str, rows: list[tuple[str, ...]]) -> list[str]:
    """A table in markdown."""
    rule = "|" + "---|" * head.count(",") + "---|"
    lines = ["| " + " | ".join(row) + " |" for row in ([escape(c) for c in row] for row in rows)]
    return ["| " + head.replace(", ", " | ") + " |", rule, *lines, ""]


def escape(cell: str) -> str:
    """A cell whose bars do not end it. Those in code spans never do."""
    parts = cell.replace("\\|", r"\Vert ").split("`")
    parts[::2] = [part.replace("|", r"\|") for part in parts[::2]]
    return "`".join(parts)


def grouped(names: dict[str, object]) -> dict[str, list[str]]:
    """Keys by family, in the order of `FAMILIES` and of the alphabet."""
    groups = {title: [] for title in FAMILIES}
    for key in sorted(names, key=lambda key: key.split(".")[1].lower()):
        title = family(key, names[key])
        if title is None:
            raise ValueError(f"`FAMILIES` in {__file__} has no place for kr.{key}")
        groups[title].append(key)
    return {title: keys for title, keys in groups.items() if keys}


def link(key: str, folder: str = "api/") -> str:
    """A name that links to its entry."""
    namespace, name = key.split(".")
    text = f"{namespace}.{name}" if folder else name
    return f"[`{text}`]({folder}{namespace}.md#keras_regularize.{key})"


def catalog() -> str:
    """The page of all families."""
    names = methods()
    goes = [f"| [`kr.{name}`](api/{name}.md) | {into} |" for name, into in GOES_INTO.items()]
    lines = [HEAD + "\n".join(goes) + "\n"]
    for title, keys in grouped(names).items():
        lines.append(f"## {title}\n")
        rows = [
            (link(key), summary(names[key]), paper(names[key]), cost(names[key]), guides(key))
            for key in keys
        ]
        lines += table("name, in short, paper, cost, guide", rows)
    return "\n".join(lines)


def api_page(namespace: str) -> str:
    """The page of a namespace."""
    module = importlib.import_module(f"keras_regularize.{namespace}")
    lines = [f"# `kr.{namespace}`\n", inspect.getdoc(module), ""]
    if namespace in TOOLS:
        options = "    options:\n      show_root_heading: false\n      heading_level: 2\n"
        return "\n".join([*lines, f"::: keras_regularize.{namespace}", options])
    names = {f"{namespace}.{name}": symbol for name, symbol in members(namespace).items()}
    groups = grouped(names)
    for title, keys in groups.items():
        lines.append(f"## {title}\n")
        rows = [(link(key, ""), summary(names[key]), cost(names[key])) for key in keys]
        lines += table("name, in short, cost", rows)
        lines += [f"::: keras_regularize.{key}\n" for key in keys]
    return "\n".join(lines)


def main() -> None:
    (ROOT / "docs" / "catalog.md").write_text(catalog(), "utf-8")
    folder = ROOT / "docs" / "api"
    folder.mkdir(exist_ok=True)
    for namespace in kr.__all__:
        if not namespace.startswith("_"):
            (folder / f"{namespace}.md").write_text(api_page(namespace), "utf-8")


if __name__ == "__main__":
    main()
