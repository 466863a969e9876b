import keras
import numpy as np
import pytest
from keras import ops

from keras_regularize import autodiff
from keras_regularize.losses import ACLS, MaxSup, MbLS


def oracle(labels, logits, factor):
    values = []
    for y, z in zip(labels, np.asarray(logits, "float64")):
        top = max(z)
        log_sum = top + np.log(sum(np.exp(v - top) for v in z))
        values.append(log_sum - z[y] + factor * (top - sum(z) / len(z)))
    return np.array(values)


def gradient_oracle(labels, logits, factor):
    rows = []
    for y, z in zip(labels, np.asarray(logits, "float64")):
        p = np.exp(z - max(z))
        g = p / p.sum() - factor / len(z)
        g[y] -= 1.0
        g[np.argmax(z)] += factor
        rows.append(g)
    return np.array(rows)


def random_case(batch, classes, scale=3.0, seed=0):
    rng = np.random.default_rng(seed)
    logits = (scale * rng.normal(size=(batch, classes))).astype("float32")
    return rng.integers(0, classes, batch), logits


def values(loss, y_true, y_pred, **kwargs):
    return ops.convert_to_numpy(loss(y_true, y_pred, **kwargs))


def gradient(loss, y_true, y_pred):
    y_pred = ops.convert_to_tensor(y_pred)
    return ops.convert_to_numpy(autodiff.grad(lambda z: ops.sum(loss(y_true, z)))(y_pred))


@pytest.mark.parametrize("factor", [0.1, 0.7])
@pytest.mark.parametrize("batch, classes", [(1, 2), (6, 5), (33, 40)])
def test_value_and_gradient_match_the_formula(batch, classes, factor):
    ids, logits = random_case(batch, classes)
    loss = MaxSup(factor, reduction="none")
    np.testing.assert_allclose(
        values(loss, ids, logits), oracle(ids, logits, factor), rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(
        gradient(loss, ids, logits), gradient_oracle(ids, logits, factor), rtol=1e-5, atol=1e-6
    )


def test_all_forms_of_labels_agree():
    ids, logits = random_case(7, 4)
    loss = MaxSup(reduction="none")
    expected = values(loss, ids, logits)
    np.testing.assert_allclose(values(loss, ids[:, None], logits), expected)
    np.testing.assert_allclose(values(loss, np.eye(4)[ids], logits), expected, rtol=1e-6)


def test_soft_labels_change_the_cross_entropy_alone():
    _, logits = random_case(5, 3)
    t = np.random.default_rng(1).dirichlet(np.ones(3), 5)
    mixed = sum(t[:, k] * oracle([k] * 5, logits, 0.2) for k in range(3))
    np.testing.assert_allclose(
        values(MaxSup(0.2, reduction="none"), t, logits), mixed, rtol=1e-5, atol=1e-5
    )


def test_factor_zero_is_cross_entropy():
    ids, logits = random_case(9, 6)
    reference = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")
    np.testing.assert_allclose(
        values(MaxSup(0.0, reduction="none"), ids, logits),
        values(reference, ids, logits),
        rtol=1e-5,
    )


def test_equals_label_smoothing_where_the_prediction_is_right():
    _, logits = random_case(9, 6)
    rows = np.eye(6, dtype="float32")[logits.argmax(-1)]
    smoothing = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=0.3, reduction="none"
    )
    np.testing.assert_allclose(
        values(MaxSup(0.3, reduction="none"), rows, logits),
        values(smoothing, rows, logits),
        rtol=1e-5,
    )


def test_penalises_the_top_logit_and_not_the_label_where_the_prediction_is_wrong():
    logits = np.array([[4.0, 1.0, 0.0]], "float32")
    change = gradient(MaxSup(0.3), [1], logits) - gradient(MaxSup(0.0), [1], logits)
    np.testing.assert_allclose(change, [[0.2, -0.1, -0.1]], atol=1e-6)


def test_is_shift_invariant():
    ids, logits = random_case(8, 5)
    loss = MaxSup(0.5, reduction="none")
    np.testing.assert_allclose(
        values(loss, ids, logits + 100.0), values(loss, ids, logits), atol=1e-4
    )


def test_at_ties_the_first_top_has_the_gradient():
    two = np.array([[2.0, 2.0, -50.0]], "float32")
    np.testing.assert_allclose(
        gradient(MaxSup(0.9), [2], two), [[0.5 + 0.6, 0.5 - 0.3, -1.3]], atol=1e-5
    )


@pytest.mark.parametrize("loss", [MaxSup(0.1), MbLS(0.1, 1.0), ACLS(0.1)])
def test_an_overflow_is_a_nan_and_no_error(loss):
    # Loss scaling skips such a step.
    logits = np.array([[np.inf, 0.0, 1.0], [np.nan] * 3, [1.0, 2.0, 3.0]], "float32")
    value = ops.convert_to_numpy(loss.call(np.array([0, 1, 2]), ops.convert_to_tensor(logits)))
    np.testing.assert_array_equal(np.isfinite(value), [False, False, True])


def test_one_column_is_the_logit_of_class_one():
    ids = np.array([0, 1, 1])
    score = np.array([[0.3], [-2.0], [1.5]], "float32")
    both = np.concatenate([np.zeros_like(score), score], axis=-1)
    loss = MaxSup(0.2, reduction="none")
    np.testing.assert_allclose(values(loss, ids, score), values(loss, ids, both), rtol=1e-5)


@pytest.mark.parametrize("size", [100.0, 1e4])
def test_extreme_logits_keep_value_and_gradient(size):
    logits = np.array([[size, -size, 0.0], [size, size - 1.0, -size]], "float32")
    loss = MaxSup(0.1, reduction="none")
    np.testing.assert_allclose(values(loss, [1, 0], logits), oracle([1, 0], logits, 0.1), rtol=1e-5)
    np.testing.assert_allclose(
        gradient(loss, [1, 0], logits), gradient_oracle([1, 0], logits, 0.1), atol=1e-5
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_logits_are_reduced_in_float32(dtype):
    ids, logits = random_case(4, 300, scale=60.0)
    half = ops.cast(logits, dtype)
    exact = oracle(ids, ops.convert_to_numpy(ops.cast(half, "float32")), 0.1)
    np.testing.assert_allclose(values(MaxSup(reduction="none"), ids, half), exact, rtol=1e-5)
    own = ops.cast(MaxSup(reduction="none", dtype=dtype)(ids, half), "float32")
    np.testing.assert_allclose(ops.convert_to_numpy(own), exact, rtol=1e-2)
    slope = gradient(MaxSup(dtype=dtype), ids, half)
    assert np.all(np.isfinite(slope.astype("float32")))


def test_positions_have_values_of_their_own():
    ids, logits = random_case(12, 5)
    loss = MaxSup(reduction="none")
    by_position = values(loss, ids.reshape(3, 4), logits.reshape(3, 4, 5))
    np.testing.assert_allclose(by_position.ravel(), values(loss, ids, logits), rtol=1e-6)


def test_sample_weights_of_every_shape():
    ids, logits = random_case(12, 5)
    v = oracle(ids, logits, 0.1)
    w = np.random.default_rng(2).uniform(size=12)
    loss = MaxSup()
    np.testing.assert_allclose(
        values(loss, ids, logits, sample_weight=2.0), 2 * v.mean(), rtol=1e-5
    )
    np.testing.assert_allclose(
        values(loss, ids, logits, sample_weight=w), (w * v).mean(), rtol=1e-5
    )
    np.testing.assert_allclose(
        values(loss, ids, logits, sample_weight=w[:, None]), (w * v).mean(), rtol=1e-5
    )
    assert values(loss, ids, logits, sample_weight=np.zeros(12)) == 0.0


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "mean_with_sample_weight"])
def test_weights_per_sample_count_for_every_position(reduction):
    ids, logits = random_case(12, 5)
    ids, logits = ids.reshape(3, 4), logits.reshape(3, 4, 5)
    w = np.array([0.5, 2.0, 0.0])
    loss = MaxSup(reduction=reduction)
    full = values(loss, ids, logits, sample_weight=np.repeat(w[:, None], 4, axis=1))
    np.testing.assert_allclose(values(loss, ids, logits, sample_weight=w), full, rtol=1e-6)
    np.testing.assert_allclose(values(loss, ids, logits, sample_weight=w[:, None]), full, rtol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_mask_equals_leaving_the_positions_out(weighted):
    rng = np.random.default_rng(3)
    mask = np.array([[1, 1, 0], [1, 0, 0]], bool)
    w = np.array([0.5, 2.0]) if weighted else None
    ids = rng.integers(0, 4, (2, 3))
    # Embedding with mask_zero makes the mask that Keras carries on the prediction.
    tokens = keras.Input((3,), dtype="int32")
    model = keras.Model(tokens, keras.layers.Embedding(9, 4, mask_zero=True)(tokens))
    logits = model(np.where(mask, rng.integers(1, 9, (2, 3)), 0))
    v = oracle(ids[mask], ops.convert_to_numpy(logits)[mask], 0.1)
    weights = np.repeat(w[:, None], 3, axis=1)[mask] if weighted else np.ones(len(v))
    got = MaxSup()(ids, logits, sample_weight=w)
    np.testing.assert_allclose(ops.convert_to_numpy(got), (weights * v).mean(), rtol=1e-5)


def test_empty_batch_gives_no_values():
    loss = MaxSup(reduction="none")
    assert values(loss, np.zeros((0,), "int32"), np.zeros((0, 3), "float32")).shape == (0,)


def test_fits_saves_and_loads(tmp_path):
    ids, x = random_case(20, 4)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
    model.compile("sgd", loss=MaxSup(0.25))
    before = model.evaluate(x, ids, verbose=0)
    model.fit(x, ids, epochs=3, batch_size=8, verbose=0)
    after = model.evaluate(x, ids, verbose=0)
    assert after < before
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.loss.factor == 0.25
    np.testing.assert_allclose(loaded.evaluate(x, ids, verbose=0), after, rtol=1e-5)


def test_config_holds_every_argument():
    given = {"reduction": "sum", "name": "mine", "dtype": "float64", "ignore_class": 255}
    loss = MaxSup(np.float32(0.5), **given)
    config = loss.get_config()
    assert config == {"factor": 0.5, **given}
    assert type(config["factor"]) is float
    assert MaxSup.from_config(config).get_config() == config
    assert MaxSup.from_logits


def test_bad_arguments_are_refused():
    with pytest.raises(
        ValueError, match="`factor` must be a number at least 0. Received: factor=-1"
    ):
        MaxSup(-1)
    with pytest.raises(ValueError, match="Expected class labels"):
        MaxSup()(np.zeros((3, 4)), np.zeros((3, 5)))
