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
    """Names and sections of all docstrings that have one."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for name, text in documented(path):
            for section in re.findall(r"^(References?:.*?)(?=\n\n|\Z)", text, re.M | re.S):
                yield f"{path.stem}.{name}", " ".join(section.split())


def faults(section):
    heading, _, text = section.partition(": ")
    works = re.findall(WORK, text)
    if heading != "Reference":
        yield "expected `Reference: `"
    if not FORM.fullmatch(text):
        yield "expected `authors, *title*, venue year, arXiv:id`"
    if text.count("*") != 2 * len(works):
        yield "a title is followed by venue and year"
    if text.count("arXiv:") != sum("arXiv:" in work for work in works):
        yield "an identifier belongs to a title and a year"
    if re.search(r"[\"“”]|et al\.", text.replace('`"', "").replace('"`', "")):
        yield "no quotation marks and no `et al.`"


@pytest.mark.once
def test_references():
    sections = list(references())
    assert len(sections) > 300
    assert [(name, fault) for name, section in sections for fault in faults(section)] == []


@pytest.mark.once
def test_faults_are_found():
    good = "Reference: Ann Lee, *A title*, ICML 2020, arXiv:2001.00001."
    assert list(faults(good)) == []
    for changed in (
        "References: Ann",
        "Reference: A. Lee et al., *A",
        "Reference: Ann Lee, *A title*, arXiv:2001",
    ):
        assert list(faults(changed + good.removeprefix("Reference: Ann")))
