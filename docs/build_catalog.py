"""Writes `docs/catalog.md`, a table of every public symbol, from the symbols and their docstrings."""

import inspect
import pathlib
import re

from keras_regularize._export import public_symbols

ROOT = pathlib.Path(__file__).resolve().parent.parent

HEAD = """\
# Catalog

Every method: the paper it comes from, where it plugs into Keras, what it costs (in passes over a batch where it
adds passes) and the guides that show it at work. Generated from the docstrings by `make docs`.
"""

# Where a class of the namespace goes. Functions are called, but for activations.
PLUGS_IN = {
    "losses": "`compile(loss=…)`",
    "regularizers": "`kernel_regularizer=…`",
    "constraints": "`kernel_constraint=…`",
    "activations": "`activation=…`",
    "layers": "a layer of the model",
    "optimizers": "`compile(optimizer=…)`",
    "metrics": "`compile(metrics=[…])`",
    "models": "around the model: `{name}(model, …)`",
    "attacks": "`attack(model, x, y)`",
    "callbacks": "`fit(callbacks=[…])`",
}


def section(symbol: object, name: str) -> str:
    """The first paragraph of a docstring's section such as `Cost:`, on one line; empty if there is none."""
    pattern = rf"^{name}:\s+(.*?)(?=\n\n|\n(?:Args|Returns|Raises|Cost|Example|References?):|\Z)"
    found = re.search(pattern, inspect.getdoc(symbol) or "", re.MULTILINE | re.DOTALL)
    return " ".join(found[1].split()) if found else ""


def plugs_in(namespace: str, symbol: object) -> str:
    """Where a user passes the symbol."""
    if not isinstance(symbol, type) and namespace != "activations":
        return "a function to call"
    if namespace == "regularizers":
        arguments = re.findall(r"\b\w+_regularizer=", inspect.getdoc(symbol) or "")
        return ", ".join(f"`{a}…`" for a in dict.fromkeys(arguments)) or PLUGS_IN[namespace]
    return PLUGS_IN.get(namespace, "an object to use").format(name=symbol.__name__)


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
    paths = sorted((ROOT / "guides").glob("*.py"))
    uses = re.compile(rf"\bkr\.{re.escape(key)}\b")
    return ", ".join(
        f"[{path.stem.replace('_', ' ')}](guides/{path.stem}.md)"
        for path in paths
        if uses.search(path.read_text("utf-8"))
    )


def row(key: str, symbol: object) -> str:
    """The table row of the symbol `namespace.Name`."""
    namespace, name = key.split(".")
    link = f"[`{name}`](api/{namespace}.md#keras_regularize.{key})"
    summary = " ".join((inspect.getdoc(symbol) or "").split("\n\n")[0].split()).rstrip(".:")
    cells = (link, summary, paper(symbol), plugs_in(namespace, symbol), cost(symbol), guides(key))
    return "| " + " | ".join(escape(cell) for cell in cells) + " |"


def escape(cell: str) -> str:
    """A cell whose bars do not end it. Those in code spans never do."""
    parts = cell.replace("\\|", r"\Vert ").split("`")
    parts[::2] = [part.replace("|", r"\|") for part in parts[::2]]
    return "`".join(parts)


def catalog() -> str:
    """The whole page."""
    lines = [HEAD]
    symbols = public_symbols()
    order = {namespace: position for position, namespace in enumerate(PLUGS_IN)}
    namespaces = {key.split(".")[0] for key in symbols}
    for namespace in sorted(namespaces, key=lambda name: (order.get(name, len(order)), name)):
        lines.append(f"## [`kr.{namespace}`](api/{namespace}.md)\n")
        lines.append("| method | in short | paper | plugs in | cost | guide |")
        lines.append("|---|---|---|---|---|---|")
        keys = [key for key in symbols if key.startswith(f"{namespace}.")]
        lines += [row(key, symbols[key]) for key in sorted(keys, key=str.lower)]
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    (ROOT / "docs" / "catalog.md").write_text(catalog(), "utf-8")
