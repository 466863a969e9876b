"""AdaptiveGradientClipping: the units of every kernel layout, and what is clipped."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_regularize.optimizers import AdaptiveGradientClipping, unit_axes
from keras_regularize.testing._common import to_numpy

SGD = keras.optimizers.SGD
RNG = np.random.default_rng(0)


def clipped(w, g, axes, clipping=0.1, epsilon=1e-3):
    """A loop over the units; `axes` index them."""
    out, axes = np.empty_like(g), [a % g.ndim for a in axes]
    for index in np.ndindex(*[g.shape[a] for a in axes]):
        unit = [slice(None)] * g.ndim
        for a, i in zip(axes, index):
            unit[a] = i
        unit = tuple(unit)
        most = clipping * max(np.linalg.norm(w[unit]), epsilon)
        out[unit] = g[unit] * min(1.0, most / max(np.linalg.norm(g[unit]), 1e-30))
    return out


def change(optimizer, variable, g):
    before = to_numpy(variable)
    optimizer.apply([ops.convert_to_tensor(g)], [variable])
    return before - to_numpy(variable)


def attention():
    x = keras.Input((5, 4))
    return keras.Model(x, layers.MultiHeadAttention(2, 3)(x, x))


def of(layer, *shape):
    return keras.Sequential([keras.Input(shape), layer])


LAYOUTS = [
    (lambda: of(layers.Dense(3), 4), [[-1], []]),
    (lambda: of(layers.Conv2D(3, 2), 5, 5, 2), [[-1], []]),
    (lambda: of(layers.Conv2DTranspose(3, 2), 5, 5, 2), [[-2], []]),
    (lambda: of(layers.Conv1DTranspose(3, 2), 5, 2), [[-2], []]),
    (lambda: of(layers.DepthwiseConv2D(2, depth_multiplier=2), 5, 5, 3), [[-2, -1], []]),
    (lambda: of(layers.DepthwiseConv1D(2), 5, 3), [[-2, -1], []]),
    (lambda: of(layers.SeparableConv2D(3, 2), 5, 5, 2), [[-2, -1], [-1], []]),
    (lambda: of(layers.Embedding(6, 3), 2), [[0]]),
    (lambda: of(layers.GRU(2), 4, 3), [[-1], [-1], []]),
    (lambda: of(layers.BatchNormalization(), 4), [[], []]),
    (attention, [[-2, -1], [], [-2, -1], [], [-2, -1], [], [-1], []]),
]


@pytest.mark.parametrize("make, axes", LAYOUTS)
def test_units_of_every_layout_by_names_and_by_layers(make, axes):
    model = make()
    assert [unit_axes(model)[v.path] for v in model.trainable_variables] == axes
    for optimizer in (
        AdaptiveGradientClipping(SGD(1.0), 0.1),
        AdaptiveGradientClipping(SGD(1.0), 0.1, axes=unit_axes(model)),
    ):
        for variable, units in zip(model.trainable_variables, axes):
            scales = np.exp(RNG.normal(size=variable.shape) * 2)
            g = (0.1 * RNG.normal(size=variable.shape) * scales).astype("float32")
            w = to_numpy(variable)
            expected = clipped(w, g, units)
            one = AdaptiveGradientClipping.from_config(optimizer.get_config())
            np.testing.assert_allclose(change(one, variable, g), expected, rtol=1e-3, atol=1e-6)


def test_layers_with_other_names_need_the_axes_of_the_model():
    model = keras.Sequential(
        [
            keras.Input((5, 5, 3)),
            layers.DepthwiseConv2D(2, use_bias=False, name="mix"),
            layers.Conv2DTranspose(4, 2, use_bias=False, name="up"),
            layers.EinsumDense("abcd,edf->abcfe", (5, 5, 2, 3), name="out"),
        ]
    )
    axes = {"/".join(path.split("/")[-2:]): a for path, a in unit_axes(model).items()}
    assert axes == {"mix/kernel": [-2, -1], "up/kernel": [-2], "out/kernel": [-3, -1]}
    for key in ("up/kernel", "up", "kernel"):
        variable = model.layers[1].kernel
        g = RNG.normal(size=variable.shape).astype("float32")
        expected = clipped(to_numpy(variable), g, [-2])
        optimizer = AdaptiveGradientClipping(SGD(1.0), 0.1, axes={key: -2})
        np.testing.assert_allclose(change(optimizer, variable, g), expected, rtol=1e-3, atol=1e-6)


def test_small_gradients_and_what_is_excluded_pass_and_zero_weights_can_move():
    w = RNG.normal(size=(4, 3)).astype("float32")
    small = 1e-3 * w
    variable = keras.Variable(w, name="kernel")
    step = change(AdaptiveGradientClipping(SGD(1.0), 0.1), variable, small)
    np.testing.assert_allclose(step, small, atol=1e-6)
    free = AdaptiveGradientClipping(SGD(1.0), 1e-6, where=[])
    np.testing.assert_allclose(change(free, variable, w), w, atol=1e-6)
    zero = keras.Variable(0 * w, name="kernel")
    step = change(AdaptiveGradientClipping(SGD(1.0), 0.1, epsilon=0.01), zero, w)
    np.testing.assert_allclose(np.linalg.norm(step, axis=0), 0.001, rtol=1e-4)
    nan = np.where(np.arange(3) == 1, np.nan, w).astype("float32")
    assert np.isnan(change(AdaptiveGradientClipping(SGD(1.0)), keras.Variable(w), nan)[:, 1]).all()


@pytest.mark.rotating
def test_it_tames_a_rate_at_which_plain_training_diverges():
    x = RNG.normal(size=(64, 8)).astype("float32")
    y = x @ RNG.normal(size=(8, 1)).astype("float32")
    losses = {}
    for name, optimizer in {
        "plain": SGD(2.0),
        "clipped": AdaptiveGradientClipping(SGD(2.0)),
    }.items():
        keras.utils.set_random_seed(0)
        net = keras.Sequential([keras.Input((8,)), layers.Dense(16, "relu"), layers.Dense(1)])
        net.compile(optimizer, "mse")
        net.fit(np.tile(x, (60, 1)), np.tile(y, (60, 1)), batch_size=64, shuffle=False, verbose=0)
        losses[name] = net.evaluate(x, y, verbose=0)
    assert losses["clipped"] < 0.5 * np.var(y)
    assert not losses["plain"] < np.var(y)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"clipping": 0}, "`clipping` must be a number above 0"),
        ({"epsilon": -1}, "`epsilon` must be a number above 0"),
        ({"where": 1}, "`where` must be the name of a variable, a list of names"),
        ({"axes": [-1]}, "`axes` must be a dictionary from names to axes"),
        ({"axes": {"kernel": [0, 0]}}, "`axis` must be an integer, a tuple of distinct"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        AdaptiveGradientClipping("sgd", **arguments)
    with pytest.raises(ValueError, match="needs a built model"):
        unit_axes(keras.Sequential([layers.Dense(2)]))
