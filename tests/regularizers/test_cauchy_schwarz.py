"""Cauchy-Schwarz regularizers: both sides of the inequality in float64, and where they are equal."""

import keras
import numpy as np
import pytest
from keras import ops
from sklearn.datasets import load_digits

from keras_regularize.constraints import Ternary
from keras_regularize.regularizers import (
    BinaryCauchySchwarz,
    CauchySchwarz,
    EigenvectorCauchySchwarz,
    MultiLevelCauchySchwarz,
    OneSidedBinaryCauchySchwarz,
    OrthogonalCauchySchwarz,
    TernaryCauchySchwarz,
)
from keras_regularize.testing._common import cast, to_numpy, values_and_gradients
from tests.helpers import evaluate_regularizer

# The functions of each alphabet, the degree of their product form, and its zeros.
ALPHABETS = {
    BinaryCauchySchwarz: (np.square, np.ones_like, 4, [-1, 1]),
    TernaryCauchySchwarz: (lambda x: x**3, lambda x: x, 8, [-1, 0, 1]),
    OneSidedBinaryCauchySchwarz: (np.square, lambda x: x, 6, [0, 1]),
}


def oracle(g, h, w, form):
    """The sum over the columns of `w`, straight from the inequality."""
    total = 0.0
    for column in np.asarray(w, "float64").reshape(-1, np.shape(w)[-1]).T:
        u, v = g(column), h(column)
        product, inner = np.linalg.norm(u) * np.linalg.norm(v), u @ v
        total += {
            "product": product**2 - inner**2,
            "difference": product - abs(inner),
            "ratio": product / abs(inner) - 1,
        }[form]
    return total


def slopes(fn, w, h=1e-5):
    grad = np.zeros_like(w)
    for index in np.ndindex(*w.shape):
        step = np.zeros_like(w)
        step[index] = h
        grad[index] = (fn(w + step) - fn(w - step)) / (2 * h)
    return grad


@keras.saving.register_keras_serializable("tests")
def shifted(x):
    return x + 1.0


@pytest.mark.parametrize("form", ["product", "difference", "ratio"])
def test_all_forms_equal_the_inequality_in_float64(form):
    w = np.random.default_rng(0).normal(size=(5, 3)) + 0.3
    cases = [(kind(0.5, form=form), g, h) for kind, (g, h, *_) in ALPHABETS.items()]
    cases.append((CauchySchwarz(ops.exp, shifted, 0.5, form=form), np.exp, lambda x: x + 1))
    # One program for all.
    evaluate_all = values_and_gradients(
        lambda w: ops.stack([r(w[i]) for i, (r, *_) in enumerate(cases)])
    )
    values, gradients = map(to_numpy, evaluate_all(cast(np.stack([w] * len(cases)), "float32")))
    for (_, g, h), value, gradient in zip(cases, values, gradients):
        scale = 0.5 / w.size
        np.testing.assert_allclose(value, scale * oracle(g, h, w, form), rtol=1e-4)
        expected = scale * slopes(lambda v, g=g, h=h: oracle(g, h, v, form), w)
        np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-4 * abs(expected).max())


@pytest.mark.parametrize("kind", ALPHABETS)
def test_digits_are_right_near_the_alphabet_and_zero_on_it(kind):
    g, h, degree, letters = ALPHABETS[kind]
    rng = np.random.default_rng(1)
    exact = rng.choice(letters, size=(30, 4)) * [3.3, 0.5, 0.1, 1.0]
    near = np.float32(exact * (1 + 1e-4 * rng.normal(size=exact.shape)))
    value, gradient = evaluate_regularizer(kind(1.0, normalize=False), near)
    # In float32 both sides of the inequality agree to all digits here.
    np.testing.assert_allclose(value, oracle(g, h, near, "product"), rtol=1e-2)
    expected = slopes(lambda v: oracle(g, h, v, "product"), near.astype("float64"), 1e-6)
    np.testing.assert_allclose(gradient, expected, atol=0.02 * np.abs(expected).max())
    on = [
        evaluate_regularizer(kind(1.0, normalize=False, form=f), exact)
        for f in ("product", "ratio")
    ]
    assert on[0][0] < 1e-10 * value and on[1][0] < 1e-20
    assert np.abs(on[0][1]).max() < 0.02 * np.abs(gradient).max()


@pytest.mark.parametrize("kind", ALPHABETS)
def test_degree_permutations_and_signs(kind):
    degree = ALPHABETS[kind][2]
    rng = np.random.default_rng(2)
    w = rng.normal(size=(6, 3))
    product, ratio = kind(1.0), kind(1.0, form="ratio")
    values = values_and_gradients(lambda w: ops.stack([product(w), ratio(w)]))

    def both(w):
        return to_numpy(values(cast(w, "float32"))[0])

    value = both(w)
    np.testing.assert_allclose(both(0.1 * w), value * [0.1**degree, 1], rtol=1e-4)
    np.testing.assert_allclose(both(rng.permutation(w)), value, rtol=1e-5)
    signs = rng.choice([-1, 1], size=w.shape)
    if kind is OneSidedBinaryCauchySchwarz:
        signs[:] = [-1, 1, -1]  # Only whole filters may change sign.
    np.testing.assert_allclose(both(signs * w), value, rtol=1e-5)


def test_a_ratio_is_bounded_where_the_vectors_are_orthogonal():
    w = np.array([[1.0], [-1.0], [2.0], [-2.0], [0.5], [-0.5]])  # The sum of cubes is zero.
    value, gradient = evaluate_regularizer(
        OneSidedBinaryCauchySchwarz(1.0, form="ratio", normalize=False), w
    )
    assert 1e5 < value < 1.1e6 and np.isfinite(gradient).all()
    for form in ("difference", "ratio"):
        value, gradient = evaluate_regularizer(TernaryCauchySchwarz(form=form), 1e-12 * w)
        assert value == 0 and (gradient == 0).all()


def test_groups_are_those_of_the_axis():
    w = np.random.default_rng(3).normal(size=(2, 2, 3, 2))
    per_kernel = BinaryCauchySchwarz(1.0, axis=(-2, -1))
    expected = oracle(np.square, np.ones_like, w.reshape(4, 6), "product") / 24
    np.testing.assert_allclose(evaluate_regularizer(per_kernel, w)[0], expected, rtol=1e-5)
    whole = oracle(np.square, np.ones_like, w.reshape(24, 1), "product")
    np.testing.assert_allclose(
        evaluate_regularizer(BinaryCauchySchwarz(1.0, None, normalize=False), w)[0],
        whole,
        rtol=1e-5,
    )
    # One plane of bits is a binary tensor.
    np.testing.assert_allclose(
        evaluate_regularizer(MultiLevelCauchySchwarz(1.0), w[None])[0], whole, rtol=1e-5
    )


def test_planes_of_bits_near_their_levels():
    rng = np.random.default_rng(4)
    planes = np.float32(rng.choice([-1, 1], size=(3, 20)) * [[0.3], [0.6], [1.2]])
    value, gradient = evaluate_regularizer(MultiLevelCauchySchwarz(1.0), planes)
    # What differs by rounding alone, squared; 0 unless a compiler multiplies and adds in one.
    scale = 4.0 ** np.arange(3) @ np.square(planes).sum(axis=1)
    assert value < (np.finfo("float32").eps * scale) ** 2 and np.abs(gradient).max() < 1e-2
    near = np.float32(planes * (1 + 1e-3 * rng.normal(size=planes.shape)))
    y = near.astype("float64")
    p = 4.0 ** np.arange(3)
    expected = (p**2).sum() * 20 * (y**4).sum() - (p @ (y**2).sum(axis=1)) ** 2
    np.testing.assert_allclose(
        evaluate_regularizer(MultiLevelCauchySchwarz(1.0), near)[0], expected, rtol=1e-2
    )
    np.testing.assert_allclose(
        evaluate_regularizer(MultiLevelCauchySchwarz(1.0, normalize=True), near)[0],
        expected / 60,
        rtol=1e-2,
    )


@pytest.mark.parametrize("shape", [(6, 3), (3, 5), (2, 2, 1, 3), (4, 1)])
def test_orthogonality_is_the_spread_of_the_singular_values(shape):
    w = np.random.default_rng(5).normal(size=shape)
    s = np.linalg.svd(w.reshape(-1, shape[-1]), compute_uv=False)
    value, _ = evaluate_regularizer(OrthogonalCauchySchwarz(0.5), w)
    np.testing.assert_allclose(value, 0.5 * len(s) ** 2 * np.var(s**2), rtol=1e-4, atol=1e-6)


def test_eigenvectors_of_any_length_cost_nothing():
    rng = np.random.default_rng(6)
    a = rng.normal(size=(4, 4))
    matrix = a + a.T
    vectors = np.linalg.eigh(matrix)[1] * [1, 2, 0.5, 0]
    value, gradient = evaluate_regularizer(EigenvectorCauchySchwarz(matrix), vectors)
    assert value < 1e-8 and np.abs(gradient).max() < 1e-4
    w = rng.normal(size=(2, 1, 2, 3))
    columns = w.reshape(4, 3)
    expected = sum((matrix @ x) @ (matrix @ x) * (x @ x) - (x @ matrix @ x) ** 2 for x in columns.T)
    np.testing.assert_allclose(
        evaluate_regularizer(EigenvectorCauchySchwarz(matrix, 2.0), w)[0], 2 * expected, rtol=1e-4
    )


def test_functions_are_saved(tmp_path):
    layer = keras.layers.Dense(2, kernel_regularizer=CauchySchwarz(shifted, shifted, axis=(0, 1)))
    model = keras.Sequential([keras.Input((3,)), layer])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras").layers[0].kernel_regularizer
    assert loaded.g is shifted and loaded.h is shifted and loaded.axis == (0, 1)


def test_regularized_weights_survive_being_made_ternary():
    x, y = load_digits(return_X_y=True)
    x = np.float32(x / 16)
    before, after = {}, {}
    for name, regularizer in {"plain": None, "ternary": TernaryCauchySchwarz(1.0)}.items():
        keras.utils.set_random_seed(0)
        layer = keras.layers.Dense(10, kernel_regularizer=regularizer)
        model = keras.Sequential([keras.Input((64,)), layer])
        model.compile(
            keras.optimizers.Adam(0.05),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        model.fit(np.tile(x, (60, 1)), np.tile(y, 60), batch_size=599, verbose=0)
        kernel, bias = map(to_numpy, layer.weights)
        projected = to_numpy(Ternary()(ops.convert_to_tensor(kernel)))
        before[name] = np.mean(np.argmax(x @ kernel + bias, -1) == y)
        after[name] = np.mean(np.argmax(x @ projected + bias, -1) == y)
    # Training pays for it a little; without it, rounding costs more than twice as much.
    assert before["ternary"] - after["ternary"] < 0.01 < 0.05 < before["plain"] - after["plain"]
    assert after["ternary"] > after["plain"] + 0.02, (before, after)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: BinaryCauchySchwarz(-1), "`factor` must be a number at least 0"),
        (lambda: TernaryCauchySchwarz(axis="last"), "`axis` must be an integer"),
        (lambda: TernaryCauchySchwarz(form="sum"), "`form` must be one of 'product', 'difference'"),
        (lambda: CauchySchwarz("square", ops.abs), "`g` must be a function of a tensor.*'square'"),
        (lambda: EigenvectorCauchySchwarz(np.ones((2, 3))), "`matrix` must be a square array"),
        (lambda: EigenvectorCauchySchwarz([[np.nan]]), "`matrix` must be finite"),
        (
            lambda: EigenvectorCauchySchwarz(np.eye(3))(np.ones((2, 2))),
            "a row per input of a filter",
        ),
        (lambda: MultiLevelCauchySchwarz()(1.0), "planes of bits.*Received a scalar"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
