import keras
import numpy as np
import pytest
from keras import ops

from keras_regularize import losses
from keras_regularize.testing._common import fused, values_and_gradients

FUNCTIONS = {
    "trades": lambda y, z, w: losses.trades(y, z, w, beta=3.0),
    "mart": lambda y, z, w: losses.mart(y, z, w, beta=3.0),
    "arow": lambda y, z, w: losses.arow(y, z, w, factor=3.0, label_smoothing=0.1),
    "pairing": lambda y, z, w: losses.adversarial_logit_pairing(y, z, w, factor=0.7),
    "comp_sum": lambda y, z, w: losses.smooth_adversarial_comp_sum(y, z, w, 0.5, 2.0, 0.7),
}


def case(batch=5, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    z, w = 2 * rng.normal(size=(2, batch, classes)).astype("float32")
    return rng.integers(0, classes, batch), z, w


@fused
def everything(y, z, w):
    """Values of all functions, as one program on JAX."""
    return {name: function(y, z, w) for name, function in FUNCTIONS.items()}


def numpy(x):
    return ops.convert_to_numpy(x)


def values(function, *args, **kwargs):
    args = [ops.convert_to_tensor(a) for a in args]
    return numpy(fused(lambda *args: function(*args, **kwargs))(*args))


def assert_same(got, expected, **tolerances):
    for name in FUNCTIONS:
        np.testing.assert_allclose(
            numpy(got[name]), numpy(expected[name]), err_msg=name, **tolerances
        )


def cross_entropy(y, z, **config):
    rows = np.eye(z.shape[-1], dtype="float32")[y]
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, reduction="none", **config)
    return numpy(loss(rows, z))


def test_every_form_of_labels_and_soft_ones_are_means_over_the_label():
    y, z, w = case()
    expected = everything(y, z, w)
    assert_same(everything(y[:, None], z, w), expected, rtol=1e-6)
    rows = np.eye(4, dtype="float32")
    assert_same(everything(rows[y], z, w), expected, rtol=1e-5, atol=1e-6)
    soft = np.random.default_rng(1).dirichlet(np.ones(4), 5).astype("float32")
    by_label = [everything(np.full(5, k), z, w) for k in range(4)]
    mixed = {n: sum(soft[:, k] * numpy(by_label[k][n]) for k in range(4)) for n in FUNCTIONS}
    assert_same(everything(soft, z, w), mixed, rtol=1e-4, atol=1e-5)


def test_one_column_is_the_logit_of_class_one():
    y, z, w = case(6, 1)
    y = np.array([0, 1, 1, 0, 1, 0])

    def both(z):
        return np.concatenate([np.zeros_like(z), z], axis=-1)

    assert_same(everything(y, z, w), everything(y, both(z), both(w)), rtol=1e-4, atol=1e-5)
    assert_same(everything(y[:, None], z, w), everything(y, z, w), rtol=1e-6)
    teacher = np.linspace(-2, 2, 6, dtype="float32")[:, None]
    weighted = losses.adaptively_weighted_regularization
    np.testing.assert_allclose(
        values(weighted, teacher, z, w), values(weighted, *map(both, (teacher, z, w))), atol=1e-5
    )


def test_positions_have_values_of_their_own():
    y, z, w = case(12)
    by_position = everything(y.reshape(3, 4), z.reshape(3, 4, 4), w.reshape(3, 4, 4))
    flat = everything(y, z, w)
    assert_same({n: ops.reshape(v, (-1,)) for n, v in by_position.items()}, flat, rtol=1e-5)


def test_the_strongest_other_class_of_mart():
    # Label first, second and last by logit; a tie of the others; two classes only.
    three = np.array([[3, 2, 1], [3, 2, 1], [3, 2, 1], [0, 2, 2]], "float32")
    for y, z in ((np.array([0, 1, 2, 0]), three), (np.array([0, 1]), three[:2, :2])):
        p = np.exp(z.astype("float64"))
        p = p / p.sum(-1, keepdims=True)
        own = np.eye(z.shape[-1], dtype=bool)[y]
        strongest = np.where(own, -1.0, p).max(-1)
        expected = -np.log(p[own]) - np.log(1.0001 - strongest)
        np.testing.assert_allclose(values(losses.mart, y, z, z), expected, rtol=1e-5)


def test_arow_is_trades_where_the_attack_wins_and_smoothed_cross_entropy_without_it():
    y, z, w = case()
    lost = w - 60 * np.eye(4, dtype="float32")[y]
    np.testing.assert_allclose(
        values(losses.arow, y, z, lost, factor=4.0, label_smoothing=0.0),
        values(losses.trades, y, z, lost, beta=4.0),
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        values(losses.arow, y, z, w, factor=0.0),
        cross_entropy(y, z, label_smoothing=0.2),
        rtol=1e-5,
    )
    # The less robust sample gets the larger weight: more than plain TRADES gives for its share.
    weight = (
        values(losses.arow, y, z, w, factor=1.0, label_smoothing=0.0) - cross_entropy(y, z)
    ) / (values(losses.trades, y, z, w, beta=1.0) - cross_entropy(y, z))
    q = np.exp(w) / np.exp(w).sum(-1, keepdims=True)
    np.testing.assert_allclose(weight, 1 - q[np.arange(5), y], rtol=1e-3)


def test_the_weight_of_a_teacher():
    y, z, w = case()
    weighted = losses.adaptively_weighted_regularization
    certain = 100 * np.eye(4, dtype="float32")[y]
    of_arow = values(losses.arow, y, z, w, factor=1.0, label_smoothing=0.0) - cross_entropy(y, z)
    np.testing.assert_allclose(
        values(weighted, certain, z, w, beta=0.0), of_arow, rtol=1e-4, atol=1e-5
    )
    teacher = z[::-1].copy()
    assert not np.any(np.round(values(weighted, teacher, z, z), 6))
    # Linear in beta, and no gradient for the teacher.
    ends = [values(weighted, teacher, z, w, beta=b) for b in (0.0, 1.0)]
    middle = values(weighted, teacher, z, w, beta=0.25)
    np.testing.assert_allclose(middle, 0.75 * ends[0] + 0.25 * ends[1], rtol=1e-5)
    _, gradient = values_and_gradients(lambda t: weighted(t, z, w))(teacher)
    assert not np.any(numpy(gradient))


def test_comp_sum_is_cross_entropy_and_the_change_of_margins():
    y, z, w = case()
    smooth = losses.smooth_adversarial_comp_sum
    np.testing.assert_allclose(values(smooth, y, z, w, nu=0.0), cross_entropy(y, z), rtol=1e-5)
    margins = [v[np.arange(5), y][:, None] - v for v in (z.astype("float64"), w)]
    expected = np.sqrt(((margins[1] - margins[0]) ** 2).sum(-1))
    change = values(smooth, y, z, w, nu=2.0) - values(smooth, y, z, w, nu=0.0)
    np.testing.assert_allclose(change, 2 * expected, rtol=1e-4)
    # Equal logits, up to a constant: the norm is 0 and pulls nowhere.
    _, gradient = values_and_gradients(lambda w: smooth(y, z, w))(z + 0.0)
    assert not np.any(numpy(gradient))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_extreme_logits_keep_finite_values_and_gradients(dtype):
    y, z, w = case(6)
    one = np.full_like(z, -1e4)
    one[:, 1] = 1e4
    pairs = [(1e4 * np.sign(z), 1e4 * np.sign(w)), (one, -one), (one, one), (0 * z, 0 * z)]
    z, w = (ops.cast(np.concatenate(part), dtype) for part in zip(*pairs))
    y = np.tile(y, 4)

    def total(pair, y):
        z, w = pair
        weighted = losses.adaptively_weighted_regularization(ops.flip(z, 0), z, w)
        return sum(function(y, z, w) for function in FUNCTIONS.values()) + weighted

    value, gradients = values_and_gradients(total)((z, w), y)
    assert keras.backend.standardize_dtype(value.dtype) == "float32"
    assert np.isfinite(numpy(value)).all()
    for gradient in gradients:
        # What float16 holds ends at 65504: the comp-sum gradient below tau = 1 is larger there.
        gradient = numpy(ops.cast(gradient, "float32"))
        assert not np.isnan(gradient).any()
        assert dtype == "float16" or np.isfinite(gradient).all()


def test_an_empty_batch_has_no_values():
    empty = np.zeros((0, 4), "float32")
    for function in FUNCTIONS.values():
        assert tuple(function(np.zeros(0, "int32"), empty, empty).shape) == (0,)


def test_unequal_shapes_are_refused():
    y, z, w = case()
    for function in FUNCTIONS.values():
        with pytest.raises(ValueError, match=r"equal shapes. Received: \(5, 4\), \(1, 4\)"):
            function(y, z, w[:1])
        with pytest.raises(ValueError, match="Expected class labels"):
            function(y[:3], z, w)
    with pytest.raises(ValueError, match="equal shapes"):
        losses.adaptively_weighted_regularization(z[:, :3], z, w)
