"""Features near boundaries: the terms against loops over pixels."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import special

import keras_regularize as kr
from keras_regularize.testing._common import to_numpy, values_and_gradients
from tests.helpers import array

RNG = np.random.default_rng(0)
F = RNG.normal(size=(3, 9, 8, 4)).astype("float32")
Y = np.zeros((3, 9, 8), "int32")
Y[0, 2:6, 3:], Y[0, 6:, :4] = 1, 2
Y[1, :, 4:], Y[1, 0, 0] = 2, -1
PLACES = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]


def layer(**options):
    keras.utils.set_random_seed(0)
    return kr.layers.ConditionalBoundary(
        keras.layers.Dense(3), kernel_size=3, border=0.1, **options
    )


def by_hand(kernel, bias):
    """Context, cross-entropies and distances, pixel by pixel, with a border of one pixel."""
    predicted = (F @ kernel + bias).argmax(-1)
    contexts, classes = [], {}
    for b in range(3):
        context = []
        for i in range(9):
            for j in range(8):
                near = [(i + u, j + v) for u, v in PLACES if 0 <= i + u < 9 and 0 <= j + v < 8]
                y, f = Y[b, i, j], F[b, i, j]
                if y < 0 or not any(0 <= Y[b][p] != y for p in near):
                    continue
                if y > 0 and len(near) == 8:
                    for p in near:
                        cosine = f @ F[b][p] / np.linalg.norm(f) / np.linalg.norm(F[b][p])
                        context.append((cosine - (Y[b][p] == y)) ** 2)
                same = [p for p in near if Y[b][p] == y]
                sure = [p for p in same if predicted[b][p] == y]
                found = classes.setdefault(y, ([], [], []))
                for k, places in enumerate((same, sure)):
                    if places:
                        centre = np.mean([F[b][p] for p in places], axis=0)
                        found[k].append(-special.log_softmax(centre @ kernel + bias)[y])
                if sure and predicted[b, i, j] == y:
                    found[2].append(np.mean((f - centre) ** 2))
        contexts += [np.mean(context)] if context else []
    classes = [[np.mean(part) for part in parts] for parts in classes.values() if parts[2]]
    plain, sure, pull = np.mean(classes, axis=0)
    return np.mean(contexts), plain + sure, pull


@pytest.mark.everywhere
def test_the_terms_are_those_of_a_loop():
    head = layer(context_weight=0.7, classification_weight=0.3, pull_weight=1.5)
    logits = head([ops.convert_to_tensor(F), ops.convert_to_tensor(Y)], training=True)
    kernel, bias = (array(v) for v in head.classifier.variables)
    np.testing.assert_allclose(array(logits), F @ kernel + bias, rtol=1e-4, atol=1e-5)
    context, classification, pull = by_hand(kernel, bias)
    expected = 0.7 * context + 0.3 * classification + 1.5 * pull
    assert float(array(head.losses[0])) == pytest.approx(expected, rel=1e-4)


def test_the_classifier_is_trained_by_its_outputs_alone_and_features_by_all():
    head = layer()
    head.build((None, 9, 8, 4))
    variables = head.classifier.trainable_variables

    def added(weights, x):
        with keras.StatelessScope(state_mapping=list(zip(variables, weights))):
            logits = head.classifier(x)
            return head._terms(x, logits, ops.convert_to_tensor(Y))

    start = [array(v) for v in variables]
    _, slope = values_and_gradients(lambda weights: added(weights, ops.convert_to_tensor(F)))(start)
    for part in slope:
        np.testing.assert_array_equal(to_numpy(part), 0.0)
    constant = [ops.convert_to_tensor(w) for w in start]
    _, slope = values_and_gradients(lambda x: added(constant, x))(F)
    slope = to_numpy(slope)
    assert np.isfinite(slope).all()
    assert np.abs(slope[:2]).max() > 0
    np.testing.assert_array_equal(slope[2], 0.0)  # An image without a boundary.


def test_without_boundaries_or_labels_there_is_no_term():
    head = layer()
    for labels in (0 * Y, 0 * Y - 1):
        head([ops.convert_to_tensor(F), labels[..., None]], training=True)
        assert float(array(head.losses[0])) == 0.0
    head(ops.convert_to_tensor(F))
    assert head.losses == []


def test_a_model_learns_and_refuses_what_does_not_fit():
    x, labels = keras.Input((9, 8, 4)), keras.Input((9, 8), dtype="int32", optional=True)
    features = keras.layers.Dense(6, activation="tanh")(x)
    model = kr.models.WithLabels(keras.Model([x, labels], layer()([features, labels])))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    model.compile(keras.optimizers.Adam(0.02), loss)
    history = model.fit(F, Y, epochs=8, verbose=0).history["loss"]
    assert history[-1] < history[0]
    head = layer()
    for wrong in (Y[:, :4], Y[0]):
        with pytest.raises(ValueError, match="Expected features"):
            head([F, wrong], training=True)
    with pytest.raises(ValueError, match="class ids from 0 to 2"):
        head([F, Y + 1], training=True)
    with pytest.raises(ValueError, match="`kernel_size` must be odd"):
        kr.layers.ConditionalBoundary(keras.layers.Dense(3), 4)
