"""Boosting by networks and by trees on the data of scikit-learn: errors on held-out rows."""

import time
from typing import Any

import keras
import numpy as np
from rich.table import Table
from sklearn import datasets, ensemble, metrics, model_selection

import keras_regularize as kr

STAGES = 10
EPOCHS = 4
#: Loader, task, number of scores.
DATA = {
    "diabetes": (datasets.load_diabetes, "regression", 1),
    "breast cancer": (datasets.load_breast_cancer, "classification", 1),
    "digits": (datasets.load_digits, "classification", 10),
}


def prepared(name, seed):
    """Standardized rows for training, validation and test."""
    loader, task, _ = DATA[name]
    x, y = loader(return_X_y=True)
    rest = model_selection.train_test_split(x, y, test_size=0.25, random_state=seed)
    x, x_test, y, y_test = rest
    x, x_valid, y, y_valid = model_selection.train_test_split(
        x, y, test_size=0.2, random_state=seed
    )
    mean, std = x.mean(axis=0), x.std(axis=0)
    std[std == 0] = 1.0  # A pixel that is blank in all rows for training may not be so in others.
    parts = [((part - mean) / std).astype("float32") for part in (x, x_valid, x_test)]
    labels = [y, y_valid, y_test]
    if task == "regression":
        labels = [((part - y.mean()) / y.std()).astype("float32") for part in labels]
    return list(zip(parts, labels))


def error(task, y, predicted):
    return (
        metrics.mean_squared_error(y, predicted)
        if task == "regression"
        else np.mean(y != predicted)
    )


def grow_net(name, train, valid, test, seed, **options):
    keras.utils.set_random_seed(seed)
    _, task, units = DATA[name]
    # Data are few: with one epoch a step would be a dozen batches.
    options = {"epochs_per_stage": EPOCHS, "corrective_epochs": EPOCHS} | options
    model = kr.models.GrowNet(STAGES, task, units=units, **options)
    x, y = train
    model.fit(x, y, batch_size=32, validation_data=valid, verbose=0)
    if task == "regression":
        return model.predict(test, verbose=0)[:, 0]
    return model.predict_proba(test, verbose=0).argmax(axis=1)


def trees(name, train, valid, test, seed):
    regression = DATA[name][1] == "regression"
    kind = ensemble.GradientBoostingRegressor if regression else ensemble.GradientBoostingClassifier
    return kind(random_state=seed, n_iter_no_change=10).fit(*train).predict(test)


def histogram_trees(name, train, valid, test, seed):
    regression = DATA[name][1] == "regression"
    kind = (
        ensemble.HistGradientBoostingRegressor
        if regression
        else ensemble.HistGradientBoostingClassifier
    )
    return kind(random_state=seed, early_stopping=True).fit(*train).predict(test)


METHODS: dict[str, Any] = {
    "GrowNet": grow_net,
    "GrowNet, one epoch a step": lambda *given: grow_net(
        *given, epochs_per_stage=1, corrective_epochs=1
    ),
    "GrowNet, no corrective step": lambda *given: grow_net(*given, corrective_epochs=0),
    "GrowNet, first order": lambda *given: grow_net(*given, order=1),
    "GradientBoosting": trees,
    "HistGradientBoosting": histogram_trees,
}


def table(quick=False, on_turn=None):
    seeds = range(1 if quick else 3)
    backend = keras.backend.backend()
    title = f"{backend}: mean squared error or share of wrong classes, {STAGES} stages, {len(seeds)} seed(s)"
    result = Table("method", *DATA, "seconds", title=title, title_justify="left")
    for method, run in METHODS.items():
        cells, start = [], time.perf_counter()
        for name, (_, task, _) in DATA.items():
            if on_turn:
                on_turn(f"{method}, {name}")
            errors = []
            for seed in seeds:
                train, valid, test = prepared(name, seed)
                errors.append(error(task, test[1], run(name, train, valid, test[0], seed)))
            cells.append(f"{np.mean(errors):.3f} ± {np.std(errors):.3f}")
        result.add_row(method, *cells, f"{time.perf_counter() - start:.0f}")
    return result
