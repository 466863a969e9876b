"""Curvature: what holds of a Hessian whatever the model, and of estimates of it."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_regularize as kr
from keras_regularize import analysis
from keras_regularize.analysis._objective import Objective
from keras_regularize.analysis.curvature._lanczos import lanczos

CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(10, 3)).astype("float32")
Y = np.arange(10, dtype="int32") % 3


def classifier(**compiled):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4, "tanh"), layers.Dense(3)])
    model.compile("sgd", CROSSENTROPY, **compiled)
    return model


def vector_of(model, seed=1):
    random = np.random.default_rng(seed)
    return [random.normal(size=v.shape).astype("float32") for v in model.trainable_variables]


def flat(parts):
    return np.concatenate([np.ravel(part).astype("float64") for part in parts])


def close(a, b, rtol=1e-4, atol=1e-5):
    np.testing.assert_allclose(flat(a), flat(b), rtol=rtol, atol=atol)


def networks():
    tokens = keras.Input((5,), dtype="int32")
    embedded = layers.Embedding(7, 4, mask_zero=True)(tokens)
    attended = layers.MultiHeadAttention(2, 3)(embedded, embedded)
    pooled = layers.GlobalAveragePooling1D()(attended)
    loop, lstm = layers.SimpleRNN(2)(embedded), layers.LSTM(3)(embedded)
    image = keras.Input((6, 6, 2))
    convolved = layers.BatchNormalization()(layers.Conv2D(3, 3, activation="tanh")(image))
    convolved = layers.DepthwiseConv2D(2)(layers.UpSampling2D(2)(convolved))
    convolved = layers.GlobalAveragePooling2D()(layers.Conv2DTranspose(2, 2)(convolved))
    series = keras.Input((4, 2))
    return {
        "attention": keras.Model(tokens, layers.Dense(3)(pooled)),
        "loop": keras.Model(tokens, layers.Dense(3)(loop)),
        "lstm": keras.Model(tokens, layers.Dense(3)(lstm)),
        "convolution": keras.Model(image, layers.Dense(3)(convolved)),
        "gru": keras.Model(series, layers.Dense(3)(layers.GRU(2)(series))),
    }


def inputs_of(model):
    shape = (6, *model.input_shape[1:])
    if model.input.dtype == "int32":
        return np.random.default_rng(2).integers(0, 7, size=shape).astype("int32")
    return np.random.default_rng(2).normal(size=shape).astype("float32")


def trainable(model):
    return flat(keras.ops.convert_to_numpy(v) for v in model.trainable_variables)


def check_products(kind):
    keras.utils.set_random_seed(0)
    model = networks()[kind]
    before = model.get_weights()
    objective = Objective(
        "test", model, inputs_of(model), np.arange(6) % 3, loss=CROSSENTROPY, batch_size=4
    )
    vector = flat(vector_of(model)).astype("float32")
    product = objective.hessian_product(vector)
    if keras.backend.backend() == "jax":  # Where a program more takes seconds to compile.
        other = flat(vector_of(model, seed=5)).astype("float32")
        assert objective.hessian_product(other) @ vector == pytest.approx(product @ other, rel=1e-3)
    else:
        center = trainable(model)
        ends = [
            objective.gradient(objective.unflat(np.float32(center + step * vector)))
            for step in (1e-2, -1e-2)
        ]
        difference = (ends[0] - ends[1]) / 2e-2
        assert np.linalg.norm(product - difference) < 0.02 * np.linalg.norm(difference)
    for a, b in zip(before, model.get_weights()):
        np.testing.assert_array_equal(a, b)
    return objective, vector


@pytest.mark.everywhere
@pytest.mark.skipif(keras.backend.backend() == "jax", reason="loops of JAX have a forward mode")
def test_loops_and_masks_have_second_derivatives():
    objective, vector = check_products("loop")
    assert objective.gauss_newton_product(vector) @ vector > 0


@pytest.mark.parametrize("kind", ["attention", "convolution", "lstm", "gru"])
def test_products_of_layers_are_differences_of_gradients(kind):
    check_products(kind)


@pytest.mark.parametrize(
    "method, which",
    [("lanczos", w) for w in ("largest", "smallest", "both", "magnitude")]
    + [("power", "both"), ("power", "magnitude")],
)
def test_eigenvalues_are_those_of_the_matrix(method, which):
    model = classifier()
    matrix = analysis.hessian_matrix(model, X, Y)
    values = np.linalg.eigvalsh(matrix.astype("float64"))[::-1]
    result = analysis.hessian_eigenvalues(
        model, X, Y, 2, which, method, max_iterations=600, tolerance=1e-3, seed=0
    )
    expected = {
        "largest": values[:2],
        "smallest": values[-2:],
        "both": np.r_[values[:2], values[-2:]],
        "magnitude": np.sort(values[np.argsort(-np.abs(values))[:2]])[::-1],
    }[which]
    np.testing.assert_allclose(result.eigenvalues, expected, rtol=2e-3, atol=1e-5)
    for value, vector in zip(result.eigenvalues, result.eigenvectors):
        close([matrix @ flat(vector)], [value * flat(vector)], atol=3e-3)
        assert np.linalg.norm(flat(vector)) == pytest.approx(1, abs=1e-5)
    assert result.converged


def test_columns_of_the_matrix_are_products():
    model = classifier()
    matrix = analysis.hessian_matrix(model, X, Y)
    vector = vector_of(model)
    close(analysis.hessian_vector_product(model, X, Y, vector), [matrix @ flat(vector)])
    with pytest.raises(ValueError, match="force=True"):
        big = keras.Sequential([keras.Input((100,)), layers.Dense(101)])
        analysis.hessian_matrix(big, np.ones((1, 100)), np.zeros((1, 101)), loss="mse")


def test_a_linear_model_is_all_gauss_newton():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(3)])
    model.compile("sgd", CROSSENTROPY)
    vector = vector_of(model)
    newton = analysis.gauss_newton_vector_product(model, X, Y, vector)
    close(newton, analysis.hessian_vector_product(model, X, Y, vector))


def test_the_trace_is_the_sum_of_the_eigenvalues_within_its_error():
    model = classifier()
    exact = np.trace(analysis.hessian_matrix(model, X, Y))
    result = analysis.hessian_trace(model, X, Y, num_samples=200, tolerance=0.0, seed=0)
    assert len(result.samples) == 200
    assert abs(result.trace - exact) < 4 * result.standard_error
    early = analysis.hessian_trace(model, X, Y, num_samples=200, tolerance=0.2, seed=0)
    assert 10 <= len(early.samples) < 200


def test_quadrature_has_the_moments_of_the_hessian():
    model = classifier()
    start = vector_of(model)
    matrix = analysis.hessian_matrix(model, X, Y).astype("float64")
    result = analysis.hessian_spectral_density(model, X, Y, steps=200, start=start)
    unit = flat(start) / np.linalg.norm(flat(start))
    for power in range(4):
        expected = unit @ np.linalg.matrix_power(matrix, power) @ unit
        assert result.weights @ result.nodes**power == pytest.approx(expected, abs=1e-3)
    grid = np.linspace(-5, 5, 2000)
    assert np.trapezoid(result.density(grid), grid) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("form", ["tail", "generator", "dataset", "whole", "column"])
def test_every_form_of_data_gives_the_same(form):
    model = classifier()
    vector = vector_of(model)
    weights = np.linspace(0.5, 1.5, 10).astype("float32")
    batches = [(X[i : i + 4], Y[i : i + 4], weights[i : i + 4]) for i in (0, 4, 8)]

    class Dataset(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return batches[index]

    arguments = {
        "tail": lambda: (X, Y),
        "generator": lambda: ((b for b in batches),),
        "dataset": lambda: (Dataset(),),
        "whole": lambda: (X, Y),
        "column": lambda: (X, Y[:, None].astype("uint8")),
    }[form]
    options = {} if form in ("generator", "dataset") else {"sample_weight": weights}
    size = {"whole": 10}.get(form, 4)
    got = analysis.hessian_vector_product(
        model, *arguments(), vector=vector, batch_size=size, **options
    )
    matrix = sum(
        w * analysis.hessian_matrix(model, X[i : i + 1], Y[i : i + 1])
        for i, w in enumerate(weights)
    )
    close(got, [matrix @ flat(vector) / 10], rtol=1e-3, atol=1e-4)


def test_penalties_count_when_asked_for():
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dense(3, kernel_regularizer=keras.regularizers.L2(0.5))]
    )
    model.compile("sgd", CROSSENTROPY)
    vector = vector_of(model)
    without = analysis.hessian_vector_product(model, X, Y, vector, batch_size=4)
    added = analysis.hessian_vector_product(
        model, X, Y, vector, batch_size=4, include_regularization=True
    )
    close([added[0] - without[0], added[1] - without[1]], [vector[0], 0 * vector[1]])


def test_masked_positions_do_not_count():
    inputs = keras.Input((4,), dtype="int32")
    hidden = layers.Embedding(5, 3, mask_zero=True)(inputs)
    model = keras.Model(inputs, layers.Dense(3)(hidden))
    model.compile("sgd", CROSSENTROPY)
    x = np.array([[1, 2, 3, 4], [2, 0, 0, 0], [3, 1, 0, 0], [4, 4, 4, 0]], "int32")
    y = RANDOM.integers(0, 3, size=(4, 4))
    vector = vector_of(model)
    got = analysis.hessian_vector_product(model, x, y, vector)
    other = np.where(x > 0, y, (y + 1) % 3)
    close(got, analysis.hessian_vector_product(model, x, other, vector))
    surface = analysis.loss_surface(model, x, y, dimensions=1, steps=1, span=(0, 0))
    assert surface.loss[0] == pytest.approx(model.evaluate(x, y, verbose=0), rel=1e-5)


@pytest.mark.parametrize("adaptive", [False, True])
def test_more_ascent_finds_worse_points(adaptive):
    model = classifier()
    one = analysis.sharpness(model, X, Y, 0.5, adaptive)
    assert analysis.sharpness(model, X, Y, 0.5, adaptive, ascent_steps=10) > one > 0
    assert analysis.sharpness(model, X, Y, 0.0, adaptive) == 0


def test_a_flat_loss_has_no_sharpness():
    flat_loss = lambda y_true, y_pred: 0.0 * keras.ops.sum(y_pred, axis=-1)  # noqa: E731
    assert analysis.sharpness(classifier(), X, Y, 0.5, loss=flat_loss) == 0
    result = analysis.hessian_eigenvalues(classifier(), X, Y, loss=flat_loss)
    assert result.eigenvalues[0] == 0 and result.converged


def test_equal_samples_have_no_noise_and_copies_little_more():
    model = classifier()
    same = analysis.gradient_statistics(model, X[[0] * 6], Y[[0] * 6])
    assert same.trace_covariance == pytest.approx(0, abs=1e-6)
    once = analysis.gradient_statistics(model, X, Y)
    twice = analysis.gradient_statistics(model, np.tile(X, (2, 1)), np.tile(Y, 2))
    assert twice.trace_covariance == pytest.approx(once.trace_covariance * 18 / 19, rel=1e-4)


def test_noise_that_is_not_known_is_not_infinite():
    x = np.where(np.arange(10)[:, None] == 3, np.nan, X)
    assert np.isnan(analysis.gradient_statistics(classifier(), x, Y).noise_scale)


def test_two_batch_statistics_agree_in_the_mean():
    model = classifier()
    x = np.random.default_rng(3).normal(size=(400, 3))
    y = np.random.default_rng(4).integers(0, 3, 400)
    one = analysis.gradient_statistics(model, x, y)
    two = analysis.gradient_statistics(model, x, y, method="two_batch", batch_size=4)
    assert two.trace_covariance == pytest.approx(one.trace_covariance, rel=0.2)


def test_the_gap_changes_as_much_as_said():
    # Over training sets of a linear regression, whose population is known.
    random = np.random.default_rng(0)
    x, rate, size = random.normal(size=(300, 12, 3)), 0.05, 12
    y = x @ np.ones(3) + random.normal(size=(300, size))
    gradients = -2 * (x * y[..., None]).mean(axis=1)  # At weights of 0.
    population = -2 * np.ones(3)
    measured = rate * ((gradients**2).sum(-1) - gradients @ population).mean()
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1, use_bias=False)])
    model.layers[0].set_weights([np.zeros((3, 1))])
    said = [
        analysis.gradient_statistics(model, x[i], y[i], rate, loss="mse").gap_change
        for i in range(30)
    ]
    assert np.mean(said) == pytest.approx(measured, rel=0.25)


def test_the_difference_of_hessians_has_the_norm_of_the_matrix():
    model = classifier()
    first, second = (analysis.hessian_matrix(model, X[s], Y[s]) for s in (slice(7), slice(7, 10)))
    expected = np.abs(np.linalg.eigvalsh(first - second)).max()
    got = analysis.hessian_difference_norm(model, X[:7], Y[:7], X[7:], Y[7:], tolerance=1e-3)
    assert got == pytest.approx(expected, rel=1e-2)


def test_the_bound_holds_and_does_not_overflow():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((3,))]
        + [layers.Dense(4, "relu", use_bias=False), layers.Dense(3, use_bias=False)]
    )
    weight_norm = max(kr.analysis.spectral_norms(model).values())
    bound = analysis.hessian_norm_bound(weight_norm, np.linalg.norm(X, axis=1).max(), 2)
    largest = analysis.hessian_eigenvalues(
        model, X, Y, which="magnitude", loss=CROSSENTROPY
    ).eigenvalues[0]
    assert abs(largest) < bound
    assert analysis.hessian_norm_bound(3.0, 1.0, 1000) == np.inf
    assert np.isfinite(analysis.hessian_norm_bound(3.0, 1.0, 1000, log=True))
    near = [analysis.hessian_norm_bound(m, 1.0, 3) for m in (1.0, 1.0 + 1e-9)]
    assert near[0] == pytest.approx(2**0.5 * 6) == pytest.approx(near[1])
    assert analysis.hessian_norm_bound(0.0, 1.0, 3) == 0


@pytest.mark.once
@pytest.mark.parametrize("dtype, noise", [("float32", 0.0), ("float32", 1e-2), ("float64", 0.0)])
def test_lanczos_vectors_stay_orthogonal(dtype, noise):
    # Of eigenvalues that are far apart, which are found after a few steps and then found again.
    random = np.random.default_rng(0)
    values = np.concatenate([[1e3, 1e2, -1e2], np.linspace(0, 1, 197)])
    basis = np.linalg.qr(random.normal(size=(200, 200)))[0]
    matrix = basis * values @ basis.T + noise * random.normal(size=(200, 200))
    found = lanczos(
        lambda v: (matrix @ v).astype(dtype), random.normal(size=200).astype(dtype), 120, random
    )
    rows = found.basis.astype("float64")
    assert len(rows) == 120
    error = 1e-6 if dtype == "float32" else 1e-13
    np.testing.assert_allclose(rows @ rows.T, np.eye(120), atol=error)
    if not noise:
        assert found.eigh()[0][[0, -2, -1]] == pytest.approx([-1e2, 1e2, 1e3], rel=1e-5)


def test_lanczos_goes_on_where_the_space_closes():
    matrix = np.diag([2.0, 2.0, 2.0, -1.0, 0.0, 0.0])
    random = np.random.default_rng(0)
    found = lanczos(lambda v: matrix @ v, np.eye(6)[0], 6, random, restart=True)
    np.testing.assert_allclose(found.eigh()[0], np.sort(np.diag(matrix)), atol=1e-10)
    alone = lanczos(lambda v: matrix @ v, np.eye(6)[0], 6, random)
    assert len(alone.basis) == 1


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_other_types_of_weights(dtype):
    if dtype == "float64" and keras.backend.backend() == "jax":
        pytest.skip("JAX has no float64 without a setting of its own")
    keras.config.set_floatx("float64" if dtype == "float64" else "float32")
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dense(4, "tanh", dtype=dtype), layers.Dense(3, dtype=dtype)]
    )
    model.compile("sgd", CROSSENTROPY)
    vector = vector_of(model)
    product = analysis.hessian_vector_product(model, X, Y, vector, batch_size=4)
    assert all(np.isfinite(part).all() for part in product)
    assert product[0].dtype == ("float64" if dtype == "float64" else "float32")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"vector": [np.ones(3)]}, "list of arrays in the shapes"),
        ({"vector": None}, "list of arrays in the shapes"),
        ({"y": Y[:4]}, "same number of samples"),
        ({"x": X[:0], "y": Y[:0]}, "at least one sample"),
        ({"batch_size": 0}, "`batch_size` must be an integer of at least 1"),
        ({"x": iter([(X, Y)])}, "where `x` is a dataset"),
        ({"y": None}, "Labels are missing"),
        ({"model": keras.Sequential([keras.Input((3,)), layers.Flatten()])}, "which has none"),
        ({"model": keras.Sequential([layers.Dense(3)])}, "needs a built model"),
    ],
)
def test_errors(change, message):
    model = classifier()
    arguments = {"model": model, "x": X, "y": Y, "vector": vector_of(model), **change}
    with pytest.raises(ValueError, match=message):
        analysis.hessian_vector_product(**arguments)


def test_errors_of_the_others():
    model = classifier()
    with pytest.raises(ValueError, match="at least two samples"):
        analysis.gradient_statistics(model, X[:1], Y[:1])
    with pytest.raises(ValueError, match="`which` must be one of"):
        analysis.hessian_eigenvalues(model, X, Y, which="top")
    with pytest.raises(ValueError, match="needs a loss"):
        bare = keras.Sequential([keras.Input((3,)), layers.Dense(3)])
        analysis.hessian_trace(bare, X, Y)
    with pytest.raises(ValueError, match="not finite"):
        analysis.hessian_eigenvalues(model, X * np.inf, Y)
    with pytest.raises(ValueError, match="vectors of one length"):
        analysis.smoothed_density([0.0], [0.5, 0.5], [0.0])


@pytest.mark.once
def test_results_are_drawn():
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("Agg")
    model = classifier()
    for result in (
        analysis.hessian_eigenvalues(model, X, Y, 2),
        analysis.hessian_trace(model, X, Y, 5),
        analysis.hessian_spectral_density(model, X, Y, 5, 1),
    ):
        axes = plt.figure().gca()
        assert result.plot(axes) is axes
    plt.close("all")
