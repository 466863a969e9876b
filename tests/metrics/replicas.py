"""Evaluates with every metric on two replicas of `tf.distribute` and on one, and compares."""

import keras
import numpy as np
import tensorflow as tf

from keras_regularize import metrics as kr

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 3)).astype("float32")
Y = RNG.integers(0, 2, 300)


def evaluate():
    keras.utils.set_random_seed(5)
    net = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, activation="sigmoid")])
    metrics = [kr.ExpectedCalibrationError(), kr.Coverage(0.5), kr.SelectiveAccuracy(0.5)]
    metrics += [kr.ExpectedCalibrationError(classwise=True, norm="l2", name="classwise")]
    net.compile("sgd", "binary_crossentropy", metrics=metrics)
    return net.evaluate(X, Y, batch_size=100, verbose=0)


def distance():
    """Of data of which the two replicas see different halves."""
    net = keras.Sequential([keras.Input((3,)), keras.layers.Identity()])
    extractor = keras.Sequential([keras.Input((3,)), keras.layers.Identity()])
    net.compile(loss="mse", metrics=[kr.FrechetDistance(extractor)])
    x = np.sort(X, axis=0)
    return net.evaluate(x, x[::-1] ** 2, batch_size=150, verbose=0)


cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
one = [*evaluate(), *distance()]
with strategy.scope():
    two = [*evaluate(), *distance()]
np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)
print("equal to one device")
