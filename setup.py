"""The page of a package index: README.md without what only a repository can show.

Everything else about the package is in pyproject.toml.
"""

import pathlib
import re

from setuptools import setup

ROOT = pathlib.Path(__file__).parent
WIDTH = 25


def index_page(readme):
    """README.md for a package index, which shows neither relative links nor embedded pictures.

    A link becomes its text and the place in the source distribution; the picture of a table becomes bars of text.
    """
    picture = r"((?:^\|.*\n)+)((?:(?!\|).*\n)*?)!\[([^]]*)\]\([^)]*\)$"
    page = re.sub(picture, _with_bars, readme, flags=re.MULTILINE)
    page = re.sub(r"\[([^]]+)\]\((?!https?:|#)([^)]+)\)", r"\1 (`\2`)", page)
    return f"{page}\nPaths in parentheses are those of the source distribution.\n"


def _with_bars(found):
    table, between, caption = found.groups()
    return f"{table}{between}{caption}:\n\n```text\n{bars(table)}\n```"


def bars(table):
    """The columns in percent of a Markdown table as bars of text."""
    header, _, *rows = [
        [c.strip(" `") for c in r.strip("|").split("|")] for r in table.splitlines()
    ]
    columns = [i for i, title in enumerate(header) if title.endswith("%")]
    labels = [[row[i] for i in range(columns[0])] for row in rows]
    widths = [max(map(len, column)) for column in zip(*labels)]
    lines = []
    for i in columns:
        lines += ["", header[i]]
        for label, row in zip(labels, rows):
            value = float(row[i].split()[0])
            bar = "█" * round(value / 100 * WIDTH)
            name = "  ".join(part.ljust(width) for part, width in zip(label, widths))
            lines.append(f"{name}  {bar:{WIDTH}}  {value:5.1f}")
    return "\n".join(lines[1:])


if __name__ == "__main__":
    setup(
        long_description=index_page((ROOT / "README.md").read_text("utf-8")),
        long_description_content_type="text/markdown",
    )
