"""The loss over planes and lines of weights, and the paths of trainings in them."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import layers

import keras_regularize as kr
from keras_regularize import analysis

CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
X = np.random.default_rng(0).normal(size=(10, 3)).astype("float32")
Y = np.arange(10, dtype="int32") % 3


def classifier():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dense(4, "relu"), layers.BatchNormalization(), layers.Dense(3)]
    )
    model.compile("sgd", CROSSENTROPY, metrics=[keras.metrics.SparseCategoricalAccuracy()])
    return model


def lengths(weight, axes):
    kept = {axis % weight.ndim for axis in axes}
    members = tuple(i for i in range(weight.ndim) if i not in kept)
    return np.sqrt(np.sum(weight.astype("float64") ** 2, axis=members))


@pytest.mark.parametrize(
    "make, shape, filters",
    [
        (lambda: layers.Dense(4), (3,), {"kernel": (-1,)}),
        (lambda: layers.Conv2D(4, 3), (6, 6, 2), {"kernel": (-1,)}),
        (lambda: layers.DepthwiseConv2D(3, depth_multiplier=2), (6, 6, 2), {"kernel": (-2, -1)}),
        (lambda: layers.Conv2DTranspose(4, 3), (6, 6, 2), {"kernel": (-2,)}),
        (
            lambda: layers.SeparableConv2D(4, 3),
            (6, 6, 2),
            {"depthwise_kernel": (-2, -1), "pointwise_kernel": (-1,)},
        ),
        (lambda: layers.Embedding(5, 4), (3,), {"embeddings": (0,)}),
        (
            lambda: layers.GRU(3),
            (4, 2),
            {"gru_cell/kernel": (-1,), "gru_cell/recurrent_kernel": (-1,)},
        ),
        (
            lambda: layers.MultiHeadAttention(2, 3),
            (4, 5),
            {"query/kernel": (1, 2), "value/kernel": (1, 2), "attention_output/kernel": (2,)},
        ),
    ],
)
def test_directions_have_the_lengths_of_the_filters(make, shape, filters):
    inputs = keras.Input(shape)
    layer = make()
    attends = isinstance(layer, layers.MultiHeadAttention)
    outputs = layer(inputs, inputs) if attends else layer(inputs)
    model = keras.Model(inputs, outputs)
    direction = analysis.random_direction(model, seed=0)
    checked = 0
    for variable, part in zip(model.trainable_variables, direction):
        axes = next((a for name, a in filters.items() if variable.path.endswith(name)), None)
        weight = keras.ops.convert_to_numpy(variable)
        if axes is not None:
            np.testing.assert_allclose(lengths(part, axes), lengths(weight, axes), rtol=1e-4)
            checked += 1
        elif variable.name == "bias":
            assert not part.any()
    assert checked == len(filters)


@pytest.mark.parametrize("norm", ["layer", "weight", "unit_filter", "unit_layer", None])
def test_the_other_norms(norm):
    model = classifier()
    raw = [np.random.default_rng(1).normal(size=v.shape) for v in model.trainable_variables]
    scaled = analysis.normalize_direction(raw, model, norm, include_vectors=True)
    kernel, bias = (keras.ops.convert_to_numpy(v) for v in model.trainable_variables[:2])
    np.testing.assert_array_equal(scaled[1], bias)
    if norm in ("unit_filter", "unit_layer"):
        got = lengths(scaled[0], (-1,)) if norm == "unit_filter" else np.linalg.norm(scaled[0])
        np.testing.assert_allclose(got, 1, rtol=1e-5)
    else:
        expected = {
            "layer": raw[0] * np.linalg.norm(kernel) / np.linalg.norm(raw[0]),
            "weight": raw[0] * kernel,
            None: raw[0],
        }[norm]
        np.testing.assert_allclose(scaled[0], expected, rtol=1e-5)


@pytest.mark.everywhere
def test_the_middle_is_what_evaluate_gives_and_weights_stay():
    model = classifier()
    model.fit(X, Y, batch_size=5, verbose=0)  # Moves the statistics of batch normalization.
    before = model.get_weights()
    accuracy = keras.metrics.SparseCategoricalAccuracy()
    surface = analysis.loss_surface(
        model, X, Y, steps=(3, 5), metrics=[accuracy], seed=0, batch_size=4
    )
    assert surface.loss.shape == (3, 5)
    loss, hits = model.evaluate(X, Y, batch_size=4, verbose=0)
    assert surface.loss[1, 2] == pytest.approx(loss, rel=1e-5)
    assert surface.metrics["sparse_categorical_accuracy"][1, 2] == pytest.approx(hits)
    for a, b in zip(before, model.get_weights()):
        np.testing.assert_array_equal(a, b)


def masked_classifier():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,), dtype="int32")
    hidden = layers.Embedding(5, 3, mask_zero=True)(inputs)
    model = keras.Model(inputs, layers.Dense(3)(hidden))
    model.compile("sgd", CROSSENTROPY, metrics=["accuracy"])
    x = np.array([[1, 2, 3, 4], [2, 0, 0, 0], [3, 1, 0, 0], [4, 4, 4, 0], [1, 3, 0, 0]], "int32")
    return model, x, np.random.default_rng(1).integers(0, 3, size=(5, 4))


def test_metrics_of_masked_positions_are_those_of_evaluate():
    model, x, y = masked_classifier()  # As many positions as samples, which would broadcast.
    accuracy = keras.metrics.SparseCategoricalAccuracy()
    surface = analysis.loss_surface(
        model, x, y, dimensions=1, steps=1, span=(0, 0), metrics=[accuracy], batch_size=4
    )
    loss, hits = model.evaluate(x, y, batch_size=4, verbose=0)
    assert surface.loss[0] == pytest.approx(loss, rel=1e-5)
    assert surface.metrics["sparse_categorical_accuracy"][0] == pytest.approx(hits)


def test_masked_samples_have_the_losses_they_have_alone():
    model, x, y = masked_classifier()
    logits = keras.ops.convert_to_numpy(model(x)).astype("float64")
    logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    losses = -np.take_along_axis(logits, y[..., None], axis=-1)[..., 0]
    alone = (losses * (x > 0)).sum(axis=1) / (x > 0).sum(axis=1)
    for weights, size in ((None, 2), (None, 5), (np.arange(5.0), 3)):
        weighted = alone if weights is None else alone * weights
        curve = analysis.landscape_convergence(
            model, x, y, 1, None, 0, sample_weight=weights, batch_size=size
        )
        order = np.random.default_rng(0).permutation(weighted)
        np.testing.assert_allclose(
            curve.differences, analysis.loss_difference_curve(order), rtol=1e-4, atol=1e-6
        )


@pytest.mark.everywhere
@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="products of float64 are float32 there"
)
def test_double_precision_is_kept():
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1, use_bias=False)])
    model.compile("sgd", "mse")
    x, y = np.random.default_rng(0).normal(size=(2, 6, 3))
    direction = [np.ones((3, 1))]
    surface = analysis.loss_surface(model, x, y[:, :1], directions=[direction], coordinates=[[0.3]])
    moved = x @ (model.get_weights()[0] + 0.3) - y[:, :1]
    assert surface.loss[0] == pytest.approx(np.mean(moved**2), rel=1e-13)


def test_a_line_is_a_row_of_the_plane():
    model = classifier()
    plane = analysis.loss_surface(model, X, Y, steps=3, seed=0)
    line = analysis.loss_surface(model, X, Y, plane.directions[:1], plane.coordinates[:1])
    np.testing.assert_allclose(line.loss, plane.loss[:, 1], rtol=1e-5)


def test_rescaled_layers_have_the_same_surface():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(5, "relu", use_bias=False),
            layers.Dense(3, use_bias=False),
        ]
    )
    raw = [np.random.default_rng(i).normal(size=v.shape) for i, v in enumerate(model.weights)]
    losses = []
    for scale in (1.0, 10.0):
        first, second = model.get_weights()
        model.set_weights([first * scale, second / scale])
        directions = [analysis.normalize_direction(raw, model)]
        surface = analysis.loss_surface(model, X, Y, directions, steps=5, loss=CROSSENTROPY)
        losses.append(surface.loss)
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)


def test_what_was_saved_is_loaded(tmp_path):
    model = classifier()
    metrics = [keras.metrics.SparseCategoricalAccuracy("hits")]
    surface = analysis.loss_surface(model, X, Y, steps=2, metrics=metrics)
    surface.save(tmp_path / "surface")
    loaded = analysis.LossSurface.load(tmp_path / "surface")
    np.testing.assert_array_equal(loaded.loss, surface.loss)
    np.testing.assert_array_equal(loaded.metrics["hits"], surface.metrics["hits"])
    for a, b in zip(loaded.coordinates, surface.coordinates):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(sum(loaded.directions, []), sum(surface.directions, [])):
        np.testing.assert_array_equal(a, b)


def test_the_way_between_two_models_is_that_of_their_weights():
    model = classifier()
    first = model.get_weights()
    model.fit(X, Y, batch_size=2, epochs=3, verbose=0)
    second = model.get_weights()
    expected = []
    for t in (0.0, 0.25, 1.0):
        model.set_weights([(1 - t) * a + t * b for a, b in zip(first, second)])
        expected.append(model.evaluate(X, Y, verbose=0)[0])
    way = analysis.interpolate(model, first, second, X, Y, [0.0, 0.25, 1.0])
    np.testing.assert_allclose(way.loss, expected, rtol=1e-4)
    np.testing.assert_allclose(way.ends, [expected[0], expected[-1]], rtol=1e-4)
    assert way.barrier == pytest.approx(
        max(0.0, expected[1] - 0.75 * expected[0] - 0.25 * expected[2]), abs=1e-5
    )
    # With the statistics of the model, the first end is another one.
    trainable = [[w[i] for i in (0, 1, 2, 3, 6, 7)] for w in (first, second)]
    partial = analysis.interpolate(model, *trainable, X, Y, [0.0, 1.0], variables="trainable")
    assert partial.loss[1] == pytest.approx(expected[2], rel=1e-4)
    assert abs(partial.loss[0] - expected[0]) > 1e-3


def test_a_trajectory_is_kept():
    model = classifier()
    path, steps = kr.callbacks.WeightTrajectory(), kr.callbacks.WeightTrajectory(2)
    start = [keras.ops.convert_to_numpy(v) + 0 for v in model.trainable_variables]
    model.fit(X, Y, batch_size=5, epochs=3, callbacks=[path, steps], verbose=0)
    assert len(path.weights) == len(steps.weights) == 4
    for i, variable in enumerate(model.trainable_variables):
        np.testing.assert_array_equal(path.weights[0][i], start[i])
        np.testing.assert_array_equal(path.weights[-1][i], keras.ops.convert_to_numpy(variable))
        np.testing.assert_array_equal(path.weights[2][i], steps.weights[2][i])
    plane = analysis.pca_trajectory(path.weights)
    np.testing.assert_allclose(plane.coordinates[-1], 0)
    difference = [w - last for w, last in zip(path.weights[0], path.weights[-1])]
    np.testing.assert_allclose(
        analysis.project(difference, plane.directions), plane.coordinates[0], rtol=1e-4, atol=1e-6
    )
    with pytest.raises(ValueError, match="`frequency` must be an integer"):
        kr.callbacks.WeightTrajectory("batch")


def test_projections_are_coordinates():
    first, second = (
        [np.array([[1.0, 0.0]]), np.array([0.0])],
        [np.array([[1.0, 1.0]]), np.array([2.0])],
    )
    point = [3 * a - 2 * b for a, b in zip(first, second)]
    np.testing.assert_allclose(analysis.project(point, [first, second]), [3, -2])
    np.testing.assert_allclose(
        analysis.project(point, [first, second], "cos"), [1, (3 - 12) / 6**0.5]
    )
    with pytest.raises(ValueError, match="at least one"):
        analysis.project(point, [])


def test_curvature_is_that_of_the_matrix():
    model = classifier()
    surface = analysis.curvature_surface(
        model, X, Y, steps=3, dimensions=1, max_iterations=60, include_vectors=True, seed=0
    )
    values = np.linalg.eigvalsh(analysis.hessian_matrix(model, X, Y))
    assert surface.largest[1] == pytest.approx(values[-1], rel=1e-3)
    assert surface.smallest[1] == pytest.approx(values[0], rel=1e-2, abs=1e-3)
    moved = [w + d for w, d in zip(model.get_weights()[:1], surface.directions[0][:1])]
    assert moved and surface.ratio.shape == (3,)
    kernels = analysis.curvature_surface(
        model, X, Y, steps=1, span=(0, 0), dimensions=1, max_iterations=60, seed=0
    )
    assert kernels.largest[0] < surface.largest[1]


def test_the_curve_has_the_height_of_the_deviation():
    random = np.random.default_rng(0)
    x = random.normal(size=(3000, 1))
    model = keras.Sequential([keras.Input((1,)), layers.Dense(1)])
    result = analysis.landscape_convergence(
        model, x, np.zeros((3000, 1)), repeats=200, smoothing=None, seed=0, loss="mse"
    )
    losses = (x * model.get_weights()[0][0, 0]) ** 2
    deviation = np.abs(losses - losses.mean()).mean()
    scaled = result.differences * (result.sizes + 1)
    assert scaled[-500:].mean() == pytest.approx(deviation, rel=0.05)
    assert not analysis.loss_difference_curve(np.ones(5)).any()


def test_smoothing_is_exponential():
    losses = np.random.default_rng(0).random((3, 20))
    raw = analysis.loss_difference_curve(losses)
    smooth = analysis.loss_difference_curve(losses, 0.9)
    assert smooth[0] == raw[0]
    np.testing.assert_allclose(smooth[1:], 0.9 * smooth[:-1] + 0.1 * raw[1:])


def test_the_sample_size_is_where_the_curve_stays_below():
    curve = [0.5, 0.1, 0.3, 0.2, 0.1]
    assert analysis.sample_size_for_tolerance(curve, 0.2) == 4
    assert analysis.sample_size_for_tolerance(curve, 1.0) == 1
    assert analysis.sample_size_for_tolerance(curve, 0.05) is None


ACCURACY = keras.metrics.SparseCategoricalAccuracy()


def several():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, [layers.Dense(3)(inputs), layers.Dense(3)(inputs)])
    model.compile(loss=[CROSSENTROPY, CROSSENTROPY])
    return model, X, [Y, Y]


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda m: analysis.loss_surface(m, X, Y, dimensions=3), "`dimensions` must be"),
        (lambda m: analysis.loss_surface(m, X, Y, steps=(3, 4, 5)), "`steps` must be"),
        (lambda m: analysis.loss_surface(m, X, Y, directions=[[X]]), "in the shapes of"),
        (lambda m: analysis.loss_surface(m, X, Y, coordinates=[[0.0]]), "2 vectors"),
        (lambda m: analysis.loss_surface(m, X, Y, metrics=["accuracy"]), "`metrics` must be"),
        (lambda m: analysis.loss_surface(m, None, Y), "`x` must be arrays or a dataset"),
        (lambda m: analysis.loss_surface(*several(), metrics=[ACCURACY]), "with one output"),
        (lambda m: analysis.random_direction(m, "filters"), "`norm` must be one of"),
        (lambda m: analysis.normalize_direction([X], m), "in the shapes of the weights"),
        (lambda m: analysis.interpolate(m, [X], [X], X, Y), "`weights_a` must be weights"),
        (lambda m: analysis.pca_trajectory([[X], [X]]), "at least three"),
        (lambda m: analysis.loss_difference_curve([1.0]), "at least two losses"),
        (lambda m: analysis.landscape_convergence(m, X[:1], Y[:1]), "at least two samples"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call(classifier())


@pytest.mark.once
def test_results_are_drawn():
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("Agg")
    model = classifier()
    plane = analysis.loss_surface(model, X, Y, steps=4, seed=0)
    plane.loss[0, 0] = np.inf
    for kind in ("contour", "filled", "heatmap"):
        for log in (False, True):
            axes = plt.figure().gca()
            assert plane.plot(axes, kind, log=log) is axes
    plane.plot(plt.figure().add_subplot(projection="3d"), "surface")
    nothing = dataclasses.replace(plane, loss=np.zeros((4, 4)))
    nothing.plot(plt.figure().gca())
    with pytest.raises(ValueError, match="no loss is finite and positive"):
        nothing.plot(log=True)
    with pytest.raises(ValueError, match="`metric` must be one of"):
        plane.plot(metric="accuracy")
    path = [[w * t for w in model.get_weights()] for t in (0.5, 0.7, 1.0)]
    path = [[w[i] for i in (0, 1, 2, 3, 6, 7)] for w in path]
    path[1][0] = path[1][0] + 0.1
    analysis.pca_trajectory(path).plot(model, X, Y, plt.figure().gca(), steps=3)
    line = analysis.loss_surface(model, X, Y, dimensions=1, steps=3)
    analysis.interpolate(model, model.get_weights(), model.get_weights(), X, Y, [0.5]).plot()
    line.plot(plt.figure().gca())
    analysis.landscape_convergence(model, X, Y, 2).plot(plt.figure().gca())
    analysis.curvature_surface(model, X, Y, steps=2, max_iterations=3).plot(plt.figure().gca())
    plt.close("all")
