"""The comparisons run, and what is kept of them belongs to the methods and to the text that are there."""

import io
import operator
import re

import pytest
from rich.console import Console

import keras_regularize as kr
from benchmarks.comparisons import TASKS, _comparison, _summary, load, page


@pytest.mark.rotating
def test_it_compares_by_equal_budget(tmp_path):
    task = load("noisy_labels")
    methods = [m for m in task.methods if m.name in ("plain", "losses.SymmetricCrossentropy")]
    reports = []
    results = _comparison.compare(task, 2, [1000], 1, methods, reports.append)
    searched = [len(m.settings) if len(m.settings) > 1 else 0 for m in methods]
    assert searched == [0, _comparison.SETTINGS]
    assert len(reports) == sum(searched) + 2 * len(methods)

    plain, other = results["rows"]
    assert plain["key"] is None and plain["time"] == 1 and plain["setting"] == {}
    assert other["setting"] in methods[1].settings and other["time"] > 0
    for row in results["rows"]:
        for name, found in row["measures"].items():
            assert name in task.measures
            assert 0 <= found["mean"] <= 1 and found["error"] > 0
            # Other seeds are other data.
            assert len(set(found["values"])) == 2
    # The same seed is the same training.
    repeated, _ = _comparison.once(task, methods[0], {}, 1, "test", 1)
    expected = [plain["measures"][name]["values"][1] for name in repeated]
    assert list(repeated.values()) == pytest.approx(expected, abs=1e-5)

    console = Console(file=io.StringIO(), width=80)
    console.print(_comparison.rich_table(task, results))
    shown = console.file.getvalue()
    assert "SymmetricCrossentropy" in shown and "…" not in shown
    _comparison.save("noisy_labels", results, tmp_path)
    assert (tmp_path / "noisy_labels.png").stat().st_size > 5000
    assert (tmp_path / "noisy_labels.json").stat().st_size > 500


@pytest.mark.once
@pytest.mark.parametrize("name", TASKS)
def test_methods_are_public_and_get_the_same_budget(name):
    task = load(name)
    names = [method.name for method in task.methods]
    assert len(set(names)) == len(names) and _comparison.PLAIN in names
    for method in task.methods:
        assert len(method.settings) in (1, _comparison.SETTINGS)
        if method.key is not None:
            assert operator.attrgetter(method.key)(kr) is not None
            assert (
                method.key.split(".")[1]
                in operator.attrgetter(method.key.split(".")[0])(kr).__all__
            )


@pytest.mark.once
@pytest.mark.parametrize("name", TASKS)
def test_the_results_are_those_of_the_task(name):
    task, results = load(name), _comparison.kept(name)
    rows = {row["label"]: row for row in results["rows"]}
    assert list(rows) == [method.name for method in task.methods]
    assert len(results["seeds"]) >= 5
    assert not set(results["seeds"]) & set(results["search_seeds"])
    assert (results["epochs"], results["batch_size"]) == (task.epochs, task.batch_size)
    for method in task.methods:
        row = rows[method.name]
        assert row["key"] == method.key and row["setting"] in list(map(dict, method.settings))
        assert row["passes"] == pytest.approx(method.passes, abs=0.01)
        assert set(row["measures"]) == set(task.measures)
        for found in row["measures"].values():
            assert len(found["values"]) == len(results["seeds"])
            assert found["mean"] == pytest.approx(
                sum(found["values"]) / len(found["values"]), abs=1e-4
            )
    assert (_comparison.RESULTS / f"{name}.png").stat().st_size > 5000


@pytest.mark.once
@pytest.mark.parametrize("name", TASKS)
def test_the_page_is_filled_and_says_what_the_results_say(name):
    task, results = load(name), _comparison.kept(name)
    text = page(name)
    assert text.startswith(f"# Which one: {task.title}\n")
    assert not re.search(r"[{}]", text)
    assert f"](images/{name}.png)" in text and f"python -m benchmarks.comparisons {name}" in text
    for row in results["rows"]:
        assert _comparison.link(row) in text
    # What the prose says of who is better than whom.
    rows = {row["label"]: row for row in results["rows"]}
    assert task.claims
    for better, worse, measure in task.claims:
        mean, error = _comparison.difference(rows[better], rows[worse], measure)
        sign = 1 if task.measures[measure].more_is_better else -1
        assert sign * mean > 2 * error, f"{better} is not better than {worse} in {measure}"


@pytest.mark.once
def test_an_unknown_task_is_named():
    with pytest.raises(ValueError, match="noisy_labels.*received 'weather'"):
        load("weather")


@pytest.mark.once
def test_the_readme_shows_what_is_kept():
    readme = (_summary.ROOT / "README.md").read_text("utf-8")
    assert f"<!-- comparisons:start -->\n{_summary.block()}\n<!-- comparisons:end -->" in readme
    assert (_summary.ROOT / _summary.PICTURE).exists()
