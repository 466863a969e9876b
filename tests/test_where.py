"""`where=`: one spelling of which variables a method acts on."""

import json

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_regularize as kr
from keras_regularize.testing._common import to_numpy
from keras_regularize.utils.variables import chooser, is_matrix

SGD = keras.optimizers.SGD
X = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
Y = np.arange(8) % 2
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def network():
    keras.utils.set_random_seed(0)
    first = layers.Dense(4, "tanh", name="body", bias_initializer="ones")
    last = layers.Dense(2, name="head", bias_initializer="ones")
    return keras.Sequential([keras.Input((3,)), first, last])


def names(where, *default):
    return [
        "/".join(v.path.split("/")[-2:]) for v in network().weights if chooser(where, *default)(v)
    ]


def chosen_here(variable):
    return "body" in variable.path


@pytest.mark.parametrize(
    "where, expected",
    [
        ("kernel", ["body/kernel", "head/kernel"]),
        ("body", []),
        (["body"], ["body/kernel", "body/bias"]),
        (("head", "kernel"), ["body/kernel", "head/kernel", "head/bias"]),
        ([], []),
        (kr.utils.AllBut(["body"]), ["head/kernel", "head/bias"]),
        (kr.utils.AllBut(["bod"]), ["body/kernel", "body/bias", "head/kernel", "head/bias"]),
        (lambda v: v.shape[0] == 3, ["body/kernel"]),
    ],
)
def test_accepted_forms(where, expected):
    assert names(where) == expected == names(where, is_matrix)
    touched = kr.regularizers.attach(network(), "l2", where) if expected else []
    assert ["/".join(v.path.split("/")[-2:]) for v in touched] == expected


def test_none_is_the_rule_of_the_method():
    assert names(None, is_matrix) == ["body/kernel", "head/kernel"]
    with pytest.raises(ValueError, match="a function of the variable. Received: where=None"):
        chooser(None)
    for wrong in (1, [1], b"kernel"):
        with pytest.raises(ValueError, match="`where` must be the name of a variable, a list of"):
            chooser(wrong, is_matrix)


def test_all_but():
    where = kr.utils.AllBut(("bias", "gamma"))
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(where)))
    assert keras.saving.deserialize_keras_object(config).names == ["bias", "gamma"]
    assert repr(where) == "AllBut(['bias', 'gamma'])"
    for wrong in ("bias", [1], None):
        with pytest.raises(ValueError, match="`names` must be a list of names. Received: names="):
            kr.utils.AllBut(wrong)


# Each method: what `where` does not choose trains as without the method, what it does as with it.

OPTIMIZERS = {
    "AdaptiveGradientClipping": lambda where: kr.optimizers.AdaptiveGradientClipping(
        SGD(0.1), 1e-3, where=where
    ),
    "DecoupledWeightDecay": lambda where: kr.optimizers.DecoupledWeightDecay(
        SGD(0.1), 0.1, where=where
    ),
    "IrrelevantWeightDecay": lambda where: kr.optimizers.IrrelevantWeightDecay(
        SGD(0.1), 0.1, where=where
    ),
    "LAWN": lambda where: kr.optimizers.LAWN(SGD(0.1), 0, where=where),
    "LOBSTER": lambda where: kr.optimizers.LOBSTER(SGD(0.1), 0.1, where=where),
    "Proximal": lambda where: kr.optimizers.Proximal(SGD(0.1), 0.5, where=where),
}
MODELS = {
    "AWP": lambda net, where: kr.models.AWP(net, 0.5, where=where),
    "WeightPenalty": lambda net, where: kr.models.WeightPenalty(
        net, keras.regularizers.L2(0.1), where=where
    ),
}


def moved(optimizer="sgd", wrap=None):
    """The weights after one step."""
    net = network()
    model = net if wrap is None else wrap(net)
    model.compile(optimizer, LOSS)
    model.train_on_batch(X, Y)
    return net.get_weights()


def moved_by(method, where):
    if method in OPTIMIZERS:
        return moved(OPTIMIZERS[method](where))
    return moved(SGD(0.1), lambda net: MODELS[method](net, where))


@pytest.mark.parametrize("where", ["bias", ["body"], kr.utils.AllBut(["body"])])
@pytest.mark.parametrize("method", OPTIMIZERS)
def test_an_optimizer_acts_on_what_is_chosen_and_nothing_else(method, where):
    plain, all_of_them = moved(SGD(0.1)), moved_by(method, lambda v: True)
    for variable, w, free, bound in zip(
        network().weights, moved_by(method, where), plain, all_of_them
    ):
        expected, other = (bound, free) if chooser(where)(variable) else (free, bound)
        np.testing.assert_array_equal(w, expected)
        assert np.abs(w - other).max() > 1e-6


DEFAULTS = {
    "AWP": "kernel",
    "AdaptiveGradientClipping": ["kernel", "bias"],
    "DecoupledWeightDecay": ["kernel", "bias"],
    "IrrelevantWeightDecay": ["kernel", "bias"],
    "LAWN": "kernel",
    "LOBSTER": ["kernel", "bias"],
    "Proximal": "kernel",
    "WeightPenalty": ["kernel", "bias"],
}


@pytest.mark.parametrize("method", DEFAULTS)
def test_the_rule_of_a_method_is_what_it_acts_on_by_default(method):
    for w, expected in zip(moved_by(method, None), moved_by(method, DEFAULTS[method])):
        np.testing.assert_array_equal(w, expected)


class Straight:
    """The objective `½ Σ ‖w‖²`, whose gradient is the weights themselves: what is queried comes back."""

    def value_and_grad(self, weights):
        return 0.0, None, weights


@pytest.mark.parametrize("where", [None, "bias", ["body"], kr.utils.AllBut(["body"])])
@pytest.mark.parametrize("method", [kr.models.ASAM, kr.models.AWP])
def test_a_perturbation_moves_what_is_chosen(method, where):
    model = method(network(), 0.5, where=where)
    variables = model.model.trainable_variables
    batch = kr.autodiff.Batch(None, variables=variables, step=ops.convert_to_tensor(0))
    weights = [ops.convert_to_tensor(v) for v in variables]
    perturbed = model.gradients(Straight(), weights, batch)[2]
    default = is_matrix if method is kr.models.AWP else lambda v: True
    for variable, before, after in zip(variables, weights, perturbed):
        same = np.array_equal(to_numpy(before), to_numpy(after))
        assert same != chooser(where, default)(variable), variable.path


def test_the_length_of_the_perturbation_of_asam_is_that_of_what_is_chosen():
    model = kr.models.ASAM(network(), 0.5, eta=0.0, where=["head"])
    variables = model.model.trainable_variables
    batch = kr.autodiff.Batch(None, variables=variables, step=ops.convert_to_tensor(0))
    *_, kernel, bias = (to_numpy(v).astype("float64") for v in variables)
    perturbed = model.gradients(Straight(), [ops.convert_to_tensor(v) for v in variables], batch)[2]
    norm = np.sqrt((kernel**4).sum() + (bias**2).sum())
    expected = kernel + 0.5 * np.abs(kernel) ** 2 * kernel / norm, bias + 0.5 * bias / norm
    for after, value in zip(perturbed[2:], expected):
        np.testing.assert_allclose(to_numpy(after), value, rtol=1e-5)


def test_art_presses_and_prunes_what_is_chosen():
    net = network()
    art = kr.models.ART(net, 0.5, factor=1e-3, growth=2.0, warmup_epochs=1, where=["head"])
    art.compile(SGD(0.1), LOSS, metrics=["accuracy"])
    art.fit(X, Y, epochs=5, verbose=0)
    masks = art.masks()
    assert [mask is None for mask in masks] == [True, True, False, False]
    assert sum(mask.size - mask.sum() for mask in masks[2:]) >= 5
    plain = kr.models.ART(network(), 0.5, factor=0.0, warmup_epochs=100)
    with pytest.raises(ValueError, match="what `where` chooses. Received: where='gamma'"):
        kr.models.ART(network(), where="gamma")._kernels(net.trainable_variables)
    free, pressed = network(), network()
    for model, where in ((free, ["head"]), (pressed, None)):
        art = kr.models.ART(model, 0.5, factor=10.0, warmup_epochs=0, where=where)
        art.compile(SGD(0.1), LOSS)
        art.train_on_batch(X, Y)
    plain.compile(SGD(0.1), LOSS)
    plain.train_on_batch(X, Y)
    w, other, expected = (m.get_weights() for m in (free, pressed, plain.model))
    np.testing.assert_array_equal(w[0], expected[0])
    assert np.abs(other[0] - expected[0]).max() > 1e-3 < np.abs(w[3] - expected[3]).max()


@pytest.mark.parametrize("where, pruned", [(["head"], 1), (kr.utils.AllBut(["head"]), 0)])
def test_pruning_takes_what_is_chosen(where, pruned):
    net = network()
    net.compile(kr.optimizers.Masked(SGD(0.0)), LOSS)
    pruning = kr.callbacks.IterativePruning(1e9, "loss", fraction=0.9, where=where)
    net.fit(X, Y, epochs=1, verbose=0, callbacks=[pruning])
    zeros = [[(w == 0).any() for w in layer.get_weights()] for layer in net.layers]
    assert any(zeros[pruned]) and not any(zeros[1 - pruned])
    with pytest.raises(ValueError, match="`where` chooses no trainable variable"):
        pruning = kr.callbacks.IterativePruning(1e9, "loss", where="gamma")
        net.fit(X, Y, verbose=0, callbacks=[pruning])


# Saving


@pytest.mark.parametrize("where", [None, "kernel", ["head"], kr.utils.AllBut(["bias"])])
def test_what_is_chosen_survives_saving(tmp_path, where):
    model = kr.models.AWP(network(), 0.1, where=where)
    model.compile(kr.optimizers.LOBSTER(SGD(0.1), 0.1, where=where), LOSS)
    model.train_on_batch(X, Y)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    for restored in (loaded.where, loaded.optimizer.where):
        if isinstance(where, kr.utils.AllBut):
            assert isinstance(restored, kr.utils.AllBut) and restored.names == where.names
        else:
            assert restored == where
    assert to_numpy(loaded.train_on_batch(X, Y)) == to_numpy(model.train_on_batch(X, Y))


def test_a_lambda_is_not_loaded_again(tmp_path):
    model = kr.models.AWP(network(), 0.1, where=lambda v: True)
    model.compile("sgd", LOSS)
    with pytest.warns(UserWarning, match="includes a `lambda`"):
        model.save(tmp_path / "m.keras")
    with pytest.raises(ValueError, match="lambda"):
        keras.models.load_model(tmp_path / "m.keras")
