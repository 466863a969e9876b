"""The guides run as they are, on little training, and what is kept of their last full run is of their code."""

import pathlib

import pytest

from docs.tools import guides

ROOT = pathlib.Path(__file__).parent.parent


@pytest.mark.parametrize("path", guides.scripts(), ids=lambda path: path.stem)
def test_the_guide_runs(path):
    if "import keras_hub" in path.read_text("utf-8"):
        pytest.importorskip("keras_hub")
    cells, _ = guides.run(path, short=True)
    assert any(cell.printed for cell in cells)
    drawn = [len(cell.pictures) for cell in cells if cell.code]
    kept = guides.recorded(path)
    assert drawn == [len(cell.pictures) for cell in kept.cells if cell.code]


@pytest.mark.once
@pytest.mark.parametrize("path", guides.scripts(), ids=lambda path: path.stem)
def test_the_guide_says_when_to_use_it_and_shows_what_it_ends_in(path):
    guide = guides.recorded(path)
    assert "\n**Use this when** " in guide.cells[0].text
    assert "\n**Do not" in guide.cells[0].text
    begin = guides.page(guide).split("```python")[0]
    assert "![" in begin or "```{.text .output}" in begin


@pytest.mark.once
def test_pictures_of_former_runs_are_gone():
    shown = {
        name
        for path in guides.scripts()
        for names in guides.recorded(path).names.values()
        for name in names
    }
    assert {path.name for path in guides.RESULTS.glob("*.png")} == shown


@pytest.mark.once
def test_results_of_other_code_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(guides, "RESULTS", tmp_path)
    path = tmp_path / "example.py"
    code = '"""\n# An example\n\nIt is {value:.1f}, $x_{i:d}$.\n"""\n\nvalue = 1.25\nprint(value)\n'
    path.write_text(code)
    with pytest.raises(ValueError, match="example has no results"):
        guides.recorded(path)
    guides.record(path)
    assert guides.recorded(path).cells[0].text.endswith("It is 1.2, $x_{i:d}$.")
    assert "```{.text .output}\n1.25\n```" in guides.page(guides.recorded(path))
    path.write_text(code.replace("print", "# Says the value.\nprint"))
    guides.recorded(path)
    path.write_text(code.replace("{value:.1f}", "{value:.3f}"))
    with pytest.raises(ValueError, match="no results for its fields"):
        guides.recorded(path)
    path.write_text(code.replace("1.25", "2.5"))
    with pytest.raises(ValueError, match="The code of the guide example changed"):
        guides.recorded(path)


@pytest.mark.once
def test_a_figure_that_is_not_shown_is_an_error(tmp_path):
    path = tmp_path / "example.py"
    path.write_text("import matplotlib.pyplot as plt\nplt.plot([1, 2])\n")
    with pytest.raises(RuntimeError, match="no `plt.show"):
        guides.run(path)


@pytest.mark.once
def test_there_are_guides():
    names = {path.stem for path in guides.scripts()}
    assert {"quickstart", "write_your_own_train_step"} <= names
