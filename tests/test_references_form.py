"""One form of `Reference:` in all docstrings: authors, *title*, venue year, arXiv:id."""

import ast
import pathlib
import re

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parent.parent / "keras_regularize"
# The venue is left out for preprints, the identifier for what is not on arXiv.
WORK = r"\*[^*]+\*, (?:[A-Z][^*\d,;:]* )?(?:18|19|20)\d\d(?:, arXiv:\d{4}\.\d{4,5})?(?![^.;,)\s])"
FORM = re.compile(rf"(?:[^*]+, {WORK}.*|None; .+)\.")


def documented(path):
    """Names and docstrings of a file."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            yield getattr(node, "name", path.stem), ast.get_docstring(node) or ""


def references():
    for path in sorted(PACKAGE.rglob("*.py")):
        for name, text in documented(path):
            for section in re.findall(r"^(References?:.*?)(?=\n\n|\Z)", text, re.M | re.S):
                yield pytest.param(" ".join(section.split()), id=f"{path.stem}.{name}")


@pytest.mark.parametrize("section", list(references()))
def test_reference(section):
    heading, _, text = section.partition(": ")
    assert heading == "Reference"
    assert FORM.fullmatch(text), "expected `authors, *title*, venue year, arXiv:id`"
    works = re.findall(WORK, text)
    assert text.count("*") == 2 * len(works), "a title is followed by venue and year"
    identified = sum("arXiv:" in work for work in works)
    assert text.count("arXiv:") == identified, "an identifier belongs to a title and a year"
    assert not re.search(r"[\"“”]|et al\.", text.replace('`"', "").replace('"`', ""))
