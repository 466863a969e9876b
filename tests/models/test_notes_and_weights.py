"""Notes belong to a wrapper and not to its name; sample weights are arrays for every author."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from small import LOSS, X, Y, mlp

import keras_regularize as kr

ATTACK = {"random_start": False}


def trained(wrap, y=Y, steps=3, loss=LOSS, **options):
    model = wrap(mlp())
    model.compile(keras.optimizers.SGD(0.3), loss)
    history = model.fit(X, y, epochs=steps, batch_size=16, shuffle=False, verbose=0, **options)
    return history.history["loss"], [ops.convert_to_numpy(w) for w in model.model.weights]


def adversarial(net, name, epsilon):
    attack = kr.attacks.PGD(epsilon, epsilon / 2, 2, **ATTACK)
    return kr.models.AdversarialTraining(net, attack, clean_weight=0.5, name=name)


def test_two_wrappers_of_one_name_keep_their_notes_apart():
    def nested(*names):
        return lambda net: adversarial(adversarial(net, names[0], 0.05), names[1], 0.3)

    same, different = trained(nested("one", "one")), trained(nested("one", "two"))
    np.testing.assert_array_equal(same[0], different[0])


def test_two_group_dro_of_one_name():
    def nested(*names):
        def wrap(net):
            inner = kr.models.GroupDRO(net, 2, step_size=0.5, name=names[0])
            return kr.models.GroupDRO(inner, 2, step_size=0.1, name=names[1])

        return wrap

    y = {"label": Y, "group": np.arange(48) % 2}
    np.testing.assert_array_equal(trained(nested("g", "g"), y)[0], trained(nested("g", "h"), y)[0])


class Doubled(kr.models.RegularizedModel):
    """An author who takes the sample weights of a batch for an array."""

    def objective(self, batch, forward):
        weight = batch.sample_weight
        weight = 2.0 * (ops.ones((ops.shape(batch.y)[0],)) if weight is None else weight)
        return super().objective(batch.replace(sample_weight=weight), forward)


@pytest.mark.parametrize("weighted", [False, True])
def test_an_author_sees_weights_as_arrays_inside_any_wrapper(weighted):
    y = {"label": Y, "group": np.arange(48) % 2, "index": np.arange(48)}
    options = {"sample_weight": np.linspace(0.5, 1.5, 48)} if weighted else {}
    for wrap in (
        lambda net: kr.models.GroupDRO(net, 2),
        lambda net: kr.models.Distillation(net, mlp(), 0.5),
    ):
        given = y if wrap(mlp()).reads_columns else Y

        def plain(net, wrap=wrap):
            return wrap(net)

        def inside(net, wrap=wrap):
            return wrap(Doubled(net))

        keras.utils.set_random_seed(0)
        model = inside(mlp())
        model.compile(keras.optimizers.SGD(0.0), LOSS)
        found = model.fit(X, given, batch_size=48, verbose=0, **options).history["loss"][0]
        model = plain(mlp())
        model.compile(keras.optimizers.SGD(0.0), LOSS)
        single = model.fit(X, given, batch_size=48, verbose=0, **options).history["loss"][0]
        assert np.isfinite(found) and found > single


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "mean_with_sample_weight"])
@pytest.mark.parametrize("weighted", [False, True])
def test_one_group_is_plain_training_whatever_the_reduction(reduction, weighted):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)
    options = {"sample_weight": np.linspace(0.5, 1.5, 48)} if weighted else {}
    mean = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="mean_with_sample_weight"
    )
    y = {"label": Y, "group": np.zeros(48, int)}
    found = trained(lambda net: kr.models.GroupDRO(net, 1), y, loss=loss, **options)
    expected = trained(kr.models.RegularizedModel, Y, loss=mean, **options)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)


@pytest.mark.parametrize("padding", [0, 4])
def test_group_dro_on_masked_sequences(padding):
    def net():
        keras.utils.set_random_seed(1)
        return keras.Sequential(
            [keras.Input((None,)), layers.Embedding(9, 5, mask_zero=True), layers.Dense(3)]
        )

    rng = np.random.default_rng(0)
    ids = rng.integers(1, 9, size=(12, 5))
    ids[::2, 3:] = 0
    y = rng.integers(0, 3, size=(12, 5))
    losses = []
    for pad in (0, padding):
        model = kr.models.GroupDRO(net(), 2)
        model.compile(keras.optimizers.SGD(0.5), LOSS)
        wide = ((0, 0), (0, pad))
        data = {"label": np.pad(y, wide), "group": np.arange(12) % 2}
        losses.append(model.fit(np.pad(ids, wide), data, epochs=2, verbose=0).history["loss"])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    single = kr.models.GroupDRO(net(), 1)
    plain = net()
    for model, labels in ((single, {"label": y, "group": np.zeros(12, int)}), (plain, y)):
        model.compile(keras.optimizers.SGD(0.5), LOSS)
        losses.append(model.fit(ids, labels, epochs=2, verbose=0, shuffle=False).history["loss"])
    np.testing.assert_allclose(losses[-2], losses[-1], rtol=1e-5)
