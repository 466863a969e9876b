"""Trains with every wrapper on two replicas of `tf.distribute` and on one, and compares."""

import keras
import numpy as np
import tensorflow as tf

from keras_regularize import optimizers as kr

SGD = keras.optimizers.SGD
cosine = keras.optimizers.schedules.CosineDecay(1.0, 10)
scaling = keras.optimizers.LossScaleOptimizer
WRAPPERS = {
    "decay": lambda: scaling(kr.DecoupledWeightDecay(SGD(0.1, momentum=0.9), 0.05, cosine)),
    "LOBSTER": lambda: scaling(kr.LOBSTER(SGD(0.1, momentum=0.9), 0.05), initial_scale=8.0),
    "irrelevant": lambda: kr.IrrelevantWeightDecay(kr.Masked(SGD(0.1)), 0.5, 0.5, True),
    "clipping": lambda: kr.AdaptiveGradientClipping(SGD(0.1, momentum=0.9), 0.02),
    "LAWN": lambda: kr.LAWN(keras.optimizers.Adam(0.01), 2),
}
RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, 4)).astype("float32")
Y = RNG.normal(size=(32, 2)).astype("float32")


def train(make):
    keras.utils.set_random_seed(5)
    net = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(5, "tanh"), keras.layers.Dense(2)]
    )
    net.compile(make(), "mse")
    net.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    return [w.numpy() for w in (*net.weights, *net.optimizer.variables)]


cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
for name, make in WRAPPERS.items():
    one = train(make)
    with strategy.scope():
        two = train(make)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5, err_msg=name)
print("equal to one device")
