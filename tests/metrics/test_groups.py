import keras
import numpy as np
import pytest
from keras import ops

import keras_regularize as kr
from keras_regularize.metrics import GroupAccuracy, WorstGroupAccuracy

RNG = np.random.RandomState(0)
Y, GROUP = RNG.randint(0, 3, 40), RNG.randint(0, 4, 40)
P = RNG.rand(40, 3).astype("float32")


def result(metric, *arguments, **columns):
    metric.update_state(*arguments, **columns)
    return float(metric.result())


def accuracies(weights=None, groups=GROUP):
    hits = P.argmax(-1) == Y
    weights = np.ones(40) if weights is None else weights
    return [
        np.average(hits[groups == g], weights=weights[groups == g])
        for g in range(4)
        if weights[groups == g].sum() > 0
    ]


@pytest.mark.parametrize("column", [False, True])
def test_equals_accuracy_per_group(column):
    weights = RNG.rand(40).astype("float32") * (GROUP != 2)
    shape = (40, 1) if column else (40,)
    given = {"group": GROUP.reshape(shape), "sample_weight": weights.reshape(shape)}
    labels = Y.reshape(shape)
    expected = accuracies(weights)
    assert result(WorstGroupAccuracy(4), labels, P, **given) == pytest.approx(min(expected))
    one = result(GroupAccuracy(3), labels, P, **given)
    assert one == pytest.approx(expected[-1])
    assert result(GroupAccuracy(2), labels, P, **given) == 0.0  # All of weight 0.


def test_rows_and_scores_of_binary_models():
    expected = min(accuracies())
    assert result(WorstGroupAccuracy(4), np.eye(3)[Y], P, group=GROUP) == pytest.approx(expected)
    scores, labels = P[:, 0], Y % 2
    groups = [((scores > 0.5) == labels)[GROUP == g].mean() for g in range(4)]
    for shape in ((40,), (40, 1)):
        for metric in (WorstGroupAccuracy(4), WorstGroupAccuracy(4, threshold=0.0)):
            moved = (
                scores.reshape(shape) + metric.threshold - 0.5
            )  # Logits where the threshold is 0.
            got = result(metric, labels.reshape(shape), moved, group=GROUP)
            assert got == pytest.approx(min(groups))


def test_samples_of_no_group_are_not_counted():
    metric = WorstGroupAccuracy(4)
    inside = np.where(np.arange(40) < 30, GROUP, 9)
    inside[35:] = -1
    hits = P.argmax(-1) == Y
    expected = min(hits[inside == g].mean() for g in range(4))
    assert result(metric, Y, P, group=inside) == pytest.approx(expected)
    assert GroupAccuracy(2).name == "group_2_accuracy"


def test_in_fit_and_evaluate():
    net = keras.Sequential([keras.Input((3,)), keras.layers.Softmax()])
    net = keras.Sequential([net, keras.layers.Dense(3, kernel_initializer="identity")])
    model = kr.models.RegularizedModel(net)
    metrics = ["accuracy", WorstGroupAccuracy(4), GroupAccuracy(0)]
    model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy", metrics=metrics)
    y = {"label": Y, "group": GROUP}
    history = model.fit(P, y, validation_data=(P, y), batch_size=16, verbose=0).history
    assert history["worst_group_accuracy"] == [pytest.approx(min(accuracies()))]
    assert history["val_group_0_accuracy"] == [pytest.approx(accuracies()[0])]
    assert history["accuracy"] == [pytest.approx((P.argmax(-1) == Y).mean())]
    plain = model.evaluate(P, Y, verbose=0, return_dict=True)
    assert plain["worst_group_accuracy"] == 0.0 and plain["accuracy"] == history["accuracy"][0]


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: WorstGroupAccuracy(0), "`num_groups` must be an integer of at least 1"),
        (lambda: WorstGroupAccuracy(2, threshold="half"), "`threshold` must be a number"),
        (lambda: GroupAccuracy(-1), "`group` must be an integer of at least 0"),
        (
            lambda: result(
                WorstGroupAccuracy(2), np.zeros((4, 5)), np.ones((4, 5, 3)), group=Y[:4]
            ),
            "one prediction per sample",
        ),
        (lambda: result(WorstGroupAccuracy(2), Y, P), "needs the group of every sample"),
        (lambda: result(GroupAccuracy(2), Y, P), "needs the group of every sample"),
        (
            lambda: result(WorstGroupAccuracy(2), Y, P, group=GROUP[:7]),
            r"`group` must hold an id per sample, of shape \(40,\). Received: group.shape=\(7,\)",
        ),
        (lambda: result(GroupAccuracy(2), Y, P, group=3), "`group` must hold an id per sample"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_plain_model_which_passes_no_groups_is_told_so():
    net = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    net.compile("sgd", "sparse_categorical_crossentropy", metrics=[WorstGroupAccuracy(4)])
    with pytest.raises(ValueError, match="Wrap the model"):
        net.fit(P, Y, verbose=0)


def test_labels_that_do_not_count_and_labels_that_are_no_classes():
    labels = np.where(np.arange(40) < 30, Y, 255).astype("uint8")
    kept = np.arange(40) < 30
    hits = (P.argmax(-1) == Y)[kept]
    expected = min(hits[GROUP[kept] == g].mean() for g in range(4))
    metric = WorstGroupAccuracy(4, ignore_class=255)
    assert result(metric, labels, P, group=GROUP) == pytest.approx(expected)
    weighted = result(WorstGroupAccuracy(4), labels, P, sample_weight=kept, group=GROUP)
    assert weighted == pytest.approx(expected)
    with pytest.raises(ValueError, match="class ids from 0 to 2. Received: y_true with 255"):
        result(WorstGroupAccuracy(4), labels, P, group=GROUP)
    wrong = np.where(np.arange(40) == 3, np.nan, P.T).T
    assert np.isnan(result(WorstGroupAccuracy(4), Y, wrong, group=GROUP))
    assert np.isnan(result(GroupAccuracy(GROUP[3]), Y, wrong, group=GROUP))
    assert not np.isnan(result(GroupAccuracy((GROUP[3] + 1) % 4), Y, wrong, group=GROUP))


def test_the_state_is_float32_in_half_precision():
    metric = WorstGroupAccuracy(4, dtype="float16")
    assert result(metric, Y, ops.cast(P, "float16"), group=GROUP) == pytest.approx(
        min(accuracies()), abs=1e-2
    )
    assert keras.backend.standardize_dtype(metric.variables[0].dtype) == "float32"
