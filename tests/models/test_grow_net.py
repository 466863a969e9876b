"""Boosting with networks: its targets, its steps, and a model that grows, stops, is saved and goes on.

JAX and TensorFlow take long to compile, so what does not depend on the backend runs once.
"""

import keras
import numpy as np
import pytest
from keras import ops

import keras_regularize as kr
from keras_regularize import autodiff
from keras_regularize.models import _boosting_stages
from keras_regularize.testing._common import to_numpy

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(32, 3)).astype("float32")
Y = (X[:, 0] * X[:, 1]).astype("float32")


def grown(task="regression", x=X, y=Y, stages=2, compiled=(), units=1, fit=(), **options):
    model = kr.models.GrowNet(stages, task, hidden_units=3, units=units, **options)
    model.compile(**dict(compiled))
    model.history_ = model.fit(x, y, batch_size=16, verbose=0, **dict(fit)).history
    return model


def lists(padding=0):
    """Three items per query, of which the first feature says the relevance, and padding."""
    x, y = np.zeros((32, 3 + padding, 2), "float32"), np.full((32, 3 + padding), -1)
    x[:, :3] = np.random.default_rng(1).normal(size=(32, 3, 2))
    y[:, :3] = np.digitize(x[:, :3, 0], [0.0, 1.0])
    return x, y


# Targets


LOSSES = {
    "binary": ("classification", keras.losses.BinaryCrossentropy(from_logits=True), 1),
    "classes": ("classification", kr.losses.CompSum(tau=1.0), 3),
    "pairs": ("ranking", kr.losses.PairwiseLogistic(), 3),
}


@pytest.mark.parametrize("case", LOSSES)
def test_targets_are_newton_steps_of_the_loss(case):
    task, loss, width = LOSSES[case]
    scores = np.random.default_rng(2).normal(size=(1, width)).astype("float32")
    y = {"binary": [[1]], "classes": [2], "pairs": [[2, 0, -1]]}[case]

    def gradient(s):
        return to_numpy(autodiff.grad(lambda t: loss(np.array(y), t))(ops.convert_to_tensor(s)))[0]

    g = gradient(scores)
    first = kr.models.GrowNet.boosting_targets(task, np.array(y), scores, order=1)
    np.testing.assert_allclose(to_numpy(first.target)[0], -g, atol=1e-5)
    assert (to_numpy(first.weight) == 1).all()
    second = kr.models.GrowNet.boosting_targets(task, np.array(y), scores)
    moves = 0.05 * np.eye(width, dtype="float32")
    diagonal = [((gradient(scores + m) - gradient(scores - m)) @ m) / (2 * 0.05**2) for m in moves]
    np.testing.assert_allclose(to_numpy(second.weight)[0], diagonal, rtol=5e-3, atol=1e-5)
    # h (f - t)² is h f² + 2 g f, and a constant that f does not change.
    product = to_numpy(second.weight * second.target)[0]
    np.testing.assert_allclose(product, -g, rtol=1e-4, atol=1e-6)


def test_a_score_that_is_surely_wrong_has_finite_targets():
    y, scores = np.array([1.0, 0.0]), np.array([-1e4, 1e4], "float32")
    target, weight = kr.models.GrowNet.boosting_targets("classification", y, scores)
    np.testing.assert_allclose(to_numpy(weight * target), [1.0, -1.0], rtol=1e-5)


# Steps


@pytest.mark.everywhere
def test_a_model_is_saved_and_goes_on(tmp_path):
    model = grown(stages=2, fit={"epochs": 1, "validation_data": (X, Y)})
    assert model.num_learners == 1 and len(model.history_["val_loss"]) == 1
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.get_config() == model.get_config() and again.num_learners == 1
    before = model.predict(X, verbose=0)
    np.testing.assert_array_equal(again.predict(X, verbose=0), before)
    first = [to_numpy(w) for w in again.learners[0].weights]
    again.fit(X, Y, batch_size=32, verbose=0)
    assert again.num_learners == 2 and not np.allclose(again.predict(X, verbose=0), before)
    assert any((a != to_numpy(b)).any() for a, b in zip(first, again.learners[0].weights))
    with pytest.raises(ValueError, match="nothing is left to train"):
        again.fit(X, Y)


@pytest.mark.once
def test_the_greedy_step_trains_the_newest_learner_alone():
    model = grown(stages=2, corrective_epochs=0, fit={"epochs": 1})
    start = float(to_numpy(model.start)[0])
    assert start == pytest.approx(float(Y.mean()), rel=1e-5)
    before = [to_numpy(w) for w in model.learners[0].weights]
    newest = [to_numpy(w) for w in model.learners[1].weights]
    model.fit(X, Y, verbose=0)
    for old, weight in zip(before, model.learners[0].weights):
        np.testing.assert_array_equal(old, to_numpy(weight))
    assert any((a != to_numpy(b)).any() for a, b in zip(newest, model.learners[1].weights))
    assert float(to_numpy(model.boost_rate)) == 1.0
    assert float(to_numpy(model.start)[0]) == start


@pytest.mark.once
def test_a_learner_that_adds_nothing_changes_nothing():
    model = grown(stages=2, fit={"epochs": 1})
    before = model.predict(X, verbose=0)
    scores = model.learners[1].scores
    scores.set_weights([0 * w for w in scores.get_weights()])
    weights = model.get_weights()
    place = [w.path for w in model.weights].index(model.grown.path)
    weights[place] = np.float32(2.0)
    model.set_weights(weights)
    assert model.num_learners == 2
    np.testing.assert_array_equal(model.predict(X, verbose=0), before)


@pytest.mark.once
def test_learners_that_only_fill_a_compiled_step_change_nothing(monkeypatch):
    results = []
    for one_by_one in (True, False):
        monkeypatch.setattr(_boosting_stages.backend, "RUNS_ONE_BY_ONE", one_by_one)
        keras.utils.set_random_seed(0)
        model = kr.models.GrowNet(6, hidden_units=3)
        model.compile(keras.optimizers.AdamW(0.02, weight_decay=0.1, global_clipnorm=1.0))
        model.fit(X, Y, 16, epochs=3, verbose=0, validation_data=(X, Y), shuffle=False)
        assert model.capacity == model.num_learners <= 3
        results.append([to_numpy(w) for w in model.weights])
    for exact, filled in zip(*results):
        np.testing.assert_allclose(filled, exact, rtol=1e-5, atol=1e-6)


@pytest.mark.once
def test_few_programs_serve_many_stages(monkeypatch):
    monkeypatch.setattr(_boosting_stages.backend, "RUNS_ONE_BY_ONE", False)
    sizes = [_boosting_stages.capacity(count, 40) for count in range(41)]
    assert sorted(set(sizes)) == [0, 1, 4, 16, 40]
    assert all(size >= count for count, size in enumerate(sizes))
    made, make = [], _boosting_stages._Step.compile_like

    def counted(step, *arguments):
        made.append(type(step).__name__)
        make(step, *arguments)

    monkeypatch.setattr(_boosting_stages._Step, "compile_like", counted)
    grown(stages=4)
    assert made.count("_GreedyStep") == 3 and made.count("_CorrectiveStep") == 1


@pytest.mark.once
def test_the_best_stage_stays():
    model = grown(stages=3, fit={"validation_data": (X, -Y)}, learning_rate=0.05)
    losses = model.history_["val_loss"]
    assert model.num_learners == int(np.argmin(losses)) + 1 < 3
    assert model.evaluate(X, -Y, verbose=0) == pytest.approx(min(losses), rel=1e-4)


@pytest.mark.once
def test_callbacks_act_after_stages():
    stops = keras.callbacks.EarlyStopping("val_loss", patience=1, restore_best_weights=True)
    fit = {"validation_data": (X, -Y), "callbacks": [stops]}
    model = grown(stages=5, fit=fit, learning_rate=0.05)
    assert model.num_learners < len(model.history_["loss"]) < 5
    rates = keras.callbacks.LearningRateScheduler(lambda stage: 0.0)
    model = grown(stages=1, fit={"callbacks": [rates]})
    assert model.predict(X, verbose=0).std() < 10 and model.history_["learning_rate"] == [0.0]


# Tasks


@pytest.mark.once
def test_classes():
    several = np.digitize(X[:, 0], [-0.5, 0.5])
    model = grown("classification", y=several, units=3, compiled={"metrics": ["accuracy"]})
    shares = np.bincount(several) / 32
    np.testing.assert_allclose(to_numpy(model.start), np.log(shares), rtol=1e-5)
    p = model.predict_proba(X, verbose=0)
    assert p.shape == (32, 3) and np.allclose(p.sum(axis=1), 1)
    rows = grown("classification", y=np.eye(3)[several], units=3, stages=1)
    np.testing.assert_allclose(to_numpy(rows.start), np.log(shares), rtol=1e-5)
    single = grown("classification", y=np.ones(32, bool), stages=1)
    assert to_numpy(single.start)[0] == 10 and single.predict_proba(X, verbose=0).shape == (32, 2)


@pytest.mark.once
def test_padding_of_lists_changes_nothing():
    results = []
    for padding in (0, 2):
        keras.utils.set_random_seed(0)
        x, y = lists(padding)
        options = {"metrics": [kr.metrics.NDCG()]}
        # The means over longer lists are smaller, which Adam does not mind but for its epsilon.
        model = grown("ranking", x, y, compiled=options, fit={"shuffle": False})
        results.append((model.predict(x, verbose=0)[:, :3, 0], model.history_["ndcg"]))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=2e-3, atol=2e-4)
    assert results[0][1] == pytest.approx(results[1][1], abs=1e-4)


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, i):
        part = slice(16 * i, 16 * i + 16)
        return X[part], Y[part], np.array([1.0] * 8 + [0.0] * 8)


class Counted(keras.utils.PyDataset):
    """Says how many batches there are, without a length."""

    def __init__(self, num_batches):
        super().__init__()
        self.count = num_batches

    @property
    def num_batches(self):
        return self.count

    def __getitem__(self, i):
        return X[:16] + i, Y[:16] + i


@pytest.mark.once
@pytest.mark.parametrize("count", [2, None])
def test_datasets_without_a_length(count):
    model = grown(x=Counted(count), y=None, stages=1, fit={"steps_per_epoch": 2, "shuffle": False})
    assert to_numpy(model.start)[0] == pytest.approx(Y[:16].mean() + 0.5, rel=1e-4)


@pytest.mark.once
def test_datasets_and_weights():
    model = grown(x=Batches(), y=None, stages=1)
    counted = np.arange(32) % 16 < 8
    assert to_numpy(model.start)[0] == pytest.approx(Y[counted].mean(), rel=1e-4)
    weights = counted.astype("float32")
    model = grown(stages=1, fit={"sample_weight": weights, "validation_split": 0.25})
    assert to_numpy(model.start)[0] == pytest.approx(Y[:24][counted[:24]].mean(), rel=1e-4)


@pytest.mark.once
def test_bad_arguments():
    cases = (
        ({"task": "clustering"}, "`task` must be one of"),
        ({"order": 3}, "`order` must be one of"),
        ({"task": "ranking", "units": 2}, "one score per item"),
        ({"boost_rate": 0}, "`boost_rate` must be"),
    )
    for arguments, message in cases:
        with pytest.raises(ValueError, match=message):
            kr.models.GrowNet(**arguments)
    model = kr.models.GrowNet(1, "classification")
    with pytest.raises(ValueError, match="task decides"):
        model.compile(loss="mse")
    with pytest.raises(ValueError, match="schedule"):
        model.compile(keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 10)))
    with pytest.raises(ValueError, match="between 0 and 1|0 and 1"):
        model.fit(X, np.full(32, -1.0))
    with pytest.raises(ValueError, match="several times"):
        model.fit((X, Y) for _ in range(2))
    with pytest.raises(ValueError, match="needs labels"):
        model.fit(X)
    with pytest.raises(ValueError, match="at least one sample"):
        model.fit(X[:0], Y[:0])
    with pytest.raises(ValueError, match="validation data of at least one sample"):
        model.fit(X, Y > 0, validation_data=(X[:0], Y[:0]))
    with pytest.raises(ValueError, match="at least one sample"):
        model.fit(Counted(0))
    with pytest.raises(ValueError, match="`steps_per_epoch` for a dataset without an end"):
        model.fit(Counted(None))
    with pytest.raises(ValueError, match="single array of inputs"):
        kr.models.GrowNet(1).fit(X[:, None], Y)
    with pytest.raises(ValueError, match="those of a classification"):
        kr.models.GrowNet(1).predict_proba(X)
    with pytest.raises(ValueError, match="no step"):
        model.train_on_batch(X, Y)


@pytest.mark.once
def test_validation_loss_falls_over_stages_and_the_corrective_step_helps():
    datasets = pytest.importorskip("sklearn.datasets")
    x, y = datasets.load_breast_cancer(return_X_y=True)
    x = ((x - x.mean(axis=0)) / x.std(axis=0)).astype("float32")
    losses = []
    for corrective_epochs in (0, 1):
        keras.utils.set_random_seed(0)
        model = kr.models.GrowNet(3, "classification", corrective_epochs=corrective_epochs)
        fit = model.fit(x[:384], y[:384], 64, validation_data=(x[384:], y[384:]), verbose=0)
        losses.append(fit.history["val_loss"])
        assert losses[-1][-1] < 0.6 * losses[-1][0]
    assert losses[1][-1] < 0.8 * losses[0][-1]
