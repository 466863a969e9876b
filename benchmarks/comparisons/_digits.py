"""scikit-learn's digits, a small network for them, and what Keras itself has for any task."""

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits

from benchmarks.comparisons._comparison import PLAIN, Data, Method, grid

CLASSES = 10


def digits(generator, train, validation):
    """The 1797 images in random order, pixels from 0 to 1: some to train, some to choose by, the rest to test."""
    x, y = load_digits(return_X_y=True)
    order = generator.permutation(len(y))
    x, y = (x[order] / 16).astype("float32"), y[order]
    parts = np.split(np.arange(len(y)), [train, train + validation])
    return Data(*((x[part], y[part]) for part in parts))


def mlp(inputs=64, units=128, dropout=0.0, hidden=2, before_last=(), classes=CLASSES, **dense):
    """Dense layers with what a method needs of them: dropout, something before the last layer, regularizers."""
    body = []
    for _ in range(hidden):
        body.append(layers.Dense(units, activation="relu", **dense))
        if dropout:
            body.append(layers.Dropout(dropout))
    last = layers.Dense(classes, **dense)
    return keras.Sequential([keras.Input((inputs,)), *body, *before_last, last])


def scores(model, x):
    return model.predict(x, batch_size=len(x), verbose=0)


def accuracy(model, x, y):
    return np.mean(np.argmax(scores(model, x), axis=-1) == y)


def smoothed(amount):
    """Keras' cross-entropy with label smoothing, for class ids."""
    return _with_rows(
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=amount)
    )


def focal(gamma, alpha=1.0):
    """Keras' focal loss, for class ids."""
    return _with_rows(
        keras.losses.CategoricalFocalCrossentropy(alpha=alpha, gamma=gamma, from_logits=True)
    )


def _with_rows(loss):
    def of_ids(y, z):
        ids = keras.ops.cast(keras.ops.reshape(y, (-1,)), "int32")
        return loss(keras.ops.one_hot(ids, z.shape[-1]), z)

    return of_ids


def stopped(run, model, patience, **compiled):
    """Trains until the loss on validation data has not fallen for some epochs, and goes back to the best."""
    stop = keras.callbacks.EarlyStopping(patience=patience, restore_best_weights=True)
    validation = {"validation_data": run.data.validation, "validation_batch_size": 2000}
    return run.train(model, callbacks=[stop], **validation, **compiled)


def keras_methods(network=mlp, learning_rate=1e-3, decayed=None, decays=(0.03, 0.3, 1.0, 3.0)):
    """What Keras has for most tasks, on networks that `network(dropout=…)` makes.

    `decayed(learning_rate, weight_decay=…)` is the optimizer with weight decay.
    """
    decayed = decayed or keras.optimizers.AdamW
    return [
        Method(None, lambda run: run.train(network()), label=PLAIN),
        Method(
            None,
            lambda run, amount: run.train(network(), smoothed(amount)),
            grid(amount=(0.05, 0.1, 0.2, 0.4)),
            "label smoothing",
        ),
        Method(
            None,
            lambda run, rate: run.train(network(dropout=rate)),
            grid(rate=(0.1, 0.25, 0.5, 0.7)),
            "dropout",
        ),
        Method(
            None,
            lambda run, decay: run.train(
                network(), optimizer=decayed(learning_rate, weight_decay=decay)
            ),
            grid(decay=decays),
            "weight decay",
        ),
        Method(
            None,
            lambda run, patience: stopped(run, network(), patience),
            grid(patience=(1, 3, 6, 12)),
            "early stopping",
        ),
    ]
