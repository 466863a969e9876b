"""Writes a page `docs/guides/<name>.md` for each runnable script `guides/<name>.py`.

A guide is an ordinary script. Its triple-quoted strings that start a line at the left margin are the text of the
page, in markdown; everything between them is shown as code.
"""

import ast
import pathlib
import shutil

ROOT = pathlib.Path(__file__).resolve().parent.parent


def guides() -> list[pathlib.Path]:
    """The scripts that are guides, in alphabetical order."""
    return sorted(path for path in (ROOT / "guides").glob("*.py") if not path.name.startswith("_"))


def page(source: str) -> str:
    """The markdown page of a script."""
    lines = source.splitlines()
    blocks, position = [], 0
    for node in ast.parse(source).body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            if isinstance(node.value.value, str):
                blocks.append(_code(lines[position : node.lineno - 1]))
                blocks.append(node.value.value.strip())
                position = node.end_lineno
    blocks.append(_code(lines[position:]))
    return "\n\n".join(block for block in blocks if block) + "\n"


def _code(lines: list[str]) -> str:
    code = "\n".join(lines).strip("\n")
    return f"```python\n{code}\n```" if code.strip() else ""


def main() -> None:
    folder = ROOT / "docs" / "guides"
    folder.mkdir(exist_ok=True)
    for path in guides():
        (folder / f"{path.stem}.md").write_text(page(path.read_text("utf-8")), "utf-8")
    shutil.copytree(ROOT / "guides" / "images", folder / "images", dirs_exist_ok=True)


if __name__ == "__main__":
    main()
