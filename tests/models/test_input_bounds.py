"""Inputs that are not of the scale of an attack's bounds are an error, however they are passed."""

import keras
import numpy as np
import pytest
from keras import ops
from small import LOSS, network

import keras_regularize as kr

RNG = np.random.default_rng(0)
GOOD = RNG.random((12, 4), "float32")
Y = RNG.integers(0, 3, 12)
MESSAGE = "Clipping into the attack's `bounds` would move the inputs farther"


class Batches(keras.utils.PyDataset):
    def __init__(self, x):
        super().__init__()
        self.x = x

    def __len__(self):
        return 3

    def __getitem__(self, i):
        return self.x[4 * i : 4 * i + 4], Y[4 * i : 4 * i + 4]


def generator(x):
    for i in range(3):
        yield x[4 * i : 4 * i + 4], Y[4 * i : 4 * i + 4]


def tf_data(x):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices((x, Y)).batch(4)


def data_loader(x):
    torch = pytest.importorskip("torch")
    data = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(Y))
    return torch.utils.data.DataLoader(data, batch_size=4, shuffle=True)


KINDS = {
    "arrays": lambda x: (x, Y),
    "float64": lambda x: (x.astype("float64"), Y),
    "tensors": lambda x: (ops.convert_to_tensor(x), ops.convert_to_tensor(Y)),
    "tf.data": lambda x: (tf_data(x),),
    "PyDataset": lambda x: (Batches(x),),
    "DataLoader": lambda x: (data_loader(x),),
    "generator": lambda x: (generator(x),),
}
FGSM = kr.attacks.FGSM(0.03)
MODELS = {
    "AdversarialTraining": lambda: kr.models.AdversarialTraining(network(), kr.attacks.FGSM(0.03)),
    "FreeAdversarialTraining": lambda: kr.models.FreeAdversarialTraining(network(), 0.03, 2),
    "TRADES in SAM": lambda: kr.models.SAM(kr.models.TRADES(network(), kr.attacks.PGD(0.03))),
    "GradAlign": lambda: kr.models.GradAlign(network(), kr.attacks.FGSM(0.03)),
}


def compiled(model):
    model.compile("sgd", LOSS)
    return model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MODELS)
def test_fit_looks_at_the_values(name, kind):
    model = compiled(MODELS[name]())
    weights = model.get_weights()
    with pytest.raises(ValueError, match=MESSAGE):
        model.fit(*KINDS[kind](4.0 * GOOD - 2.0), verbose=0)
    for a, b in zip(model.get_weights(), weights):
        np.testing.assert_array_equal(a, b)
    if kind in ("arrays", "tensors"):
        with pytest.raises(ValueError, match=MESSAGE):
            model.train_on_batch(*KINDS[kind](255 * GOOD))


@pytest.mark.parametrize("kind", KINDS)
def test_a_look_takes_nothing_away(kind):
    model = kr.models.AdversarialTraining(network(), kr.attacks.FGSM(0.03))
    counted = keras.metrics.SparseCategoricalAccuracy()
    model.compile("sgd", LOSS, metrics=[counted], run_eagerly=True)
    data = KINDS[kind](GOOD)
    options = {"batch_size": 4} if len(data) == 2 else {"shuffle": False}
    model.fit(*data, **options, steps_per_epoch=3 if kind == "generator" else None, verbose=0)
    assert int(counted.count.numpy()) == 12
    assert int(model.optimizer.iterations.numpy()) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_what_evaluate_attacks_is_looked_at(kind):
    net = network()
    model = compiled(kr.models.VAT(net, evaluate_attack=kr.attacks.FGSM(0.03)))
    with pytest.raises(ValueError, match=MESSAGE):
        model.evaluate(*KINDS[kind](GOOD - 1.0), verbose=0)
    data = KINDS[kind](GOOD - 1.0)
    with pytest.raises(ValueError, match=MESSAGE):
        model.fit(GOOD, Y, validation_data=data if len(data) == 2 else data[0], verbose=0)
    assert (
        int(model.optimizer.iterations.numpy()) == 0
    )  # Found before the first epoch, not after it.
    steps = 3 if kind == "generator" else None
    result = model.evaluate(*KINDS[kind](GOOD), steps=steps, verbose=0, return_dict=True)
    assert 0 <= result["robust_accuracy"] <= 1


@pytest.mark.parametrize("attack", [kr.attacks.FGSM, kr.attacks.PGD, kr.attacks.APGD])
@pytest.mark.parametrize("convert", [np.asarray, ops.convert_to_tensor])
def test_attacks_called_directly_and_what_measures_them(attack, convert):
    net = compiled(network())
    attack, bad = attack(0.03), convert(GOOD + 1.0)
    with pytest.raises(ValueError, match=MESSAGE):
        attack(net, bad, Y)
    with pytest.raises(ValueError, match=MESSAGE):
        kr.analysis.robust_accuracy(net, bad, Y, attack)
    with pytest.raises(ValueError, match=MESSAGE):
        kr.callbacks.RobustAccuracy(bad, Y, attack)
    assert kr.analysis.robust_accuracy(net, convert(GOOD), Y, attack) >= 0


def test_what_lies_within_reach_of_the_bounds_may_be_clipped():
    """The answer is then still a point of the ball."""
    net, x = compiled(network()), GOOD.copy()
    x[0, :2] = 1.02
    found = ops.convert_to_numpy(kr.attacks.PGD(0.03, bounds=(0, 1))(net, x, Y))
    assert np.abs(found - x).max() <= 0.03 + 1e-6 and found.max() <= 1
    x[0, 0] = 1.04
    with pytest.raises(ValueError, match=MESSAGE):
        kr.attacks.PGD(0.03, bounds=(0, 1))(net, x, Y)


def test_uint8_images_are_told_what_to_do():
    images = (255 * GOOD).astype("uint8")
    for call in (
        lambda: compiled(MODELS["AdversarialTraining"]()).fit(images, Y),
        lambda: compiled(MODELS["FreeAdversarialTraining"]()).fit(images, Y),
        lambda: compiled(MODELS["AdversarialTraining"]()).fit(tf_data(images)),
        lambda: FGSM(network(), images, Y),
        lambda: kr.models.InputGradientPenalty(network(), 0.1).check_data(images, Y),
        lambda: kr.analysis.robust_accuracy(compiled(network()), images, Y, FGSM),
    ):
        with pytest.raises(ValueError, match=r'`x.astype\("float32"\)`.*`layer=`.*dtype uint8'):
            call()
