"""The step's mechanisms: hooks, nesting, columns, unlabelled rows, building, saving, errors."""

import json

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_regularize as kr
from tests.models.small import LOSS, X, Y, mlp

pytestmark = pytest.mark.everywhere

BACKEND = keras.backend.backend()
RNG = np.random.RandomState(0)


def fit(model, y=Y, epochs=2, **arguments):
    return model.fit(
        X, y, batch_size=16, epochs=epochs, shuffle=False, verbose=0, **arguments
    ).history


def compiled(model, optimizer="sgd", **arguments):
    model.compile(optimizer, LOSS, **arguments)
    return model


def weights_after(wrap, **arguments):
    model = mlp(**arguments)
    fit(compiled(wrap(model), keras.optimizers.Adam(0.01)))
    return [v.numpy() for v in model.variables]


def assert_same(a, b):
    for left, right in zip(a, b, strict=True):
        np.testing.assert_array_equal(left, right)


def vat(model):
    return kr.models.VAT(model, epsilon=0.5, seed=4)


def adversarial(model):
    return kr.models.AdversarialTraining(model, kr.attacks.PGD(0.1, 0.05, 2, seed=5))


def sam(model):
    return kr.models.SAM(model, rho=0.1)


@pytest.mark.parametrize("inner", [vat, adversarial], ids=["vat", "adversarial"])
def test_levels_commute_to_the_last_bit(inner):
    arguments = {"dropout": 0.3, "normalize": True}
    assert_same(
        weights_after(lambda m: sam(inner(m)), **arguments),
        weights_after(lambda m: inner(sam(m)), **arguments),
    )


def test_nesting_is_not_the_single_methods():
    both = weights_after(lambda m: sam(vat(m)))
    for single in (sam, vat):
        alone = weights_after(single)
        assert max(np.abs(a - b).max() for a, b in zip(both, alone)) > 1e-5


def test_batch_statistics_move_once_and_from_clean_inputs():
    plain, wrapped = mlp(normalize=True), mlp(normalize=True)
    step = {"batch_size": 48, "verbose": 0, "shuffle": False}
    compiled(plain, keras.optimizers.SGD(0.0)).fit(X, Y, **step)
    compiled(sam(vat(wrapped)), keras.optimizers.SGD(0.0)).fit(X, Y, **step)
    assert_same(plain.get_weights(), wrapped.get_weights())


def test_logged_loss_is_that_of_unperturbed_weights():
    step = {"batch_size": 48, "verbose": 0, "shuffle": False}
    plain = compiled(mlp(0.3), metrics=["accuracy"]).fit(X, Y, **step).history
    strong = kr.models.SAM(mlp(0.3), rho=5.0)
    assert compiled(strong, metrics=["accuracy"]).fit(X, Y, **step).history == plain


class Recorder(kr.models.RegularizedModel):
    """Keeps a running mean of the loss and counts how often Python runs through the objective."""

    def __init__(self, model, **kwargs):
        super().__init__(model, **kwargs)
        self.mean = self.add_weight(shape=(), initializer="zeros", trainable=False, name="mean")
        self.traces = 0

    def objective(self, batch, forward):
        self.traces += 1
        loss, values = super().objective(batch, forward)
        return loss, {**values, "seen": loss}

    def after_update(self, batch, aux, gradients):
        super().after_update(batch, aux, gradients)
        assert [tuple(g.shape) for g in gradients] == [tuple(v.shape) for v in batch.variables]
        self.mean.assign(0.5 * self.mean + 0.5 * aux.values["seen"])


def test_own_state_is_threaded_and_saved(tmp_path):
    model = compiled(sam(Recorder(mlp())), keras.optimizers.SGD(0.0))
    expected, loss = 0.0, model.evaluate(X[:16], Y[:16], verbose=0)
    for _ in range(3):
        model.train_on_batch(X[:16], Y[:16])
        expected = 0.5 * expected + 0.5 * loss
    np.testing.assert_allclose(model.model.mean.numpy(), expected, rtol=1e-5)
    model.save_weights(tmp_path / "m.weights.h5")
    fresh = sam(Recorder(mlp()))
    fresh.load_weights(tmp_path / "m.weights.h5")
    np.testing.assert_array_equal(fresh.model.mean.numpy(), model.model.mean.numpy())


def test_no_retracing_over_epochs():
    recorder = Recorder(mlp())
    model = compiled(sam(recorder))
    fit(model, epochs=1)
    before = recorder.traces
    fit(model, epochs=3)
    eager = 2 * 3 * 3  # Two queries in three batches in three epochs.
    assert recorder.traces - before == (eager if BACKEND == "torch" else 0)


def test_schedules_follow_the_optimizer_step():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([2], [0.0, 0.5])
    scheduled, switched = mlp(), mlp()
    model = compiled(kr.models.SAM(scheduled, rho=schedule))
    for _ in range(5):
        model.train_on_batch(X, Y)
    plain = compiled(kr.models.SAM(switched, rho=0.0))
    for _ in range(3):
        plain.train_on_batch(X, Y)
    strong = compiled(kr.models.SAM(switched, rho=0.5))
    for _ in range(2):
        strong.train_on_batch(X, Y)
    for a, b in zip(scheduled.get_weights(), switched.get_weights()):
        np.testing.assert_allclose(a, b, atol=1e-6)


class GroupCount(keras.metrics.Metric):
    def __init__(self, name="group_count", **kwargs):
        super().__init__(name=name, **kwargs)
        self.total = self.add_weight(shape=(), name="total", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None, group=None):
        if group is not None:
            self.total.assign_add(ops.sum(ops.cast(group, "float32")))

    def result(self):
        return ops.convert_to_tensor(self.total)


def test_columns_reach_hooks_and_metrics():
    class Weighted(kr.models.RegularizedModel):
        def objective(self, batch, forward):
            loss, values = super().objective(batch, forward)
            return loss + 0.0 * ops.sum(ops.cast(batch.columns["index"], "float32")), values

    y = kr.utils.with_index(Y, group=np.arange(48) % 2)
    model = compiled(Weighted(mlp()), metrics=["accuracy", GroupCount()])
    history = fit(model, y)
    assert history["group_count"] == [24.0, 24.0]
    plain = fit(compiled(mlp(), metrics=["accuracy"]))
    np.testing.assert_allclose(history["loss"], plain["loss"], rtol=1e-6)
    assert history["accuracy"] == plain["accuracy"]
    assert model.evaluate(X, Y, verbose=0, return_dict=True)["group_count"] == 0.0
    assert model.evaluate(X, y, verbose=0, return_dict=True)["group_count"] == 24.0


def test_sample_weights_beside_columns():
    weights = RNG.rand(48).astype("float32")
    y = kr.utils.with_index(Y)
    plain = fit(compiled(mlp(), weighted_metrics=["accuracy"]), sample_weight=weights)
    model = compiled(kr.models.RegularizedModel(mlp()), weighted_metrics=["accuracy"])
    history = fit(model, y, sample_weight=weights)
    for name in ("loss", "accuracy"):
        np.testing.assert_allclose(history[name], plain[name], rtol=1e-5)
    evaluated = [model.evaluate(X, given, sample_weight=weights, verbose=0) for given in (y, Y)]
    np.testing.assert_allclose(*evaluated, rtol=1e-6)


def test_label_as_the_name_of_an_output_is_left_alone():
    inputs = keras.Input((6,))
    net = keras.Model(
        inputs,
        {"label": layers.Dense(3, name="label")(inputs), "r": layers.Dense(1, name="r")(inputs)},
    )
    model = kr.models.RegularizedModel(net)
    model.compile("sgd", {"label": LOSS, "r": "mse"})
    history = model.fit(X, {"label": Y, "r": X[:, :1]}, verbose=0).history
    assert {"label_loss", "r_loss"} <= set(history)


def test_class_weight_with_columns_is_explained():
    model = compiled(sam(mlp()))
    with pytest.raises(ValueError, match="pass the weights as `sample_weight`"):
        fit(model, kr.utils.with_index(Y), class_weight={0: 1.0, 1: 1.0, 2: 1.0})


@pytest.mark.parametrize("as_column", [False, True])
def test_unlabelled_rows_equal_leaving_them_out(as_column):
    y = np.where(np.arange(48) % 3 == 0, Y, -1)
    y = y[:, None] if as_column else y
    unlabelled, left_out = mlp(), mlp()
    model = compiled(kr.models.VAT(unlabelled, factor=0.0, seed=1), metrics=["accuracy"])
    half = {"batch_size": 48, "epochs": 3, "shuffle": False, "verbose": 0}
    history = model.fit(X, y, **half).history
    rows = np.arange(48) % 3 == 0
    plain = compiled(left_out, metrics=["accuracy"]).fit(X[rows], Y[rows], **half).history
    np.testing.assert_allclose(history["loss"], plain["loss"], rtol=1e-5)
    np.testing.assert_allclose(history["accuracy"], plain["accuracy"], rtol=1e-6)
    for a, b in zip(unlabelled.get_weights(), left_out.get_weights()):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_batches_without_any_label_train_on_the_rest():
    model = compiled(kr.models.VAT(mlp(), factor=0.0, seed=1), metrics=["accuracy"])
    history = fit(model, np.full(48, -1), epochs=1)
    assert np.isfinite(history["loss"]).all() and history["accuracy"] == [0.0]


@pytest.mark.parametrize("unlabelled", [0, 20])
def test_one_hot_rows_equal_class_ids(unlabelled):
    ids = np.where(np.arange(48) < unlabelled, -1, Y)
    rows = np.where(ids[:, None] < 0, -1.0, np.eye(3)[Y])
    histories = []
    for y, loss in ((ids, LOSS), (rows, keras.losses.CategoricalCrossentropy(from_logits=True))):
        model = kr.models.VAT(mlp(), epsilon=0.5, seed=1)
        model.compile("sgd", loss, metrics=["accuracy"])
        histories.append(fit(model, y))
    np.testing.assert_allclose(histories[1]["loss"], histories[0]["loss"], rtol=1e-5)
    np.testing.assert_allclose(histories[1]["accuracy"], histories[0]["accuracy"], rtol=1e-6)


def test_saving_resumes_exactly(tmp_path):
    model = compiled(
        sam(vat(mlp(0.3, normalize=True))), keras.optimizers.Adam(0.01), metrics=["accuracy"]
    )
    fit(model)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert isinstance(loaded, kr.models.SAM) and isinstance(loaded.model, kr.models.VAT)
    assert loaded.evaluate(X, Y, verbose=0) == model.evaluate(X, Y, verbose=0)
    assert fit(loaded) == fit(model)
    assert_same(loaded.get_weights(), model.get_weights())


def test_config_is_json_and_rebuilds():
    model = sam(adversarial(mlp()))
    config = json.dumps(keras.saving.serialize_keras_object(model))
    again = keras.saving.deserialize_keras_object(json.loads(config))
    assert json.dumps(keras.saving.serialize_keras_object(again)) == config


def test_built_inner_makes_a_built_wrapper(tmp_path):
    trained = mlp()
    sam(trained).save_weights(tmp_path / "m.weights.h5")
    fresh = sam(vat(mlp()))
    lines = []
    fresh.summary(print_fn=lines.append)
    assert fresh.built and "VAT" in "\n".join(lines)
    other = sam(mlp())
    other.load_weights(tmp_path / "m.weights.h5")
    assert_same(other.predict(X, verbose=0), trained.predict(X, verbose=0))


class Plain(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, x):
        return self.dense(x)


@pytest.mark.parametrize("build", [Plain, lambda: keras.Sequential([layers.Dense(3)])])
def test_unbuilt_models_build_in_fit(build):
    model = compiled(sam(vat(build())), "adam")
    assert np.isfinite(fit(model)["loss"]).all()
    assert len(model.model.model.trainable_variables) == 2


# `torch.compile` looks at it, and hides the warning unless warnings are errors.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize(
    "arguments",
    [{"run_eagerly": True}, {"jit_compile": True}, {"steps_per_execution": 2}],
    ids=lambda a: next(iter(a)),
)
def test_compile_modes_agree(arguments):
    if BACKEND == "torch" and "steps_per_execution" in arguments:
        with pytest.raises(ValueError, match="steps_per_execution"):
            fit(compiled(sam(mlp()), steps_per_execution=2))
        return
    expected = mlp()
    fit(compiled(sam(adversarial(expected)), jit_compile=False))
    model = mlp()
    fit(compiled(sam(adversarial(model)), **arguments))
    if "run_eagerly" in arguments or "steps_per_execution" in arguments:
        for a, b in zip(model.get_weights(), expected.get_weights()):
            np.testing.assert_allclose(a, b, atol=1e-5)
    else:  # The random start of the attack draws differently under XLA.
        assert all(np.isfinite(w).all() for w in model.get_weights())


# `torch.compile` looks at it with Keras 3.13.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_learning_of_an_adversary_free_model_under_jit_equals_eager():
    eager, jitted = mlp(), mlp()
    fit(compiled(sam(eager), run_eagerly=True))
    fit(compiled(sam(jitted), jit_compile=True))
    for a, b in zip(eager.get_weights(), jitted.get_weights()):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_double_backward_runs_eagerly_where_the_compiler_cannot_do_it():
    def exact(model):
        return kr.models.GradientRegularization(model, factor=0.01, scheme="exact")

    expected, model = mlp(), mlp()
    fit(compiled(exact(expected), run_eagerly=True))
    if BACKEND == "torch":
        with pytest.warns(UserWarning, match="`torch.compile` cannot differentiate through"):
            wrapped = compiled(exact(model), jit_compile=True)
    else:
        wrapped = compiled(exact(model), jit_compile=True)
    assert wrapped.jit_compile == (BACKEND != "torch")
    fit(wrapped)
    for a, b in zip(model.get_weights(), expected.get_weights()):
        np.testing.assert_allclose(a, b, atol=1e-5)


BAD = [
    (lambda: kr.models.SAM("net"), "wraps a `keras.Model`. Received: 'net' of type str"),
    (lambda: kr.models.SAM(mlp(), rho=-1), "`rho` must be .*at least 0.*Received: rho=-1"),
    (lambda: kr.models.SAM(mlp(), rho="x"), "Received: rho='x'"),
    (lambda: kr.models.SAM(mlp(), micro_batch_size=0), "`micro_batch_size` must be an integer"),
    (lambda: kr.models.VAT(mlp(), epsilon=-1.0), "`epsilon` must be"),
    (lambda: kr.models.VAT(mlp(), iterations=0), "`iterations` must be an integer of at least 1"),
    (lambda: kr.models.AdversarialTraining(mlp(), "pgd"), "`attack` must be an attack"),
    (
        lambda: kr.models.AdversarialTraining(mlp(), kr.attacks.FGSM(), 2.0),
        "`clean_weight` must be",
    ),
    (lambda: kr.models.WeightPenalty(mlp(), 3.0), "`penalty` must be a function"),
    (lambda: kr.models.WithLabels(mlp()), "list of inputs, the last of them"),
]


@pytest.mark.parametrize("make, message", BAD, ids=range(len(BAD)))
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def tokens_model():
    return keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            layers.Embedding(9, 4),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )


@pytest.mark.parametrize(
    "wrap, y, message",
    [
        (vat, Y, "pass `layer=`"),
        (adversarial, Y, "pass `layer=`"),
        (lambda m: sam(vat(m)), Y, "pass `layer=`"),
        (
            lambda m: kr.models.AdversarialTraining(
                m, kr.attacks.FGSM(layer="embedding", bounds=None)
            ),
            None,
            "needs labels `y`",
        ),
        (
            lambda m: kr.models.VAT(m, layer="nothing"),
            Y,
            "`layer` must be a layer of the model or its name",
        ),
    ],
)
def test_bad_data_leaves_the_weights(wrap, y, message):
    model = tokens_model()
    before = model.get_weights()
    wrapped = compiled(wrap(model))
    tokens = RNG.randint(0, 9, (48, 5))
    with pytest.raises(ValueError, match=message):
        wrapped.fit(tokens, y, verbose=0)
    assert_same(before, model.get_weights())


def test_an_error_while_tracing_leaves_the_weights():
    class Broken(kr.models.RegularizedModel):
        def objective(self, batch, forward):
            raise RuntimeError("broken on purpose")

    model = mlp()
    before = model.get_weights()
    for call in ("fit", "train_on_batch"):
        arguments = {"verbose": 0} if call == "fit" else {}
        with pytest.raises(RuntimeError, match="on purpose"):
            getattr(compiled(Broken(model)), call)(X, Y, **arguments)
        assert_same(before, model.get_weights())
    assert np.isfinite(fit(compiled(model))["loss"]).all()


def test_objective_without_a_kept_loss_is_explained():
    class Forgetful(kr.models.RegularizedModel):
        def objective(self, batch, forward):
            return ops.mean(forward(batch.x) ** 2), {}

    with pytest.raises(ValueError, match="must call `forward.loss"):
        fit(compiled(Forgetful(mlp())))


def test_frozen_models_warn_like_keras():
    model = mlp()
    model.trainable = False
    wrapped = compiled(sam(model))
    with pytest.warns(UserWarning, match="trainable weights"):
        fit(wrapped, epochs=1)


@pytest.mark.filterwarnings("ignore:The `native_serialization`:DeprecationWarning")
def test_export(tmp_path):
    model = compiled(sam(vat(mlp())))
    fit(model)
    if BACKEND == "torch":
        return  # Keras exports from torch through onnx alone, an optional dependency of its own.
    import tensorflow as tf

    if BACKEND == "jax" and tf.__version__ < "2.20":
        return  # It does not read what JAX 0.7 writes.
    model.export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(str(tmp_path / "exported"))
    np.testing.assert_allclose(exported.serve(X[:4]), model.predict(X[:4], verbose=0), atol=1e-5)
