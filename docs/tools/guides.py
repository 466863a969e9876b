"""Runs the guides and keeps what they print and draw; makes pages and notebooks of both.

    python -m docs.tools.guides [name …]

A guide is an ordinary script. Its strings at the left margin are text, in markdown; what stands between two of
them is a cell of code. `plt.show()` draws into the page. A field such as `{accuracy:.2f}` in the text is filled
with what the variable holds at the end of the run; it has a format, which tells it from the braces of formulas.
"""

import ast
import contextlib
import dataclasses
import hashlib
import io
import json
import pathlib
import re
import subprocess
import sys
import warnings

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "guides"
RESULTS = SCRIPTS / "results"

#: What the constants of a guide become in a short run, for tests.
SHORT = {"EPOCHS": 1, "SEEDS": 1, "STEPS": 2, "TASKS": 2, "POINTS": 2, "REPEATS": 1}

FIELD = re.compile(r"(?<![\\^_])\{([A-Za-z_(\d][^{}:$\\]*):([+,]?(?:\.\d+)?[defgs%])\}")


@dataclasses.dataclass
class Cell:
    """Text, or code and what came of it: printed lines and pictures."""

    text: str = ""
    code: str = ""
    statements: list[ast.stmt] = dataclasses.field(default_factory=list)
    printed: str = ""
    pictures: list[bytes] = dataclasses.field(default_factory=list)
    titles: list[str] = dataclasses.field(default_factory=list)


def scripts() -> list[pathlib.Path]:
    """The guides, in alphabetical order."""
    return sorted(SCRIPTS.glob("*.py"))


def read(path: pathlib.Path) -> list[Cell]:
    """The cells of a guide."""
    source = path.read_text("utf-8")
    lines, cells, begin = source.splitlines(), [], 0
    statements: list[ast.stmt] = []

    def end_code(line):
        code = "\n".join(lines[begin:line]).strip("\n")
        if statements:
            cells.append(Cell(code=code, statements=list(statements)))
        statements.clear()

    for node in ast.parse(source).body:
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if is_text and isinstance(node.value.value, str):
            end_code(node.lineno - 1)
            cells.append(Cell(text=node.value.value.strip()))
            begin = node.end_lineno
        else:
            statements.append(node)
    end_code(len(lines))
    return cells


def fingerprint(cells: list[Cell]) -> str:
    """Changes with the code of a guide, not with its text or layout."""
    code = "\n".join(ast.dump(node) for cell in cells for node in cell.statements)
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def fields(cells: list[Cell]) -> list[tuple[str, str]]:
    """The expressions and formats that the text asks for."""
    return sorted({pair for cell in cells for pair in FIELD.findall(cell.text)})


def run(path: pathlib.Path, short: bool = False) -> tuple[list[Cell], dict[str, str]]:
    """Runs a guide. Its cells hold what they printed and drew afterwards; the fields of the text are returned."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    cells = read(path)
    namespace = {"__name__": "__main__", "__file__": str(path)}
    show, arguments = plt.show, sys.argv
    sys.argv = [str(path)]
    try:
        for cell in cells:
            plt.show = lambda cell=cell: _draw(plt, cell)
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                for node in cell.statements:
                    node = _shortened(node) if short else node
                    exec(compile(ast.Module([node], []), str(path), "exec"), namespace)
            cell.printed = re.sub(r"\x1b\[[0-9;]*m", "", output.getvalue()).strip("\n")
        if plt.get_fignums():
            raise RuntimeError(f"{path.name} draws a figure that no `plt.show()` shows.")
        values = {
            f"{name}:{form}": format(eval(name, namespace), form) for name, form in fields(cells)
        }
    finally:
        plt.show, sys.argv = show, arguments
        plt.close("all")
    return cells, values


def _draw(plt, cell: Cell) -> None:
    for number in plt.get_fignums():
        figure, picture = plt.figure(number), io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # A letter that the font lacks, axes that do not fit.
            figure.savefig(picture, format="png", dpi=120)
        titles = [figure.get_suptitle(), *(axes.get_title() for axes in figure.axes)]
        cell.titles.append("; ".join(title.replace("\n", " ") for title in titles if title))
        cell.pictures.append(picture.getvalue())
    plt.close("all")


def _shortened(node: ast.stmt) -> ast.stmt:
    """`EPOCHS = 30` as `EPOCHS = 1`."""
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        name = node.targets[0].id
        if name in SHORT and isinstance(node.value, ast.Constant):
            short = ast.Constant(min(SHORT[name], node.value.value))
            node = ast.fix_missing_locations(
                ast.copy_location(ast.Assign(node.targets, short), node)
            )
    return node


def record(path: pathlib.Path) -> None:
    """Runs a guide in full and keeps what its cells printed and drew."""
    import keras

    cells, values = run(path)
    for old in RESULTS.glob(f"{path.stem}_*.png"):
        old.unlink()
    entries, pictures = [], 0
    for cell in (cell for cell in cells if cell.code):
        names = []
        for picture in cell.pictures:
            pictures += 1
            names.append(f"{path.stem}_{pictures}.png")
            (RESULTS / names[-1]).write_bytes(picture)
        entries.append({"printed": cell.printed, "pictures": names, "titles": cell.titles})
    result = {
        "code": fingerprint(cells),
        "backend": keras.backend.backend(),
        "fields": values,
        "cells": entries,
    }
    text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
    (RESULTS / f"{path.stem}.json").write_text(text, "utf-8")


@dataclasses.dataclass
class Recorded:
    """A guide with the results of its last run, its text filled from them."""

    name: str
    cells: list[Cell]
    names: dict[int, list[str]]
    backend: str

    @property
    def title(self) -> str:
        return self.cells[0].text.splitlines()[0].removeprefix("# ")

    @property
    def picture(self) -> str | None:
        """The last picture: what the guide ends in."""
        every = [name for names in self.names.values() for name in names]
        return every[-1] if every else None


def recorded(path: pathlib.Path) -> Recorded:
    """The cells of a guide with the results of its last run.

    Raises:
        ValueError: If there is no run of the code as it stands, or the text has a field that the run did not fill.
    """
    cells, file = read(path), RESULTS / f"{path.stem}.json"
    again = f"`make guides GUIDES={path.stem}` runs it."
    if not file.exists():
        raise ValueError(f"The guide {path.stem} has no results. {again}")
    result = json.loads(file.read_text("utf-8"))
    if result["code"] != fingerprint(cells):
        raise ValueError(
            f"The code of the guide {path.stem} changed since its results were kept. {again}"
        )
    lacking = [f"{n}:{form}" for n, form in fields(cells) if f"{n}:{form}" not in result["fields"]]
    if lacking:
        raise ValueError(f"The guide {path.stem} has no results for its fields {lacking}. {again}")
    names, entries = {}, iter(result["cells"])
    for number, cell in enumerate(cells):
        if cell.code:
            entry = next(entries)
            cell.printed, cell.titles = entry["printed"], entry["titles"]
            names[number] = entry["pictures"]
            cell.pictures = [(RESULTS / name).read_bytes() for name in entry["pictures"]]
        else:
            cell.text = FIELD.sub(
                lambda found: result["fields"][f"{found[1]}:{found[2]}"], cell.text
            )
    return Recorded(path.stem, cells, names, result["backend"])


def page(guide: Recorded) -> str:
    """The markdown of a guide: every cell of code is followed by what it printed and drew."""
    links = f"[script]({guide.name}.py), [notebook]({guide.name}.ipynb)"
    opening = [f"Download: {links} · results of a run on {guide.backend}", *_result(guide)]
    parts = []
    for number, cell in enumerate(guide.cells):
        if cell.text:
            title, _, rest = cell.text.partition("\n") if not number else ("", "", cell.text)
            parts += [title, *(opening if not number else []), rest.strip()]
            continue
        parts.append(f"```python\n{cell.code}\n```")
        if cell.printed:
            parts.append(f"```{{.text .output}}\n{cell.printed}\n```")
        for name, title in zip(guide.names[number], cell.titles):
            parts.append(f"![{title}](images/{name})")
    return "\n\n".join(part for part in parts if part) + "\n"


def _result(guide: Recorded) -> list[str]:
    """What a guide ends in: its last picture, or else the last lines that it prints."""
    for number in reversed(guide.names):
        cell = guide.cells[number]
        if guide.picture:
            if guide.names[number]:
                return [f"![{cell.titles[-1]}](images/{guide.names[number][-1]})"]
        elif cell.printed:
            return [f"```{{.text .output}}\n{cell.printed}\n```"]
    return []


def notebook(guide: Recorded) -> str:
    """The guide as a notebook with its results."""
    import base64

    import nbformat
    from nbformat import v4

    cells, count = [], 0
    for number, cell in enumerate(guide.cells):
        if cell.text:
            # Links to pages of the site lead nowhere from a notebook.
            text = re.sub(r"(?<!!)\[([^\]]+)\]\((?!https?:)[^)]+\)", r"\1", cell.text)
            cells.append(v4.new_markdown_cell(text, id=f"cell-{number}"))
            continue
        count += 1
        outputs = []
        if cell.printed:
            outputs.append(v4.new_output("stream", name="stdout", text=cell.printed + "\n"))
        for picture in cell.pictures:
            data = {"image/png": base64.b64encode(picture).decode()}
            outputs.append(v4.new_output("display_data", data=data))
        cells.append(
            v4.new_code_cell(cell.code, id=f"cell-{number}", outputs=outputs, execution_count=count)
        )
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    book = v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.validate(book)
    return nbformat.writes(book)


def write(folder: pathlib.Path) -> list[Recorded]:
    """Writes page, script, notebook and pictures of every guide."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    guides = [recorded(path) for path in scripts()]
    for guide in guides:
        (folder / f"{guide.name}.md").write_text(page(guide), "utf-8")
        (folder / f"{guide.name}.ipynb").write_text(notebook(guide), "utf-8")
        script = (SCRIPTS / f"{guide.name}.py").read_text("utf-8")
        (folder / f"{guide.name}.py").write_text(script, "utf-8")
        for number, names in guide.names.items():
            for name, picture in zip(names, guide.cells[number].pictures):
                (folder / "images" / name).write_bytes(picture)
    return guides


def main(names: list[str]) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    RESULTS.mkdir(exist_ok=True)
    unknown = set(names) - {path.stem for path in scripts()}
    if unknown:
        raise SystemExit(f"There is no guide {sorted(unknown)}.")
    chosen = [path for path in scripts() if not names or path.stem in names]
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns) as progress:
        task = progress.add_task("", total=len(chosen))
        for path in chosen:
            progress.update(task, description=f"{path.stem:32s}")
            # Each in a process of its own: what one sets, the next must not find.
            code = f"from docs.tools import guides; guides.record(guides.SCRIPTS / '{path.name}')"
            subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
            progress.advance(task)


if __name__ == "__main__":
    main(sys.argv[1:])
