"""Trains with weights that are split over four devices, and whole; run by `test_model_parallel.py`, on JAX."""

import tempfile

import keras
import model_table
import numpy as np
from keras import layers

import keras_regularize as kr
from keras_regularize.analysis import _fisher_diagonal, gradient_norm

RNG = np.random.RandomState(0)
X = RNG.rand(32, 4).astype("float32")
Y = RNG.randint(0, 3, 32)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def network(wrap_first=lambda layer: layer):
    """No two weights have one shape: the shape of a variable tells whose copy it is."""
    keras.utils.set_random_seed(5)
    first = wrap_first(layers.Dense(16, "tanh", name="first"))
    second = layers.Dense(8, "tanh", name="second")
    return keras.Sequential([keras.Input((4,)), first, second, layers.Dense(3, name="logits")])


def model_parallel():
    mesh = keras.distribution.DeviceMesh(
        (2, 2), ["batch", "model"], keras.distribution.list_devices()
    )
    layouts = keras.distribution.LayoutMap(mesh)
    layouts[".*first/kernel"] = (None, "model")
    layouts[".*first/bias"] = ("model",)
    layouts[".*second/kernel"] = ("model", None)
    layouts[".*logits/kernel"] = ("batch", None)
    return keras.distribution.ModelParallel(layout_map=layouts, batch_dim_name="batch")


def anchored():
    net = network()
    model = kr.models.WeightPenalty(net, keras.regularizers.L2(0.1), anchors="weighted")
    weights = net.get_weights()
    model.set_anchors([w + 1.0 for w in weights], [np.abs(w) for w in weights])
    return model


# What keeps variables as large as the weights: how many of the first kernel's shape it has and trains, besides the
# kernel itself and the optimizer's momentum of each that is trained.
COPIES = {
    "look sam": (1, lambda: kr.models.LookSAM(network(), rho=0.5, period=2)),
    "momentum sam": (1, lambda: kr.models.MomentumSAM(network(), rho=0.5)),
    "friendly sam": (1, lambda: kr.models.FriendlySAM(network(), rho=0.5)),
    "anchors": (2, anchored),
    "averages": (2, lambda: kr.models.ELRPlus(network(), network(), 32, 3, seed=0)),
    "bits": (3, lambda: network(lambda layer: kr.layers.BitWeights(layer, bits=3))),
    "masks": (1, network),
}


def compiled(name, model):
    sgd = keras.optimizers.SGD(0.2, momentum=0.9)
    model.compile(kr.optimizers.Masked(sgd) if name == "masks" else sgd, LOSS)
    model.optimizer.build(model.trainable_variables)
    if name == "masks":
        model.optimizer.set_masks([w > 0.05 for w in model.get_weights()])
    return model


def trained(name, model):
    y = {"label": Y, "index": np.arange(len(Y))} if name == "averages" else Y
    model.fit(X, y, batch_size=16, epochs=2, shuffle=False, verbose=0)
    return model


def values(model):
    return [np.asarray(v) for v in (*model.variables, *model.optimizer.variables)]


def check_layouts(name, variables, copies):
    """Every variable with the shape of a weight lies as that weight does."""
    weights = {v.shape: v for v in variables if v.name in ("kernel", "bias")}
    alike = [v for v in variables if v.shape in weights]
    for variable in alike:
        expected, found = weights[variable.shape].value.sharding, variable.value.sharding
        assert found.is_equivalent_to(expected, len(variable.shape)), (name, variable.path, found)
    kernels = [v for v in alike if v.shape == (4, 16)]
    assert len(kernels) == copies, (name, [v.path for v in kernels])
    # A quarter or a half of it on each device, not all of it.
    assert {v.value.addressable_shards[0].data.shape for v in kernels} == {(4, 8)}


def check_copies(name, expected):
    copies, make = COPIES[name]
    trained_kernels = {"averages": 2, "bits": 3}.get(name, 1)
    kernels = {"averages": 2}.get(name, 1)
    model = compiled(name, make())

    def check(model):
        variables = [*model.variables, *model.optimizer.variables]
        check_layouts(name, variables, copies + kernels + trained_kernels)

    check(model)
    trained(name, model)
    check(model)
    for found, value in zip(values(model), expected, strict=True):
        np.testing.assert_allclose(found, value, atol=2e-5, err_msg=name)
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/model.keras")
        loaded = keras.models.load_model(f"{folder}/model.keras")
    check(loaded)
    for found, value in zip(values(loaded), values(model), strict=True):
        np.testing.assert_array_equal(found, value, err_msg=name)


def check_every_wrapper():
    """No other model keeps a copy that nobody thought of."""
    for name, method in model_table.METHODS.items():
        if name in model_table.VARIANTS:
            continue
        model = method.wrap(network())
        model.compile("sgd", LOSS)
        own = 1 if name in ("LookSAM", "MomentumSAM", "FriendlySAM") else 0
        check_layouts(name, model.variables, 1 + own)


def measure():
    """What analyses add up or draw for every weight, beside their results."""
    net = network()
    net.compile("sgd", LOSS)
    fisher = kr.analysis.fisher_diagonal(net, X[:3], Y[:3])
    norm = kr.analysis.input_gradient_norm(net, X, Y, weight_noise=0.1, samples=2, seed=0)
    totals, noise = _fisher_diagonal._Measured(net, LOSS), gradient_norm._Measured(net, LOSS)
    return [*fisher, *norm], [*totals.variables, *noise.variables]


def main():
    assert len(keras.distribution.list_devices()) == 4
    expected = {name: values(trained(name, compiled(name, COPIES[name][1]()))) for name in COPIES}
    measured = measure()[0]
    with model_parallel().scope():
        for name in COPIES:
            check_copies(name, expected[name])
        check_every_wrapper()
        found, variables = measure()
        check_layouts("analyses", variables, 4)
    for a, b in zip(found, measured, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    print("equal to one device")


if __name__ == "__main__":
    main()
