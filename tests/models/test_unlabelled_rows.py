"""Unlabelled rows train the same whatever brings the data."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_regularize as kr

BACKEND = keras.backend.backend()
RNG = np.random.RandomState(0)
X = RNG.rand(24, 4).astype("float32")
Y = np.where(RNG.rand(24) < 0.4, RNG.randint(0, 3, 24), -1)
Y[:8] = -1  # One batch without a label.
Y[8:16] = np.arange(8) % 3  # One in which all have one.
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, i):
        return X[8 * i : 8 * i + 8], Y[8 * i : 8 * i + 8]


def tf_dataset():
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)


def torch_loader():
    import torch

    data = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y))
    return torch.utils.data.DataLoader(data, batch_size=8)


SOURCES = {"PyDataset": Batches}
if BACKEND == "tensorflow":
    SOURCES["tf.data"] = tf_dataset
if BACKEND == "torch":
    SOURCES["DataLoader"] = torch_loader


def history(wrap, *data):
    keras.utils.set_random_seed(1)
    net = keras.Sequential([keras.Input((4,)), layers.Dense(5, "tanh"), layers.Dense(3)])
    model = wrap(net)
    model.compile(keras.optimizers.SGD(0.1), LOSS, metrics=["accuracy"])
    logs = model.fit(*data, batch_size=8 if len(data) == 2 else None, shuffle=False, verbose=0)
    return logs.history, net.get_weights()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda m: kr.models.VAT(m, epsilon=0.5, seed=3),
        lambda m: kr.models.RobustSelfSupervised(m, 0.5, steps=2),
    ],
    ids=["VAT", "RobustSelfSupervised"],
)
def test_every_source_of_data_trains_alike(wrap):
    logs, weights = history(wrap, X, Y)
    assert np.isfinite(logs["loss"]).all() and 0 <= logs["accuracy"][0] < 1
    for name, source in SOURCES.items():
        other, moved = history(wrap, source())
        for key, values in logs.items():
            np.testing.assert_allclose(other[key], values, rtol=1e-5, err_msg=name)
        for a, b in zip(moved, weights):
            np.testing.assert_allclose(a, b, atol=1e-6, err_msg=name)
