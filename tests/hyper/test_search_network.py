"""Networks as vectors, and the search among them."""

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from keras import ops

from keras_regularize.hyper import NetworkAutoencoder, search_network
from keras_regularize.hyper._search_network import _keras_model, _pruned


@pytest.fixture(scope="module")
def small():
    return NetworkAutoencoder(2, 2, units=3, depths=(1, 2), latent_dim=4, hidden_units=8, seed=3)


def vectors(autoencoder, depth, count=4):
    size = autoencoder.decoders[depth].output_shape[-1]
    return np.random.default_rng(0).normal(size=(count, size)).astype("float32")


def test_outputs_are_those_of_a_loop_over_the_vector(small):
    """One unit after the other, of the numbers in the order of the vector: kernel, bias, gate of each layer."""
    given, x = vectors(small, 2), np.random.default_rng(1).normal(size=(5, 2))
    found = ops.convert_to_numpy(small.outputs(small.layers(given, 2), x))
    assert found.shape == (4, 5, 2)
    for vector, outputs in zip(given.astype("float64"), found):
        numbers, values = iter(vector), x.T
        for fan_in, fan_out, last in ((2, 3, False), (3, 3, False), (3, 2, True)):
            kernel = [[next(numbers) for _ in range(fan_out)] for _ in range(fan_in)]
            bias = [next(numbers) for _ in range(fan_out)]
            gate = [1.0] * fan_out if last else [float(next(numbers) > 0) for _ in range(fan_out)]
            sums = [
                sum(kernel[i][j] * values[i] for i in range(fan_in)) + bias[j]
                for j in range(fan_out)
            ]
            values = [s if last else np.tanh(s) * g for s, g in zip(sums, gate)]
        np.testing.assert_allclose(outputs, np.transpose(values), rtol=1e-4, atol=1e-5)
        assert list(numbers) == []


def test_random_networks_compute_what_their_codes_say(small):
    x = np.random.default_rng(1).uniform(-1, 1, (5, 2)).astype("float32")
    codes, targets = small.random_networks(5, x, np.random.default_rng(0))
    assert codes.shape == (5, small.encoder.input_shape[-1]) and targets.shape == (5, 5, 2)
    for depth, own, expected in ((1, codes[:3], targets[:3]), (2, codes[3:], targets[3:])):
        np.testing.assert_array_equal(own[:, -2:], np.eye(2)[[depth - 1] * len(own)])
        size = small.decoders[depth].output_shape[-1]
        outputs = small.outputs(small.layers(own[:, :size], depth), x)
        np.testing.assert_allclose(ops.convert_to_numpy(outputs), expected, rtol=1e-5, atol=1e-5)
    assert np.ptp(targets, axis=1).min() > 0


def test_the_loss_is_that_of_the_nearest_decoder():
    """In the first epoch, at a learning rate at which nothing moves."""
    own = [NetworkAutoencoder(units=3, depths=(1, 2), hidden_units=8, seed=1) for _ in range(2)]
    loss = own[0].fit(6, epochs=1, batch_size=6, learning_rate=1e-12, points=4).history["loss"]
    other = own[1]
    x = other._random.uniform(-1, 1, (4, 1)).astype("float32")
    codes, targets = other.random_networks(6, x)
    z, errors = other.encoder(codes), []
    for depth, decoder in other.decoders.items():
        outputs = ops.convert_to_numpy(other.outputs(other.layers(decoder(z), depth), x))
        errors.append(((outputs - targets) ** 2).mean(axis=(1, 2)))
    assert loss[0] == pytest.approx(np.min(errors, axis=0).mean(), rel=1e-4)


def test_what_is_learnt_is_kept_by_weights(tmp_path):
    options = {"units": 2, "depths": (1,), "hidden_units": 4, "latent_dim": 2}
    autoencoder = NetworkAutoencoder(**options)
    autoencoder.fit(8, epochs=1, points=4)
    autoencoder.model.save_weights(tmp_path / "a.weights.h5")
    other = NetworkAutoencoder.from_config(autoencoder.get_config())
    other.model.load_weights(tmp_path / "a.weights.h5")
    x, y = np.arange(5.0), np.arange(5.0) ** 2
    found = [search_network(a, x, y, steps=3, restarts=1) for a in (autoencoder, other)]
    assert found[0].history == found[1].history
    assert found[0].squared_error == found[1].squared_error


def test_pruning_keeps_the_function():
    rng = np.random.default_rng(0)
    layers = [
        (rng.normal(size=(2, 4)), rng.normal(size=4)),
        (rng.normal(size=(4, 3)), rng.normal(size=3)),
    ]
    layers.append((rng.normal(size=(3, 1)), rng.normal(size=1)))
    layers[0][0][:, 1] = 0  # A constant unit.
    layers[1][0][2] = 0  # A unit of which nothing is made,
    layers[2][0][1] = 0  # another,
    layers[1][0][3, [0, 2]] = 0  # and one that was of use to that alone.
    tanh = keras.activations.tanh
    pruned, widths = _pruned(layers, tanh)
    assert widths == [1, 2]
    x = rng.normal(size=(5, 2)).astype("float32")
    whole, left = (_keras_model(network, tanh).predict_on_batch(x) for network in (layers, pruned))
    np.testing.assert_allclose(whole, left, rtol=1e-4, atol=1e-5)
    layers[1][0][:] = 0  # Constant from there on.
    pruned, widths = _pruned(layers, tanh)
    assert widths == [0, 0]
    left = _keras_model(pruned, tanh).predict_on_batch(x)
    np.testing.assert_allclose(_keras_model(layers, tanh).predict_on_batch(x), left, atol=1e-5)


def test_the_model_found_is_one_for_the_data_as_given(small, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.uniform(100, 300, (20, 2))
    y = 1e4 + 50 * np.stack([x[:, 0], x[:, 0] - x[:, 1]], axis=1)
    found = search_network(small, x, y, sparsity=0.0, steps=40, restarts=2)
    error = np.mean((found.model.predict_on_batch(x.astype("float32")) - y) ** 2)
    assert found.squared_error == pytest.approx(error, rel=1e-3)
    assert error < y.var(axis=0).mean()  # Better than a constant.
    assert len(found.candidates) == 4 and len(found.history["objective"]) == 40
    assert found.squared_error == min(c["squared_error"] for c in found.candidates)
    widths = [layer.units for layer in found.model.layers]
    assert widths == [*found.active_neurons, 2]
    assert found.plot().get_ylabel() == "squared error"
    plt.close()
    found.model.save(tmp_path / "found.keras")
    loaded = keras.saving.load_model(tmp_path / "found.keras")
    np.testing.assert_array_equal(
        loaded.predict_on_batch(x[:3]), found.model.predict_on_batch(x[:3])
    )


def test_the_objective_is_that_of_the_formula(small):
    rng = np.random.default_rng(2)
    x, y = rng.uniform(-3, 5, (6, 2)), rng.normal(4.0, 2.0, (6, 2))
    found = search_network(small, x, y, sparsity=0.3, steps=1, restarts=2)
    inputs = 2 * (x - x.min(0)) / np.ptp(x, axis=0) - 1
    codes, _ = small.random_networks(4, x[:1], np.random.default_rng(0))
    objectives = []
    for depth, own in zip(small.depths, np.split(codes, 2)):
        decoded = small.layers(small.decoders[depth](small.encoder(own)), depth)
        for i in range(2):
            values, penalty = inputs, 0.0
            for position, (kernels, biases) in enumerate(decoded):
                w, bias = (
                    ops.convert_to_numpy(part)[i].astype("float64") for part in (kernels, biases)
                )
                size = np.abs(w)
                penalty += np.sum(0.5 / (1 + np.exp(-10 * size)) + 0.1 * size)
                values = np.tanh(values) if position else values
                values = values @ (w / (1 + np.exp(-100 * size))) + bias
            error = np.mean((y - y.mean(0) - np.sqrt(y.var(0).mean()) * values) ** 2)
            objectives.append(error / y.var(0).mean() + 0.3 * penalty)
    assert found.history["objective"] == pytest.approx([np.mean(objectives)], rel=1e-4)


def test_constant_targets_and_a_single_sample_give_a_constant(small):
    for x, y in ((np.zeros((3, 2)), np.full((3, 2), 7.0)), (np.ones((1, 2)), np.ones((1, 2)))):
        found = search_network(small, x, y, sparsity=10.0, steps=3, restarts=1)
        assert np.isfinite(found.squared_error) and np.isfinite(found.history["objective"]).all()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"x": np.ones((4, 3))}, r"`x` must have the shape \(samples, 2\)"),
        ({"y": np.ones(4)}, r"`y` must have the shape \(samples, 2\)"),
        ({"y": np.ones((3, 2))}, "the same number of samples"),
        ({"x": np.ones((0, 2)), "y": np.ones((0, 2))}, "at least 1. Received: 0 and 0"),
        ({"y": np.full((4, 2), np.nan)}, "`y` must be finite"),
        ({"sparsity": -1.0}, "`sparsity` must be a number at least 0"),
        ({"steps": 0}, "`steps` must be an integer of at least 1"),
        ({"restarts": 0}, "`restarts` must be an integer of at least 1"),
        ({"learning_rate": 0.0}, "`learning_rate` must be a number above 0"),
    ],
)
def test_bad_arguments_of_the_search(small, options, message):
    with pytest.raises(ValueError, match=message):
        search_network(small, **{"x": np.ones((4, 2)), "y": np.ones((4, 2)), **options})


@pytest.mark.parametrize(
    "options, message",
    [
        ({"depths": ()}, "`depths` must be different numbers"),
        ({"depths": (1, 1)}, "`depths` must be different numbers"),
        ({"depths": (0,)}, "`depths` must be an integer of at least 1"),
        ({"units": 0}, "`units` must be an integer of at least 1"),
        ({"latent_dim": 0.5}, "`latent_dim` must be an integer"),
    ],
)
def test_bad_arguments_of_the_autoencoder(options, message):
    with pytest.raises(ValueError, match=message):
        NetworkAutoencoder(**options)


def test_networks_that_do_not_fit(small):
    for call, message in (
        (lambda: small.random_networks(1, np.ones((4, 2))), "`count` must be .* at least 2"),
        (lambda: small.random_networks(2, np.ones((4, 3))), r"shape \(points, 2\)"),
        (lambda: small.layers(np.ones((1, 5)), 9), "`depth` must be one of"),
        (lambda: small.layers(np.ones((1, 5)), small.depths[0]), r"vectors of shape \(1, 5\)"),
        (lambda: small.fit(4, epochs=0), "`epochs` must be"),
        (lambda: search_network(None, [1.0], [1.0]), "`autoencoder` must be"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_more_decoders_than_random_networks(small):
    with pytest.raises(ValueError, match="`num_networks` must be an integer of at least 2"):
        small.fit(num_networks=1)


@pytest.mark.rotating
def test_fewer_neurons_than_a_network_trained_directly_has_at_the_same_error():
    x = np.linspace(-1, 1, 32)
    y = x**2
    autoencoder = NetworkAutoencoder(units=8, depths=(1,))
    losses = autoencoder.fit(640, epochs=8, points=32).history["loss"]
    assert losses[-1] < 0.7 * losses[0]
    options = {"sparsity": 3e-4, "steps": 200, "restarts": 16, "learning_rate": 0.3}
    found = search_network(autoencoder, x, y, **options)
    neurons = sum(found.active_neurons)
    same = 0.01 * y.var()
    assert neurons <= 5 and found.squared_error < same

    keras.utils.set_random_seed(0)
    hidden, last = keras.layers.Dense(8, "tanh"), keras.layers.Dense(1)
    direct = keras.Sequential([keras.Input((1,)), hidden, last])
    direct.compile(keras.optimizers.Adam(0.03), "mse")

    def error():
        return np.mean((direct.predict_on_batch(x[:, None])[:, 0] - y) ** 2)

    for step in range(600):
        if step % 10 == 0 and error() < same:
            break
        direct.train_on_batch(x[:, None], y[:, None])
    assert error() < same
    # All of its units matter: the strongest, as many as were found, do not do.
    first, bias, second, offset = direct.get_weights()
    strength = np.hypot(first[0], bias) * np.abs(second[:, 0])
    second[np.argsort(strength)[:-neurons]] = 0
    direct.set_weights([first, bias, second, offset])
    assert error() > 3 * same
