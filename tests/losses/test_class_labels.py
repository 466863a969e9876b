"""Class labels in every loss of them: ids that are no classes, a class to ignore, many classes, forbidden ones."""

import functools
import inspect

import keras
import numpy as np
import pytest
from keras import ops

import keras_regularize as kr
from keras_regularize.losses.loss import ClassLoss
from keras_regularize.testing._common import compilable, save_and_load, to_numpy

CLASSES = 5
Z = (2 * np.random.default_rng(0).normal(size=(6, CLASSES))).astype("float32")
IDS = np.array([0, 2, 4, 1, 3, 2], "int32")
NAMES = sorted(
    name
    for name in kr.losses.__all__
    if inspect.isclass(getattr(kr.losses, name))
    and issubclass(getattr(kr.losses, name), ClassLoss)
    and getattr(kr.losses, name) is not ClassLoss
    # Of a value per image, and of sequences.
    and not issubclass(getattr(kr.losses, name), kr.losses.SegmentationLoss)
    and name not in ("SequenceUnlikelihood", "TokenUnlikelihood")
)
names = pytest.mark.parametrize("name", NAMES)
wrong_ids = pytest.mark.parametrize("wrong", [-1, CLASSES, -100, 255])


def make(name, classes=CLASSES, **options):
    symbol = getattr(kr.losses, name)
    parameters = inspect.signature(symbol).parameters
    if "class_counts" in parameters:
        options["class_counts"] = np.arange(classes, 0, -1)
    if "from_logits" in parameters:
        options["from_logits"] = True
    return symbol(**options)


def compiled(function):
    """`function` as `fit` runs it, where labels cannot be looked at; on torch they always can be."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function, jit_compile=True)
    return function


def values_and_slopes(loss, y_true, y_pred, **options):
    def total(z):
        values = loss(y_true, z, **options)
        return ops.sum(values), values

    z = ops.convert_to_tensor(y_pred)
    (_, values), slopes = kr.autodiff.value_and_grad(total, has_aux=True)(z)
    return to_numpy(values), to_numpy(slopes)


def test_these_are_all_losses_of_class_labels():
    assert len(NAMES) >= 16
    for name in set(kr.losses.__all__) - {"Loss", "ClassLoss"}:
        symbol = getattr(kr.losses, name)
        # Contrastive losses compare labels with each other: any number is one.
        if ".contrastive." in symbol.__module__:
            continue
        if inspect.isclass(symbol) and "class ids" in (symbol.__doc__ or "").lower():
            assert name in NAMES or issubclass(symbol, kr.losses.SegmentationLoss)


@names
@wrong_ids
def test_an_id_that_is_no_class_is_an_error_where_it_can_be_seen(name, wrong):
    loss = make(name)
    y = np.where(np.arange(6) == 3, wrong, IDS)
    message = rf"Expected class ids from 0 to 4 for y_pred.shape=\(6, 5\).*y_true with {wrong}\."
    for given in (y, y[:, None], y.astype("float32"), ops.convert_to_tensor(y)):
        for call in (loss, loss.call):
            with pytest.raises(ValueError, match=message):
                call(given, ops.convert_to_tensor(Z))


@names
def test_fractions_and_nan_are_no_classes(name):
    for wrong in (1.5, np.nan):
        y = np.where(np.arange(6) == 3, wrong, IDS).astype("float32")
        with pytest.raises(ValueError, match="Expected class ids"):
            make(name)(y, Z)


@names
def test_one_column_has_two_classes(name):
    for wrong in (-1, 2):
        y = np.array([0, wrong, 1, 0, 1, 1], "int32")
        with pytest.raises(
            ValueError, match="Expected (class ids from 0 to 1|targets between 0 and 1)"
        ):
            make(name, 2)(y, Z[:, :1])


@pytest.mark.skipif(not compilable(), reason="torch runs everything where labels can be seen")
@names
@wrong_ids
def test_an_id_that_is_no_class_is_nan_in_compiled_code(name, wrong):
    if name == "MDCA":
        pytest.skip("the values of a batch belong together")
    loss = make(name, reduction="none")
    y = np.where(np.arange(6) == 3, wrong, IDS).astype("int32")
    got, slopes = compiled(functools.partial(values_and_slopes_of, loss))(
        ops.convert_to_tensor(y), ops.convert_to_tensor(Z)
    )
    expected, expected_slopes = values_and_slopes(loss, IDS, Z)
    expected[3], expected_slopes[3] = np.nan, 0
    np.testing.assert_allclose(to_numpy(got), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(to_numpy(slopes), expected_slopes, rtol=1e-4, atol=1e-6)


def values_and_slopes_of(loss, y, z):
    def total(z):
        values = loss(y, z)
        return ops.sum(values), values

    (_, values), slopes = kr.autodiff.value_and_grad(total, has_aux=True)(z)
    return values, slopes


@names
@wrong_ids
@pytest.mark.parametrize("how", ["eager", "compiled"])
def test_a_label_of_weight_0_does_not_matter(name, wrong, how):
    weights = np.array([1, 0.5, 2, 0, 1, 0], "float32")
    loss = make(name)
    y = np.where(weights == 0, wrong, IDS).astype("int32")
    run = (lambda f: f) if how == "eager" else compiled

    def value(y, z, w):
        return loss(y, z, sample_weight=w)

    got = run(value)(*map(ops.convert_to_tensor, (y, Z, weights)))
    # What the label would be is the same to all losses but the one that looks at the whole batch.
    expected = value(np.where(weights == 0, 0, IDS), Z, weights)
    np.testing.assert_allclose(to_numpy(got), to_numpy(expected), rtol=1e-5)
    with_column = run(value)(*map(ops.convert_to_tensor, (y, Z, weights[:, None])))
    np.testing.assert_allclose(to_numpy(with_column), to_numpy(expected), rtol=1e-5)


@names
@pytest.mark.parametrize("how", ["eager", "compiled"])
def test_the_label_of_a_masked_position_does_not_matter(name, how):
    loss = make(name)
    mask = np.array([[1, 1, 0], [1, 0, 0]], bool)
    y = np.where(mask, IDS.reshape(2, 3), -1).astype("int32")
    z = np.where(mask[..., None], Z.reshape(2, 3, CLASSES), 0.0).astype("float32")
    run = (lambda f: f) if how == "eager" else compiled
    got = run(lambda y, z: loss(y, keras.layers.Masking(0.0)(z)))(
        *map(ops.convert_to_tensor, (y, z))
    )
    expected = loss(np.where(mask, y, 0), keras.layers.Masking(0.0)(z))
    np.testing.assert_allclose(to_numpy(got), to_numpy(expected), rtol=1e-5)


# A class to ignore

ignored = pytest.mark.parametrize("void, dtype", [(-1, "int32"), (255, "uint8"), (-100, "float32")])


@names
@ignored
@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "mean_with_sample_weight"])
@pytest.mark.parametrize("weighted", [False, True])
def test_ignored_pixels_are_left_out_as_keras_does(name, void, dtype, reduction, weighted):
    loss = make(name, ignore_class=void, reduction=reduction)
    like_keras = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=void, reduction=reduction
    )
    keep = np.array([[[1, 0], [1, 1]], [[0, 0], [1, 1]], [[0, 0], [0, 0]]], bool)
    rng = np.random.default_rng(1)
    y = np.where(keep, rng.integers(0, CLASSES, keep.shape), void).astype(dtype)
    z = rng.normal(size=(*keep.shape, CLASSES)).astype("float32")
    z[0, 0, 1] = np.nan  # An ignored pixel.
    weights = rng.uniform(0.5, 2, keep.shape).astype("float32") if weighted else None
    got, slopes = values_and_slopes(loss, y, z, sample_weight=weights)

    alone = to_numpy(make(name, reduction="none")(y[keep], z[keep]))
    values = np.zeros(keep.shape, "float32")
    values[keep] = alone

    def reduced(values):
        w = np.where(keep, 1.0 if weights is None else weights, 0.0)
        if reduction == "none":
            return w * values
        total = np.sum(w * values)
        return total / {"sum": 1, "mean": keep.sum(), "mean_with_sample_weight": w.sum()}[reduction]

    np.testing.assert_allclose(got, reduced(values), rtol=1e-4, atol=1e-6)
    crossentropy = np.log(np.exp(z).sum(-1)) - np.take_along_axis(
        z, np.where(keep, y, 0).astype(int)[..., None], axis=-1
    ).squeeze(-1)
    by_keras = to_numpy(like_keras(y, z, sample_weight=weights))
    np.testing.assert_allclose(by_keras, reduced(np.nan_to_num(crossentropy)), rtol=1e-4)
    assert np.all(slopes[~keep] == 0) and np.isfinite(slopes).all()
    assert np.abs(slopes[keep]).max() > 0


@names
def test_a_mask_and_a_class_to_ignore_act_together(name):
    mask = np.array([[1, 1, 1], [1, 1, 0]], bool)
    y = np.array([[0, 9, 4], [1, 3, 9]], "int32")
    z = np.where(mask[..., None], Z.reshape(2, 3, CLASSES), 0.0).astype("float32")
    got = make(name, ignore_class=9)(y, keras.layers.Masking(0.0)(z))
    keep = mask & (y != 9)
    expected = make(name)(y[keep], z[keep])
    np.testing.assert_allclose(to_numpy(got), to_numpy(expected), rtol=1e-5)


@names
def test_all_ignored_is_0(name):
    got, slopes = values_and_slopes(make(name, ignore_class=-1), np.full(6, -1), Z)
    assert got == 0 and np.all(slopes == 0)


@names
def test_other_ids_are_errors_beside_one_that_is_ignored(name):
    with pytest.raises(ValueError, match="Received: y_true with 7"):
        make(name, ignore_class=-1)(np.array([0, -1, 7, 0, 1, 2]), Z)


@names
def test_rows_have_no_class_to_ignore(name):
    with pytest.raises(ValueError, match="`ignore_class` needs labels that are integer ids"):
        make(name, ignore_class=0)(np.eye(CLASSES, dtype="float32")[IDS], Z)
    with pytest.raises(ValueError, match="`ignore_class` must be an integer"):
        make(name, ignore_class=0.5)


def test_a_class_to_ignore_is_saved_and_trains():
    model = keras.Sequential([keras.Input((4, 4, 2)), keras.layers.Dense(CLASSES)])
    model.compile("sgd", kr.losses.MbLS(ignore_class=255), jit_compile=compilable())
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 4, 4, 2)).astype("float32"), rng.integers(0, CLASSES, (6, 4, 4))
    y[:, :2] = 255
    z = model.predict(x, verbose=0)
    expected = to_numpy(kr.losses.MbLS()(y[:, 2:], z[:, 2:]))
    restored = save_and_load(model)
    for m in (model, restored):
        np.testing.assert_allclose(m.evaluate(x, y, verbose=0), expected, rtol=1e-5)
        np.testing.assert_allclose(m.train_on_batch(x, y), expected, rtol=1e-5)


def test_a_column_of_targets_has_a_value_to_ignore():
    loss = kr.losses.PolyFocal(from_logits=True, ignore_class=-1)
    y, z = np.array([0, -1, 1, -1], "int32"), Z[:4, :1]
    expected = kr.losses.PolyFocal(from_logits=True)(y[[0, 2]], z[[0, 2]])
    for given, scores in ((y, z), (y[:, None], z), (y, z[:, 0])):
        np.testing.assert_allclose(to_numpy(loss(given, scores)), to_numpy(expected), rtol=1e-5)


# Binary targets, and labels of the functions


@pytest.mark.parametrize(
    "loss", [kr.losses.AnyLoss(), kr.losses.Rejection(0.2), kr.losses.PolyFocal()]
)
def test_targets_of_two_classes_are_between_0_and_1(loss):
    p = np.array([0.2, 0.6, 0.7], "float32")
    for wrong in (-1, 2):
        with pytest.raises(ValueError, match="Expected targets between 0 and 1"):
            loss(np.array([0, wrong, 1]), p)
    if compilable():
        y = ops.convert_to_tensor(np.array([0, -1, 1]))
        assert np.isnan(to_numpy(compiled(lambda y, p: loss(y, p))(y, ops.convert_to_tensor(p))))


@pytest.mark.parametrize(
    "function",
    [
        kr.losses.trades,
        kr.losses.mart,
        kr.losses.arow,
        kr.losses.adversarial_logit_pairing,
        kr.losses.smooth_adversarial_comp_sum,
        kr.losses.distillation_loss,
    ],
)
def test_functions_of_labels_refuse_them_too(function):
    y = np.where(np.arange(6) == 3, CLASSES, IDS)
    with pytest.raises(ValueError, match="Expected class ids from 0 to 4"):
        function(y, Z, Z[::-1].copy())
    if compilable():
        got = compiled(lambda y, a, b: function(y, a, b))(
            *map(ops.convert_to_tensor, (y, Z, Z[::-1].copy()))
        )
        assert np.isnan(to_numpy(got)).tolist() == [False, False, False, True, False, False]


# Ids stay integers


@names
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_ids_are_exact_whatever_the_dtype_of_the_loss(name, dtype):
    classes = 2100
    ids = np.array([257, 2049, 2051, 259], "int32")
    # At the label; next to it, where rounding would look; elsewhere.
    z = np.zeros((4, classes), "float32")
    z[np.arange(4), ids], z[np.arange(4), ids - 1], z[:, 7] = 4.0, -4.0, 2.0
    expected, slopes = values_and_slopes(make(name, classes, reduction="none"), ids, z)
    for y in (ids, ids[:, None], ids.astype("float32"), ops.convert_to_tensor(ids)):
        loss = make(name, classes, reduction="none", dtype=dtype)
        got, got_slopes = values_and_slopes(loss, y, z)
        np.testing.assert_allclose(got, expected, rtol=2e-2, atol=1e-2)
        scale = max(np.abs(slopes).max(), 1e-6)  # What float16 has.
        np.testing.assert_allclose(got_slopes, slopes, rtol=2e-2, atol=2e-2 * scale)


# Forbidden classes

# Their formulas hold the logits of all classes, or their mean, and are infinite.
INFINITE = {"ACLS", "MaxSup", "MbLS", "SpectralDecoupling", "ZLoss"}


@names
@pytest.mark.parametrize("form", ["ids", "rows", "soft"])
def test_a_forbidden_class_is_no_class(name, form):
    z = np.concatenate([Z, np.full((6, 1), -np.inf, "float32")], axis=1)
    rows = np.eye(CLASSES, dtype="float32")[IDS]
    if form == "soft":
        rows = 0.7 * rows + 0.3 / CLASSES
    y = IDS if form == "ids" else np.pad(rows, ((0, 0), (0, 1)))
    loss = make(name, CLASSES + 1, reduction="none")
    got, slopes = values_and_slopes(loss, y, z)
    low, low_slopes = values_and_slopes(loss, y, np.maximum(z, -1e4))
    if name in INFINITE:
        assert "infinite" in getattr(kr.losses, name).__doc__
        assert not np.isfinite(got).any()
        return
    np.testing.assert_allclose(got, low, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(slopes, low_slopes, rtol=1e-4, atol=1e-6)
    assert np.all(slopes[:, -1] == 0)
