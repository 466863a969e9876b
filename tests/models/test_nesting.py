"""Nested train steps take the steps of NumPy's float64, commute where levels differ, and cost what adds up."""

import itertools

import keras
import numpy as np
import pytest
import reference_steps as reference
from counting import CountingLayer, count
from keras import layers
from model_table import METHODS, expected_passes, known, wrap

RNG = np.random.RandomState(0)
X, Y = RNG.rand(12, 4).astype("float32"), RNG.randint(0, 3, 12)
UNLABELLED = np.where(np.arange(12) % 3 == 0, Y, -1)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
L2, RATE = 0.02, 0.5
START = [RNG.normal(0.0, 1.0, s).astype("float32") for s in ((4, 5), (5,), (5, 3), (3,))]
GRADIENT, REST = known("gradient"), known("objective", "input")


def trained(names, y=Y, steps=1, eagerly=True):
    """`(last logged loss, weights, passes)`; eagerly, which is faster for so few steps."""
    penalty, counter = keras.regularizers.L2(L2), CountingLayer()
    first = layers.Dense(5, "tanh", kernel_regularizer=penalty)
    last = layers.Dense(3, kernel_regularizer=penalty)
    model = wrap(names, keras.Sequential([keras.Input((4,)), first, counter, last]))
    first.set_weights(START[:2])
    last.set_weights(START[2:])
    model.compile(keras.optimizers.SGD(RATE), LOSS, run_eagerly=eagerly)
    losses = []
    passes = count(
        counter, lambda: losses.extend(float(model.train_on_batch(X, y)) for _ in range(steps))
    )
    return losses[-1], [*first.get_weights(), *last.get_weights()], passes


def expected(names, y=Y, steps=1):
    """`(loss, weights)` of the reference."""
    chain, weights = [METHODS[name].reference() for name in names], START
    for _ in range(steps):
        loss, weights = reference.sgd_step(reference.Network(L2), weights, chain, X, y, RATE)
    return loss, weights


def distance(a, b):
    return max(np.abs(v - w).max() for v, w in zip(a, b, strict=True))


def check(names, **data):
    """Asserts that a nesting steps as the reference does; gives its weights and passes."""
    loss, weights, passes = trained(names, **data)
    wanted_loss, wanted = expected(names, **data)
    np.testing.assert_allclose(loss, wanted_loss, rtol=1e-5)
    assert distance(weights, wanted) < 1e-5
    for i in range(len(names)):  # No part could be left out unseen.
        assert distance(wanted, expected(names[:i] + names[i + 1 :], **data)[1]) > 1e-3
    return weights, passes


def spread(first, second, every):
    """A share of all pairs in which each name meets several others."""
    pairs = itertools.product(enumerate(first), enumerate(second))
    return [(a, b) for (i, a), (j, b) in pairs if (i + j) % every == 0]


@pytest.mark.parametrize("rule, other", spread(GRADIENT, REST, every=3))
def test_levels_compose_and_commute(rule, other):
    weights, passes = check([rule, other])
    assert passes == expected_passes([rule, other])
    np.testing.assert_equal(trained([other, rule])[1], weights)


RULES = [
    ("SAM", "AWP"),
    ("AWP", "SAM"),
    ("GSAM", "ASAM"),
    ("AMP", "F-GR"),
    ("F-GR", "AMP"),
    ("B-GR", "exact GR"),
    ("exact GR", "SAM"),
]


@pytest.mark.parametrize("outer, inner", RULES)
def test_a_rule_queries_the_rule_inside(outer, inner):
    _, passes = check([outer, inner])
    assert passes == expected_passes([outer, inner])
    assert distance(expected([outer, inner])[1], expected([inner, outer])[1]) > 1e-3


# What a method of clean predictions can share with the loss is one pass, if that was on clean inputs.
OBJECTIVES = [
    ("Flooding", "VAT", 0),
    ("VAT", "Flooding", 0),
    ("Flooding", "WeightPenalty", 0),
    ("WeightPenalty", "PGD training", 0),
    ("PGD training", "WeightPenalty", 0),
    ("TRADES", "VAT", 0),
    ("TRADES", "FGSM training", 1),
    ("VAT", "FGSM training", 1),
    ("FGSM training", "VAT", 0),
    ("PGD training", "TRADES", 1),
]


@pytest.mark.parametrize("outer, inner, unshared", OBJECTIVES)
def test_an_objective_takes_the_one_inside(outer, inner, unshared):
    _, passes = check([outer, inner])
    assert passes == tuple(n + unshared for n in expected_passes([outer, inner]))


TRIPLES = [
    ("SAM", "Flooding", "TRADES"),
    ("AWP", "WeightPenalty", "PGD training"),
    ("GSAM", "AMP", "FGSM training"),
    ("SAM", "AWP", "VAT"),
    ("exact GR", "Flooding", "VAT"),
]


@pytest.mark.parametrize("names", TRIPLES, ids="-".join)
def test_three_levels_and_two_steps(names):
    names = list(names)
    weights, passes = check(names, steps=2)
    assert passes == tuple(2 * n for n in expected_passes(names))


def test_a_rule_commutes_from_any_depth():
    weights = [
        trained(names)[1]
        for names in (
            ["SAM", "Flooding", "VAT"],
            ["Flooding", "SAM", "VAT"],
            ["Flooding", "VAT", "SAM"],
        )
    ]
    np.testing.assert_equal(weights[1], weights[0])
    np.testing.assert_equal(weights[2], weights[0])


@pytest.mark.parametrize(
    "names", [["SAM", "VAT"], ["WeightPenalty", "VAT"], ["VAT", "Flooding"]], ids="-".join
)
@pytest.mark.parametrize("y", [UNLABELLED, np.full(12, -1)], ids=["some", "none"])
def test_unlabelled_rows_in_a_nesting(names, y):
    check(names, y=y)


@pytest.mark.parametrize("name", METHODS)
def test_what_a_step_costs(name):
    """Alone, and inside or around a method of another level."""
    partner = "PGD training" if METHODS[name].level == "gradient" else "SAM"
    for names in ([name], [partner, name]):
        assert trained(names)[2] == expected_passes(names)


@pytest.mark.parametrize(
    "names", [["SAM", "VAT"], ["exact GR", "TRADES"], ["AMP", "PGD training"]], ids="-".join
)
def test_compiled_steps_equal_eager_ones(names):
    if keras.backend.backend() == "tensorflow" and METHODS[names[1]].random:
        names = [
            names[0],
            "Flooding",
        ]  # Compiled, TensorFlow draws other numbers from the same seed.
    loss, weights, passes = trained(names, eagerly=False)
    assert passes == expected_passes(names)
    assert distance(weights, expected(names)[1]) < 1e-5
