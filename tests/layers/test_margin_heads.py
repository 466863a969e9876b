"""ArcFace, CosFace, AdaFace, CurricularFace and MagFace: what holds beyond the golden cases and the contract."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_regularize as kr
from keras_regularize import autodiff
from keras_regularize.layers import AdaFace, ArcFace, CosFace, CurricularFace, MagFace
from keras_regularize.testing._common import fused, to_numpy

RNG = np.random.default_rng(0)
X = (3 * RNG.normal(size=(8, 5))).astype("float32")
LABELS = RNG.integers(0, 4, 8)


def built(layer, features=5):
    layer.build([(None, features), (None,)])
    return layer


def train(layer, x=X, labels=LABELS):
    """Logits, non-trainable weights and added losses of a call in training."""
    trainable = [v.value for v in layer.trainable_variables]
    others = [v.value for v in layer.non_trainable_variables]

    def call(x, labels):
        return layer.stateless_call(
            trainable, others, [x, labels], training=True, return_losses=True
        )

    logits, state, losses = fused(call)(np.asarray(x, "float32"), labels)
    return to_numpy(logits), [float(v) for v in map(np.squeeze, map(to_numpy, state))], losses


def cosines(layer, x=X):
    x, w = np.asarray(x, "float64"), np.asarray(layer.kernel, "float64")
    return (x / np.linalg.norm(x, axis=1, keepdims=True)) @ (w / np.linalg.norm(w, axis=0))


def test_curricular_face_equals_a_loop():
    layer = built(CurricularFace(4, margin=0.6, scale=10.0, momentum=0.3))
    layer.tau.assign(0.2)
    x, labels = X.copy(), LABELS.copy()
    x[0] = -np.asarray(layer.kernel)[:, labels[0]] + 0.1  # θ > π - m
    x[1] = np.asarray(layer.kernel)[:, labels[1]] + 0.1  # Nothing is hard.
    labels[2] = -1
    cosine = cosines(layer, x)
    known = labels >= 0
    tau = 0.3 * cosine[known, labels[known]].mean() + 0.7 * 0.2
    expected = cosine.copy()
    for i in np.flatnonzero(known):
        own = cosine[i, labels[i]]
        target = np.cos(np.arccos(own) + 0.6)
        if np.arccos(own) >= np.pi - 0.6:
            target = own - 0.6 * np.sin(0.6)
        hard = cosine[i] > target
        expected[i, hard] *= tau + cosine[i, hard]
        expected[i, labels[i]] = target
    logits, state, _ = train(layer, x, labels)
    np.testing.assert_allclose(logits, 10 * expected, rtol=1e-4, atol=1e-4)
    assert state == pytest.approx([tau], rel=1e-5)
    # Without any label nothing is changed.
    logits, state, _ = train(layer, x, np.full(8, -1))
    np.testing.assert_allclose(logits, 10 * cosine, rtol=1e-4, atol=1e-4)
    assert state == pytest.approx([0.2])


def test_mag_face_equals_a_loop():
    layer = built(MagFace(4, 0.2, 0.9, 2.0, 7.0, factor=3.0, scale=10.0))
    x = X / np.linalg.norm(X, axis=1, keepdims=True) * np.linspace(1, 9, 8)[:, None]
    expected, penalty = cosines(layer, x), 0.0
    for i, label in enumerate(LABELS):
        a = min(max(np.linalg.norm(x[i]), 2.0), 7.0)
        penalty += 3.0 * (a / 49 + 1 / a) / 8
        if expected[i, label] > 0:
            margin = 0.2 + 0.7 * (a - 2) / 5
            expected[i, label] = np.cos(np.arccos(expected[i, label]) + margin)
    assert (cosines(layer, x)[range(8), LABELS] < 0).any()
    logits, _, losses = train(layer, x)
    np.testing.assert_allclose(logits, 10 * expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(to_numpy(losses[0]), penalty, rtol=1e-5)


@pytest.mark.parametrize(
    "neutral, other",
    [
        (ArcFace(4, 0.0), ArcFace(4)),
        (CosFace(4, 0.0), CosFace(4)),
        (AdaFace(4, 0.0), AdaFace(4, concentration=0.0)),
        (MagFace(4, 0.0, 0.0), MagFace(4)),
        (None, CurricularFace(4)),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_labels_act_in_training_alone(neutral, other):
    plain = 64 * cosines(built(other))
    inference = [other([X, LABELS]), other([X, None], training=False), other(X)]
    for logits in inference:
        np.testing.assert_allclose(to_numpy(logits), plain, rtol=1e-4, atol=1e-3)
    logits, _, _ = train(other)
    changed, label = np.abs(logits - plain) > 1e-2, np.eye(4, dtype=bool)[LABELS]
    penalized = plain >= 0 if isinstance(other, MagFace) else True
    assert np.array_equal(changed & label, label & penalized)
    assert np.all(logits[changed & label] < plain[changed & label])
    assert np.any(changed & ~label) == isinstance(other, CurricularFace)
    if neutral is None:
        return
    if isinstance(other, AdaFace):
        np.testing.assert_allclose(logits, plain - 64 * 0.4 * label, rtol=1e-4, atol=1e-2)
    # Neither a margin of 0 nor the length of a column changes the cosine.
    built(neutral).kernel.assign(to_numpy(other.kernel) * [1.0, 0.1, 7.0, 30.0])
    np.testing.assert_allclose(train(neutral)[0], plain, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("make", [AdaFace, CurricularFace])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_overflow_leaves_the_statistics(make, value):
    layer = built(make(4))
    before = [float(np.squeeze(to_numpy(v))) for v in layer.non_trainable_variables]
    logits, state, _ = train(layer, np.where(np.arange(8)[:, None] == 3, value, X))
    assert np.isnan(logits[3]).all()
    np.testing.assert_array_equal(state, before)


def test_labels_may_be_rows_or_missing():
    layer = built(ArcFace(4))
    expected = train(layer)[0]
    assert np.array_equal(train(layer, labels=LABELS[:, None])[0], expected)
    rows = np.eye(4, dtype="float32")[LABELS]
    soft = 0.7 * rows + 0.075
    for labels in (rows, soft):
        assert np.array_equal(train(layer, labels=labels)[0], expected)
    unknown = np.array([True, False] * 4)
    expected[unknown] = to_numpy(layer(X))[unknown]
    missing = np.where(unknown, -1, LABELS)
    np.testing.assert_allclose(train(layer, labels=missing)[0], expected, rtol=1e-5, atol=1e-4)
    rows[unknown] = -1
    np.testing.assert_allclose(train(layer, labels=rows)[0], expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("make", [ArcFace, CosFace, AdaFace, CurricularFace, MagFace])
def test_gradients_are_small_where_the_arccosine_has_none(make):
    layer = built(make(4), 4)
    layer.kernel.assign(np.eye(4))
    x = np.concatenate([3 * np.eye(4), -3 * np.eye(4), 0 * np.eye(4), 1e-8 * np.eye(4)])
    labels = np.tile(np.arange(4), 4)
    others = [v.value for v in layer.non_trainable_variables]

    def total(moved, labels):
        x, kernel = moved
        logits, _, losses = layer.stateless_call(
            [kernel], others, [x, labels], training=True, return_losses=True
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, logits)
        return loss + sum(losses)

    run = fused(autodiff.value_and_grad(total))
    loss, slopes = run([x.astype("float32"), np.eye(4, dtype="float32")], labels)
    for value in (loss, *slopes):
        assert np.all(np.isfinite(to_numpy(value)))
    assert np.abs(to_numpy(slopes[0])[:12]).max() < 100
    assert np.abs(to_numpy(slopes[1])).max() < 100


# Margins in the angle of the label and in its cosine; that of AdaFace at q = -1.
MARGINS = {
    ArcFace: (0.5, 0.0),
    CosFace: (0.0, 0.4),
    CurricularFace: (0.5, 0.0),
    AdaFace: (0.4, 0.0),
    MagFace: (0.45, 0.0),
}


@pytest.mark.parametrize("make", MARGINS)
def test_logits_and_gradients_are_exact_up_to_the_centre_of_the_class(make):
    options = {"factor": 0.0} if make is MagFace else {}
    layer = built(make(2, **options), 3)
    if make is AdaFace:  # All lengths are far below the mean.
        layer.norm_mean.assign([1e4])
        layer.norm_deviation.assign([1.0])
    layer.kernel.assign(np.array([[0.0, 2.0], [0.6, 0.0], [0.8, 0.0]]))
    rotation, subtracted = MARGINS[make]
    angles = np.array([0.0, 1e-6, 1e-4, 1e-3, 0.01, 0.014, 0.1, 0.7])
    # Lengths of 5 in the plane of the class' direction and the first axis.
    x = 5 * np.outer(np.cos(angles), [0, 0.6, 0.8]) - 5 * np.outer(np.sin(angles), [1, 0, 0])
    labels = np.zeros(len(angles), "int32")
    trainable = [v.value for v in layer.trainable_variables]
    others = [v.value for v in layer.non_trainable_variables]

    def total(x, labels):
        logits, _ = layer.stateless_call(trainable, others, [x, labels], training=True)
        return ops.sum(logits[:, 0]), logits[:, 0]

    run = fused(autodiff.value_and_grad(total, has_aux=True))
    (_, logits), slopes = run(x.astype("float32"), labels)
    expected = 64 * (np.cos(angles + rotation) - subtracted)
    np.testing.assert_allclose(to_numpy(logits), expected, rtol=0, atol=1e-3)
    away = 64 / 5 * np.sin(angles + rotation)  # Of the logit, along the arc away from the class.
    arc = -np.outer(np.sin(angles), [0, 0.6, 0.8]) - np.outer(np.cos(angles), [1, 0, 0])
    # At 1e-6 the direction of float32 vectors is known to a tenth, at 0 not at all.
    for i, tolerance in enumerate([None, 0.2, 2e-3, 2e-3, 1e-3, 1e-3, 1e-3, 1e-3]):
        if tolerance is None:
            assert np.linalg.norm(to_numpy(slopes)[0]) < 1e-4
        else:
            np.testing.assert_allclose(
                to_numpy(slopes)[i], -away[i] * arc[i], rtol=0, atol=tolerance * 64 / 5
            )


@pytest.mark.parametrize("make", [ArcFace, CosFace])
def test_sub_centers_and_margins_of_classes_equal_a_loop(make):
    margins = [0.1, 0.5, 0.3, 0.0]
    layer = built(make(4, margins, scale=10.0, sub_centers=3))
    assert tuple(layer.kernel.shape) == (5, 12)
    each = cosines(layer).reshape(8, 4, 3)
    labels = LABELS.copy()
    labels[2] = -1
    expected = np.zeros((8, 4))
    for i in range(8):
        for k in range(4):
            c = max(each[i, k])
            if k == labels[i] and make is ArcFace:
                c = np.cos(min(np.arccos(c) + margins[k], np.pi))
            elif k == labels[i]:
                c = c - margins[k]
            expected[i, k] = 10 * c
    logits, _, _ = train(layer, X, labels)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(to_numpy(layer(X)), 10 * each.max(-1), rtol=1e-4, atol=1e-4)
    copy = built(make.from_config(layer.get_config()))
    assert copy.margins.config == margins and copy.sub_centers == 3
    # Only the nearest centre of a class learns.
    others = [v.value for v in layer.non_trainable_variables]

    def own(kernel, labels):
        return ops.sum(layer.stateless_call([kernel], others, [X, labels], training=True)[0][0])

    slope = to_numpy(fused(autodiff.grad(own))(layer.kernel.value, labels)).reshape(5, 4, 3)
    assert np.array_equal(np.abs(slope).sum(0) > 1e-6, each[0] == each[0].max(-1, keepdims=True))


def test_one_margin_for_all_classes_equals_a_number():
    for make in (ArcFace, CosFace):
        layer, other = built(make(4, 0.3)), built(make(4, np.full(4, 0.3)))
        other.kernel.assign(to_numpy(layer.kernel))
        np.testing.assert_allclose(train(layer)[0], train(other)[0], rtol=1e-5, atol=1e-4)


def test_sub_centers_take_wrong_labels_apart():
    """A third of a class' samples come from somewhere else: they get a centre of their own."""
    rng = np.random.default_rng(3)
    means = np.eye(6)[:4]
    y = np.repeat(np.arange(3), 60)
    wrong = np.arange(180) % 60 >= 40
    x = (means[np.where(wrong, 3, y)] + 0.15 * rng.normal(size=(180, 6))).astype("float32")

    def angle_to_mean(sub_centers):
        keras.utils.set_random_seed(0)
        inputs, labels = keras.Input((6,)), keras.Input((), dtype="int32", optional=True)
        head = ArcFace(3, margin=0.2, scale=8.0, sub_centers=sub_centers)
        model = keras.Model([inputs, labels], head([inputs, labels]))
        model.compile(
            keras.optimizers.Adam(0.05),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        model.fit([x, y], y, batch_size=180, epochs=150, verbose=0)
        kernel = to_numpy(head.kernel).reshape(6, 3, sub_centers)
        unit = kernel / np.linalg.norm(kernel, axis=0)
        return np.mean([max(unit[k, k]) for k in range(3)])

    assert angle_to_mean(3) > angle_to_mean(1) + 0.02


@pytest.mark.parametrize("make", [ArcFace, CosFace, AdaFace, CurricularFace, MagFace])
def test_ids_that_are_no_class_are_refused(make):
    layer = built(make(4))
    with pytest.raises(ValueError, match="class ids from 0 to 3, or negative.*labels up to 4"):
        layer([X, np.array([0, 1, 2, 3, 4, 0, 0, 0])], training=True)
    layer([X, np.array([0, 1, 2, 3, -4, 0, 0, -1])], training=True)


@pytest.mark.parametrize("make", [AdaFace, CurricularFace, MagFace])
def test_an_empty_batch_leaves_the_state(make):
    layer = built(make(4))
    before = [float(np.squeeze(to_numpy(v))) for v in layer.non_trainable_variables]
    logits, state, losses = train(layer, X[:0], LABELS[:0])
    assert logits.shape == (0, 4) and state == before
    assert all(np.isfinite(to_numpy(loss)) for loss in losses)


# In a model


def classifier(head):
    keras.utils.set_random_seed(1)
    x, labels = keras.Input((5,)), keras.Input((), dtype="int32", optional=True)
    return keras.Model([x, labels], head([keras.layers.Dense(6)(x), labels]))


def compiled(model):
    model.compile(
        keras.optimizers.SGD(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    return model


def test_statistics_move_once_a_step_in_nested_wrappers():
    head = AdaFace(4, scale=8.0, momentum=0.1)
    net = classifier(head)
    lengths = np.linalg.norm(to_numpy(net.layers[1](X)), axis=-1)
    model = compiled(kr.models.SAM(kr.models.VAT(kr.models.WithLabels(net), epsilon=0.5)))
    model.fit(X, LABELS, batch_size=8, verbose=0)
    got = [float(to_numpy(v)[0]) for v in (head.norm_mean, head.norm_deviation)]
    expected = [0.1 * lengths.mean() + 18.0, 0.1 * lengths.std(ddof=1) + 90.0]
    assert got == pytest.approx(expected, rel=1e-5)
    expected = to_numpy(net([X, None]))
    np.testing.assert_allclose(model.predict(X, verbose=0), expected, rtol=1e-4, atol=1e-4)


def test_training_without_labels_is_an_error():
    x = keras.Input((5,))
    model = compiled(keras.Model(x, CosFace(4)(x)))
    with pytest.raises(ValueError, match="`CosFace` needs the labels in training.*WithLabels"):
        model.fit(X, LABELS, verbose=0)
    with pytest.raises(ValueError, match=r"takes `\[features, labels\]`. Received a list of 3"):
        CosFace(4)([X, LABELS, LABELS])


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: ArcFace(0), "`units` must be an integer of at least 1. Received: units=0"),
        (lambda: ArcFace(4, -0.1), "`margin` must be a number at least 0. Received: margin=-0.1"),
        (lambda: ArcFace(4, [0.1, 0.2]), "one for each of the 4 classes. Received: 2 numbers"),
        (lambda: CosFace(2, [0.1, -0.2]), "`margin` must be a number at least 0"),
        (lambda: CosFace(2, sub_centers=0), "`sub_centers` must be an integer of at least 1"),
        (lambda: CosFace(4, scale=0), "`scale` must be a number above 0. Received: scale=0"),
        (lambda: AdaFace(4, momentum=1.5), "`momentum` must be a number at least 0 and at most 1"),
        (lambda: CurricularFace(4, 2.0), "`margin` must be a number at least 0 and at most 1.57"),
        (lambda: MagFace(4, 0.5, 0.4), "`max_margin` must be a number at least 0.5"),
        (
            lambda: MagFace(4, min_norm=0),
            "`min_norm` must be a number above 0. Received: min_norm=0",
        ),
        (lambda: ArcFace(4)(keras.Input((None,))), "`ArcFace` needs a known number of features"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_half_precision_keeps_large_class_ids():
    keras.config.set_dtype_policy("mixed_float16")
    layer = built(CosFace(3000, scale=1.0))
    logits = layer([X, np.full(8, 2049, "float32")], training=True)
    plain = layer(X)
    assert keras.backend.standardize_dtype(logits.dtype) == "float16"
    changed = to_numpy(ops.cast(plain, "float32")) - to_numpy(ops.cast(logits, "float32"))
    assert np.array_equal(np.argmax(changed, axis=-1), np.full(8, 2049))
