"""What a release says of itself in several places says the same, and its page stands alone."""

import pathlib
import re
import runpy
import tomllib

import pytest

import keras_regularize as kr

pytestmark = pytest.mark.once

ROOT = pathlib.Path(__file__).resolve().parent.parent
LINK = re.compile(r"\[([^]]*)\]\(([^)\s]+)\)")


def read(path):
    return (ROOT / path).read_text("utf-8")


PROJECT = tomllib.loads(read("pyproject.toml"))["project"]


def lower_bounds():
    """`{name: version}` of every `name>=version` of the package and its extras."""
    required = PROJECT["dependencies"] + sum(PROJECT["optional-dependencies"].values(), [])
    return dict(re.match(r"([\w-]+)>=([\d.]+)", entry).groups() for entry in required)


def test_the_citation_has_the_version_the_licence_and_the_title_of_the_package():
    cited = dict(re.findall(r"^([\w-]+): (.+)$", read("CITATION.cff"), re.MULTILINE))
    assert cited["version"] == kr.__version__
    assert (cited["title"], cited["license"]) == (
        PROJECT["name"].replace("-", "_"),
        PROJECT["license"],
    )


def test_the_page_of_an_index_has_no_relative_links_and_no_pictures():
    readme = read("README.md")
    assert any("/" in target and ":" not in target for _, target in LINK.findall(readme))
    page = runpy.run_path(str(ROOT / "setup.py"))["index_page"](readme)
    assert [target for _, target in LINK.findall(page) if not target.startswith("https:")] == []
    assert "![" not in page and "<img" not in page


def test_the_page_of_an_index_draws_the_tables_columns_in_percent():
    setup = runpy.run_path(str(ROOT / "setup.py"))
    table = "| | right, % | time |\n|---|--:|--:|\n| `A` | 52.0 ± 1.0 | 2× |\n| BB | 8.1 | 1× |\n"
    page = setup["index_page"](f"{table}\nA caption.\n\n![Bars](bars.png)\n")
    bars = f"right, %\nA   {'█' * 13:25}   52.0\nBB  {'█' * 2:25}    8.1"
    assert page.startswith(f"{table}\nA caption.\n\nBars:\n\n```text\n{bars}\n```\n")


def test_what_the_readme_links_to_exists():
    for _, target in LINK.findall(read("README.md")):
        assert target.startswith("https:") or (ROOT / target).exists(), target


def test_the_oldest_versions_that_are_tested_are_those_that_may_be_installed():
    pins = dict(re.findall(r"^([\w-]+)==([\d.]+)", read("requirements/oldest.txt"), re.MULTILINE))
    bounds = lower_bounds()
    tested = {"keras", "numpy", "jax", "tensorflow", "torch", "matplotlib", "scikit-learn"}
    for name in tested:
        pin = pins["tensorflow-cpu" if name == "tensorflow" else name]
        parts = bounds[name].split(".")
        assert pin.split(".")[: len(parts)] == parts, (
            f"{name}: tested {pin}, allowed {bounds[name]}"
        )


@pytest.mark.parametrize("path", ["README.md", "docs/install.md"])
def test_the_pages_name_the_oldest_versions(path):
    page = read(path)
    for name in ("Keras", "JAX", "TensorFlow", "PyTorch"):
        bound = lower_bounds()[{"PyTorch": "torch"}.get(name, name.lower())]
        assert re.search(rf"\b{name} {re.escape(bound)}\b", page), f"{name} {bound}"


def test_the_changelog_has_dated_releases_below_what_is_not_released():
    first, *releases = re.findall(r"^## (.+)$", read("CHANGELOG.md"), re.MULTILINE)
    assert first == "[Unreleased]"
    for release in releases:
        assert re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", release), release
