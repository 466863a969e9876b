"""State that a gradient rule keeps: created with the weights, saved, resumed, right where weights are frozen."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_regularize as kr
from tests.models.small import LOSS, X, Y, mlp, single_steps

METHODS = {
    "look": lambda m: kr.models.LookSAM(m, rho=0.3, period=3),
    "momentum": lambda m: kr.models.MomentumSAM(m, rho=0.3),
    "friendly": lambda m: kr.models.FriendlySAM(m, rho=0.3),
    "ignite": lambda m: kr.models.IGNITE(m, rho=0.5, factor=0.5, factor_learning_rate=0.1),
}
SLOTTED = {name: METHODS[name] for name in ("look", "momentum", "friendly")}

methods = pytest.mark.parametrize("wrap", METHODS.values(), ids=METHODS)
slotted = pytest.mark.parametrize("wrap", SLOTTED.values(), ids=SLOTTED)


def compiled(model, optimizer=None):
    model.compile(optimizer or keras.optimizers.Adam(0.01), LOSS)
    return model


def states(model):
    return {v.path: v.numpy() for v in model.non_trainable_variables}


@methods
def test_training_resumed_from_a_file_equals_uninterrupted(wrap, tmp_path):
    model = compiled(wrap(mlp(0.3, normalize=True)))
    single_steps(
        model, 2
    )  # The next step of LookSAM reuses what it remembers, the one after looks.
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    single_steps(model, 3)
    single_steps(loaded, 3)
    for a, b in zip(loaded.weights, model.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=b.path)


@slotted
def test_weights_carry_the_state_into_a_fresh_wrapper_whatever_is_frozen_there(wrap, tmp_path):
    model = compiled(wrap(mlp()))
    single_steps(model, 1)
    model.save_weights(tmp_path / "m.weights.h5")
    kept = [v.numpy() for v in model.slots.weights]
    assert [v.shape for v in kept] == [v.shape for v in model.get_weights()[:4]]
    assert all(np.abs(v).max() > 0 for v in kept)

    fresh = wrap(mlp())
    fresh.load_weights(tmp_path / "m.weights.h5")
    for a, b in zip(fresh.slots.weights, kept, strict=True):
        np.testing.assert_array_equal(a.numpy(), b)

    net = mlp()
    net.layers[0].trainable = False
    partly = wrap(net)
    partly.load_weights(tmp_path / "m.weights.h5")
    for a, b in zip(partly.slots.weights, kept[2:], strict=True):
        np.testing.assert_array_equal(a.numpy(), b)

    partly.save_weights(tmp_path / "partly.weights.h5")
    fresh.load_weights(tmp_path / "partly.weights.h5")
    for a, b in zip(fresh.slots.weights, [0 * kept[0], 0 * kept[1], *kept[2:]], strict=True):
        np.testing.assert_array_equal(a.numpy(), b)


@slotted
def test_frozen_layers(wrap):
    net = mlp()
    model = wrap(net)
    net.layers[0].trainable = False  # Between wrapping and compiling.
    before = net.get_weights()
    single_steps(compiled(model), 3)
    assert len(model.slots.weights) == 2
    np.testing.assert_array_equal(before[0], net.get_weights()[0])


@slotted
def test_two_phases_of_fine_tuning_equal_two_wrappers(wrap, tmp_path):
    """Frozen, trained, unfrozen, compiled: the new weights start without a past, the old ones keep theirs."""
    nets = [mlp(normalize=True) for _ in range(2)]
    models = [wrap(net) for net in nets]
    for net, model in zip(nets, models):
        net.layers[0].trainable = False
        single_steps(compiled(model, keras.optimizers.SGD(0.1)), 2)
        net.layers[0].trainable = True
        net.layers[1].trainable = False  # Batch normalization stays as it was.
    past = {v.path: v.numpy() for v in models[0].slots.weights}
    other = wrap(nets[1])
    compiled(models[0], keras.optimizers.SGD(0.1))
    compiled(other, keras.optimizers.SGD(0.1))
    assert len(models[0].slots.weights) == 6 and len(other.slots.weights) == 4
    for variable in models[0].slots.weights:
        np.testing.assert_array_equal(variable.numpy(), past.get(variable.path, 0.0))
        variable.assign(keras.ops.zeros(variable.shape))  # As in the other one.
    for model in (models[0], other):
        single_steps(model, 3)
    for a, b in zip(nets[0].get_weights(), nets[1].get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    models[0].save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    for model in (models[0], loaded):
        single_steps(model, 2)
    for a, b in zip(loaded.model.get_weights(), nets[0].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@slotted
def test_weights_unfrozen_between_compile_and_fit(wrap):
    net = mlp()
    net.layers[0].trainable = False
    model = compiled(wrap(net))
    net.layers[0].trainable = True
    before = net.get_weights()[0]
    model.fit(X[:16], Y[:16], verbose=0)
    assert len(model.slots.weights) == 4
    assert np.abs(net.get_weights()[0] - before).max() > 0


class Plain(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(3)

    def call(self, x):
        return self.dense(x)


@slotted
@pytest.mark.parametrize("build", [Plain, lambda: keras.Sequential([layers.Dense(3)])])
def test_unbuilt_models_get_their_state_in_fit(wrap, build):
    models = [compiled(wrap(build())), compiled(kr.models.VAT(wrap(build()), epsilon=0.5, seed=1))]
    for model in models:
        history = model.fit(X, Y, batch_size=16, epochs=2, verbose=0).history
        assert np.isfinite(history["loss"]).all()
        slots = getattr(model, "slots", None) or model.model.slots
        assert len(slots.weights) == 2
        assert all(np.abs(v.numpy()).max() > 0 for v in slots.weights)


@methods
def test_levels_commute_to_the_last_bit(wrap):
    def weights(both):
        net = mlp(0.3, normalize=True)
        single_steps(compiled(both(net)), 4)
        return net.get_weights()

    def vat(m):
        return kr.models.VAT(m, epsilon=0.5, seed=4)

    for a, b in zip(weights(lambda m: wrap(vat(m))), weights(lambda m: vat(wrap(m))), strict=True):
        np.testing.assert_array_equal(a, b)


def scaling():
    """Scales the loss so much from the third step on that its gradients overflow."""
    inner = keras.optimizers.SGD(0.1)
    return keras.optimizers.LossScaleOptimizer(inner, initial_scale=2.0, dynamic_growth_steps=10**6)


INDEX = {"label": Y[:16], "index": np.arange(16)}
STATEFUL = {
    **{name: (wrap, Y[:16]) for name, wrap in METHODS.items()},
    "group dro": (lambda m: kr.models.GroupDRO(m, 2, 0.5), {"label": Y[:16], "group": Y[:16] % 2}),
    "prospect": (lambda m: kr.models.Prospect(m, 16), INDEX),
    "elr": (lambda m: kr.models.ELR(m, 16, 3), INDEX),
    "elr+": (lambda m: kr.models.ELRPlus(m, mlp(), 16, 3, ema_warmup_steps=1, seed=1), INDEX),
    "elle": (lambda m: kr.models.ELLE(m, 0.1, 9.0, adaptive=True, seed=4), Y[:16]),
    "free": (lambda m: kr.models.FreeAdversarialTraining(m, 0.1, 1, batch_size=16), Y[:16]),
}


@pytest.mark.parametrize("wrap, y", STATEFUL.values(), ids=STATEFUL)
def test_an_overflow_of_the_scaled_loss_leaves_no_trace(wrap, y):
    """Neither at first nor later, when there is something to lose; and training goes on."""
    keras.config.set_dtype_policy("mixed_float16")
    model = compiled(wrap(mlp()), scaling())
    single_steps(model, 2, y=y)
    kept = model.get_weights(), states(model)
    optimizer = model.optimizer
    optimizer.dynamic_scale.assign(2.0**60)
    single_steps(model, 1, y=y)
    for a, b in zip(kept[0], model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    for path, value in states(model).items():
        if "seed" not in path:
            np.testing.assert_array_equal(value, kept[1][path], err_msg=path)
    optimizer.dynamic_scale.assign(2.0)
    single_steps(model, 2, y=y)
    after = states(model)
    assert all(np.isfinite(value).all() for value in (*model.get_weights(), *after.values()))
    moved = [path for path in after if not np.array_equal(after[path], kept[1][path])]
    assert [path for path in moved if "seed" not in path]


def test_what_an_outer_wrapper_trains_has_no_slot():
    class Scale(kr.models.RegularizedModel):
        def __init__(self, model, **kwargs):
            super().__init__(model, **kwargs)
            self.scale = self.add_weight(shape=(), initializer="ones", name="scale")

        def objective(self, batch, forward):
            loss, values = super().objective(batch, forward)
            return loss * forward.weight(self.scale), values

    model = compiled(Scale(SLOTTED["look"](mlp())))
    single_steps(model, 4)
    assert len(model.model.slots.weights) == 4
    assert model.scale.numpy() != 1.0


@slotted
def test_the_wrapper_exports_and_summarizes(wrap, tmp_path):
    model = wrap(mlp())
    lines = []
    model.summary(print_fn=lines.append)
    assert "unbuilt" not in "\n".join(lines)
    if keras.backend.backend() == "tensorflow":
        model.export(tmp_path / "m", verbose=False)
