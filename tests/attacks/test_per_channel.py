"""A radius and bounds per channel: the attack is that of the inputs before each channel was standardized."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_regularize as kr
from tests.helpers import array

MEAN, DEVIATION = np.array([0.5, 0.4, 0.6], "float32"), np.array([0.25, 0.5, 0.2], "float32")
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
BOUNDS = (((0 - MEAN) / DEVIATION).tolist(), ((1 - MEAN) / DEVIATION).tolist())


def scaled(value):
    return (value / DEVIATION).tolist()


def networks(channels_first=False):
    """A model of images between 0 and 1, and the same model of standardized ones."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(3 * 16, 5)), rng.normal(size=5)
    shape = (3, 4, 4) if channels_first else (4, 4, 3)
    layers = keras.layers.Flatten(data_format="channels_last"), keras.layers.Dense(5)
    inner = keras.Sequential([keras.Input(shape), *layers])
    inner.set_weights(weights)
    axes = (3, 1, 1) if channels_first else (3,)
    back = keras.layers.Rescaling(DEVIATION.reshape(axes), MEAN.reshape(axes))
    outer = keras.Sequential([keras.Input(shape), back, inner])
    for model in (inner, outer):
        model.compile("sgd", LOSS)
    x = rng.uniform(size=(12, *shape)).astype("float32")
    standardized = (x - MEAN.reshape(axes)) / DEVIATION.reshape(axes)
    return inner, outer, x, standardized, np.asarray(ops.argmax(inner(x), axis=-1))


def attacks(kind, norm, epsilon=0.05, **options):
    """The attack before and after standardizing."""
    raw = {"norm": norm, "seed": 0, **options}
    if kind == "FGSM":
        return kr.attacks.FGSM(epsilon), kr.attacks.FGSM(scaled(epsilon), bounds=BOUNDS)
    if kind == "PGD":
        raw |= {"steps": 4, "random_start": False}
        return (
            kr.attacks.PGD(epsilon, epsilon / 3, **raw),
            kr.attacks.PGD(scaled(epsilon), scaled(epsilon / 3), bounds=BOUNDS, **raw),
        )
    raw["steps"] = 6
    return kr.attacks.APGD(epsilon, **raw), kr.attacks.APGD(scaled(epsilon), bounds=BOUNDS, **raw)


@pytest.mark.parametrize("channels_first", [False, True])
@pytest.mark.parametrize(
    ("kind", "norm"),
    [("FGSM", "linf"), ("PGD", "linf"), ("PGD", "l2"), ("APGD", "linf"), ("APGD", "l2")],
)
def test_the_attack_is_that_before_standardizing(kind, norm, channels_first):
    before = keras.config.image_data_format()
    try:
        keras.config.set_image_data_format("channels_first" if channels_first else "channels_last")
        inner, outer, x, standardized, y = networks(channels_first)
        raw, per_channel = attacks(kind, norm, 0.3 if norm == "l2" else 0.05)
        start = {}
        if kind == "APGD":
            start = {"initial_perturbation": np.full_like(x, 0.01)}
        expected = array(raw(inner, x, y, **start))
        if start:
            axes = (3, 1, 1) if channels_first else (3,)
            start["initial_perturbation"] = start["initial_perturbation"] / DEVIATION.reshape(axes)
        found = array(per_channel(outer, standardized, y, **start))
        axes = (3, 1, 1) if channels_first else (3,)
        assert np.abs(expected - x).max() > 0.01
        np.testing.assert_allclose(
            found * DEVIATION.reshape(axes) + MEAN.reshape(axes), expected, atol=1e-5
        )
    finally:
        keras.config.set_image_data_format(before)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("random_start", ["uniform", "gaussian", "apgd"])
def test_random_starts_lie_in_the_ball(norm, random_start):
    _, outer, x, standardized, _ = networks()
    y = np.asarray(ops.argmin(outer(standardized), axis=-1))  # Wrong at once: where APGD ends.
    if random_start == "apgd":
        attack = kr.attacks.APGD(scaled(0.2), 1, norm, bounds=None, seed=0)
    else:
        attack = kr.attacks.PGD(
            scaled(0.2), 0.0, 1, norm, random_start=random_start, bounds=None, seed=0
        )
    move = ((array(attack(outer, standardized, y)) - standardized) * DEVIATION).reshape(12, -1)
    size = np.abs(move).max(axis=1) if norm == "linf" else np.linalg.norm(move, axis=1)
    assert size.max() <= 0.2 + 1e-5 and (size > 0).all()
    if random_start != "gaussian":
        assert size.max() > 0.1
        spread = np.abs(move.reshape(-1, 3)).max(axis=0)
        assert spread.min() > 0.5 * spread.max()


def test_a_channel_of_radius_0_stays_as_it_is():
    inner, _, x, _, y = networks()
    radii = [0.1, 0.0, 0.1]
    for attack in (
        kr.attacks.FGSM(radii),
        kr.attacks.PGD(radii, 0.05, 3, "l2", seed=0),
        kr.attacks.APGD(radii, 3, "l2", seed=0),
    ):
        moves = array(attack(inner, x, ops.argmin(inner(x), axis=-1))) - x
        assert np.isfinite(moves).all()
        np.testing.assert_array_equal(moves[..., 1], 0.0)
        assert np.abs(moves[..., 0]).max() > 0


def test_numpy_arrays_and_configs():
    attack = kr.attacks.PGD(0.1 / DEVIATION, np.array([0.1]), bounds=(-MEAN, [1.0, 2.0, 3.0]))
    config = attack.get_config()
    assert config["epsilon"] == attack.epsilon == (0.1 / DEVIATION).tolist()
    assert config["bounds"] == [(-MEAN).tolist(), [1.0, 2.0, 3.0]]
    saved = keras.saving.serialize_keras_object(attack)
    again = keras.saving.deserialize_keras_object(saved)
    assert again.get_config() == config
    kr.testing.check_attack(
        kr.attacks.FGSM([0.1, 0.2, 0.0], bounds=([0.0, 0.0, 0.0], 1.0)),
        networks()[0],
        networks()[2][:4],
        np.array([0, 1, 2, 3]),
    )


@pytest.mark.parametrize("attacked", ["AdversarialTraining", "TRADES", "GradAlign", "ELLE", "Free"])
def test_models_train_on_it_and_are_saved(attacked, tmp_path):
    _, outer, _, x, y = networks()
    _, attack = attacks("FGSM" if attacked in ("GradAlign", "ELLE") else "PGD", "linf")
    if attacked == "TRADES":
        attack = kr.attacks.PGD(
            scaled(0.05), 0.1, 2, loss="kl", random_start="gaussian", bounds=BOUNDS
        )
    models = kr.models
    if attacked == "Free":
        model = models.FreeAdversarialTraining(outer, scaled(0.05), 2, 6, bounds=BOUNDS)
    elif attacked == "ELLE":
        model = models.ELLE(outer, scaled(0.05), attack=attack)
    else:
        model = getattr(models, attacked)(outer, attack)
    model.compile("sgd", LOSS)
    history = model.fit(x, y, batch_size=6, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    if attacked == "Free":
        moved = np.abs(array(model.perturbations[0])).max(axis=(0, 1, 2))
        np.testing.assert_allclose(moved, scaled(0.05), rtol=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for held in (loaded, getattr(loaded, "attack", loaded)):
        if hasattr(held, "bounds"):
            assert held.epsilon == scaled(0.05)
            assert [list(bound) for bound in held.bounds] == list(BOUNDS)
    with pytest.raises(ValueError, match="farther than `epsilon`"):
        model.fit(x + 10.0, y, batch_size=6, verbose=0)


def test_robust_accuracy_is_that_before_standardizing():
    inner, outer, x, standardized, y = networks()
    for kind in ("FGSM", "PGD"):
        raw, per_channel = attacks(kind, "linf", 0.1)
        expected = kr.analysis.robust_accuracy(inner, x, y, raw)
        assert 0 < expected < 1
        found = kr.analysis.robust_accuracy(outer, standardized, y, per_channel)
        assert found == pytest.approx(expected)
    callback = kr.callbacks.RobustAccuracy(standardized, y, per_channel)
    outer.optimizer.learning_rate = 0.0
    logs = outer.fit(standardized, y, verbose=0, callbacks=[callback]).history
    assert logs["robust_accuracy"][0] == pytest.approx(expected)


def test_what_does_not_fit_is_an_error():
    inner, _, x, _, y = networks()
    for attack in (kr.attacks.FGSM([0.1, 0.2]), kr.attacks.PGD(bounds=([0.0, 0.0], 1.0))):
        with pytest.raises(ValueError, match=r"Expected inputs with 2 channels \(axis 3\)"):
            attack(inner, x, y)
    for bounds in (([0.0, 0.0], [1.0, 1.0, 1.0]), ([0.0, 1.0], 1.0), (1.0, 0.0)):
        with pytest.raises(ValueError, match="`bounds` must be increasing"):
            kr.attacks.FGSM(bounds=bounds)
    with pytest.raises(ValueError, match="`bounds` must be two numbers or None; each"):
        kr.attacks.FGSM(bounds=[0.0, 0.5, 1.0])
    for bad in ([0.1, -0.1], [], "0.1", [None]):
        with pytest.raises(ValueError, match="`epsilon` must"):
            kr.attacks.APGD(bad)
    with pytest.raises(ValueError, match="`step_size` must"):
        kr.attacks.PGD(0.1, [0.1, -1.0])
    with pytest.raises(ValueError, match="`epsilon` must be a number"):
        kr.attacks.VirtualAdversarial([0.1, 0.2])
    with pytest.raises(ValueError, match="farther than `epsilon`"):
        kr.attacks.FGSM(0.1, bounds=([0.0, 0.0, 0.9], 1.0))(inner, x, y)
