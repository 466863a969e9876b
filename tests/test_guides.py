"""The guides run as they are, on little training."""

import pathlib
import runpy

import matplotlib
import pytest

GUIDES = sorted((pathlib.Path(__file__).parent.parent / "guides").glob("*.py"))


@pytest.mark.rotating
@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.stem)
def test_the_guide_runs(path, tmp_path, monkeypatch, capsys):
    matplotlib.use("Agg")
    monkeypatch.setenv("GUIDE_EPOCHS", "1")
    monkeypatch.setenv("GUIDE_IMAGES", str(tmp_path))
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out
    # Every picture that the text shows was drawn, and lies in the repository.
    for name in _pictures(path):
        assert (tmp_path / name).stat().st_size > 1000
        assert (path.parent / "images" / name).exists()


@pytest.mark.once
def test_there_are_guides():
    assert {"quickstart", "write_your_own_train_step"} <= {path.stem for path in GUIDES}


def _pictures(path):
    return [part.split(")")[0] for part in path.read_text("utf-8").split("](images/")[1:]]
