"""What the package relies on that Keras and its backends do not promise, and the faults it works around.

When a release changes one of these things, the test of it fails and its docstring says what breaks; where a fault
is mended, the message (`MENDED`) says which workaround can go. Nothing of the package is imported, so that a
failure here is never a fault of its own.
"""

import contextlib
import functools
import inspect

import keras
import numpy as np
import pytest
from keras import layers, ops

BACKEND = keras.backend.backend()
KERAS = tuple(map(int, keras.__version__.split(".")[:2]))
MENDED = "This fault is mended, so that a workaround can go: "

on_jax = pytest.mark.skipif(BACKEND != "jax", reason="of JAX alone")
on_tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="of TensorFlow alone")
on_torch = pytest.mark.skipif(BACKEND != "torch", reason="of torch alone")


def array(x):
    return np.asarray(ops.convert_to_numpy(x))


def tensor(x, dtype="float32"):
    return ops.convert_to_tensor(np.asarray(x, dtype))


def dense_model(**arguments):
    """A model of one dense layer of ones, compiled."""
    net = keras.Sequential([keras.Input((2,)), layers.Dense(1, kernel_initializer="ones")])
    net.compile(**{"optimizer": "sgd", "loss": "mse", **arguments})
    return net


def test_a_layer_lists_its_symbolic_calls():
    """`models.step.hooks` takes out of the list the call by which it builds a wrapper on its own.

    Else a functional model around the wrapper, which counts them, cannot be loaded.
    """
    layer = layers.Dense(1)
    for count in (1, 2):
        layer(keras.Input((2,)))
        assert len(layer._inbound_nodes) == count


def masked(values, mask):
    """A tensor with a mask of Keras, as a layer of Keras leaves it."""

    class Masks(layers.Layer):
        supports_masking = True

        def call(self, x):
            return x

        def compute_mask(self, x, previous_mask=None):
            return ops.convert_to_tensor(mask)

    return Masks(dtype=str(values.dtype))(ops.convert_to_tensor(values))


@pytest.fixture(autouse=True)
def fresh_logs():
    """Keras as it is, without the help of `conftest.py`."""


class Values(keras.losses.Loss):
    """The predictions as values of a loss; remembers what it was called with."""

    def call(self, y_true, y_pred):
        self.given = y_true, y_pred
        return y_pred


def fails(function, *errors):
    try:
        function()
    except errors:
        return True
    return False


# autodiff: derivatives


@on_jax
def test_jax_finds_convolutions_by_these_primitives_and_parameters():
    """`autodiff/_jax_convolutions.py` finds calls and convolutions by these primitives, and passes parameters on.

    Where it does not, gradients in branches and loops are right, but may take 70 times as long on CPUs.
    """
    import jax
    from jax.extend.core import primitives

    def convolve(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, (1,), "SAME")

    traced = jax.make_jaxpr(jax.jit(convolve))(np.ones((1, 2, 5)), np.ones((3, 2, 3)))
    (call,) = traced.jaxpr.eqns
    assert call.primitive is primitives.jit_p
    (convolution,) = call.params["jaxpr"].jaxpr.eqns
    assert convolution.primitive is primitives.conv_general_dilated_p
    unknown = {key for key, value in convolution.params.items() if value is not None} - {
        "window_strides",
        "padding",
        "lhs_dilation",
        "rhs_dilation",
        "dimension_numbers",
        "feature_group_count",
        "batch_group_count",
        "precision",
        "preferred_element_type",
    }
    assert not unknown, f"convolutions have further parameters and are left as they are: {unknown}"


@on_jax
def test_jax_runs_an_equation_by_itself():
    """`autodiff/_jax_convolutions.py` runs all other equations of a jaxpr one by one."""
    import jax
    from jax.extend import core

    jaxpr = jax.make_jaxpr(lambda x: 3.0 * x + 1.0)(1.0).jaxpr
    (eqn, _), (x,) = jaxpr.eqns, jaxpr.invars
    assert sum(isinstance(v, core.Literal) and v.val == 3.0 for v in eqn.invars) == 1
    alone = jaxpr.replace(constvars=(), invars=[x], outvars=eqn.outvars, eqns=[eqn])
    assert core.jaxpr_as_fun(core.ClosedJaxpr(alone, ()))(2.0) == [6.0]


@on_torch
def test_torch_has_no_second_derivative_of_fused_attention():
    """`_recording` of `autodiff/_torch.py` forces the math kernel for it."""
    import torch

    x = torch.rand(1, 1, 4, 8, requires_grad=True)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):
        y = torch.nn.functional.scaled_dot_product_attention(x, x, x)
    (gradient,) = torch.autograd.grad(y.sum(), x, create_graph=True)

    def second():
        torch.autograd.grad((gradient**2).sum(), x)

    assert fails(second, RuntimeError), MENDED + "`sdpa_kernel` in `autodiff/_torch.py`"


@on_torch
def test_torch_has_no_forward_mode_of_fused_attention():
    """`jvp` of `autodiff/_torch.py` is the derivative of a derivative, which takes two backward passes."""
    import torch

    x = torch.rand(1, 1, 4, 8)

    def forward():
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):
            torch.func.jvp(
                lambda x: torch.nn.functional.scaled_dot_product_attention(x, x, x), (x,), (x,)
            )

    assert fails(forward, RuntimeError, NotImplementedError), (
        MENDED
        + "`jvp` of `autodiff/_torch.py` may be `torch.func.jvp`, if batch statistics work in it too"
    )


@on_torch
def test_torch_compiles_no_second_derivative():
    """`COMPILES_DOUBLE_BACKWARD` is False in `autodiff/_torch.py`: models that need one run eagerly and warn."""
    import torch

    x = torch.ones(2, requires_grad=True)
    y = torch.compile(lambda x: (torch.sin(x) ** 2).sum(), backend="aot_eager")(x)
    (gradient,) = torch.autograd.grad(y, x, create_graph=True)

    def second():
        torch.autograd.grad(gradient.sum(), x)

    assert fails(second, RuntimeError), MENDED + "`COMPILES_DOUBLE_BACKWARD`"


@on_torch
def test_torch_compiles_neither_vars_nor_caches():
    """`_detached` of `autodiff/_torch.py` is not compiled; `_KNOWN` of `functional.py` is a dictionary."""
    import torch

    def attributes(x):
        vars(x.detach()).update(vars(x))
        return x

    def compiling():
        torch.compile(attributes, backend="eager", fullgraph=True)(torch.ones(1))

    assert fails(compiling, Exception), MENDED + "`torch.compiler.disable` in `autodiff/_torch.py`"
    with pytest.warns(UserWarning, match="lru_cache"):
        torch.compile(functools.cache(lambda x: x + 1), backend="eager")(torch.ones(1))


@on_tensorflow
def test_tensorflow_follows_a_tensor_into_closures_in_forward_mode():
    """`autodiff.jvp` differentiates at copies, and takes `None` for the tangent of a constant."""
    x = tensor(3.0)
    _, (product, none) = ops.jvp(lambda y: (y * x, tensor(1.0)), (x,), (tensor(1.0),))
    assert array(product) == 6.0, MENDED + "`ops.copy` in `autodiff.jvp`"
    assert none is None, MENDED + "`ops.zeros_like` in `autodiff.jvp`"


@on_tensorflow
def test_tensorflow_gives_the_gradient_of_an_embedding_in_rows():
    """`differentiate` and `dense` of `autodiff/_tensorflow.py` add up rows by converting to a tensor."""
    import tensorflow as tf

    table = tf.Variable([[1.0], [1.0]])
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(tf.gather(table, [1, 1]))
    rows = tape.gradient(value, table)
    assert isinstance(rows, tf.IndexedSlices), MENDED + "`dense` of `autodiff`"
    assert array(tf.convert_to_tensor(rows)).tolist() == [[0.0], [2.0]]


@on_tensorflow
def test_tensorflow_moments_have_a_wrong_second_derivative():
    """`GradientRegularization(scheme="exact")` warns of it in its documentation."""
    import tensorflow as tf

    x = tf.constant([1.0, 2.0, 4.0])
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            variance = tf.nn.moments(x, axes=[0])[1]
        gradient = inner.gradient(variance, x)
    hessian = array(outer.jacobian(gradient, x))
    exact = 2 / 3 * (np.eye(3) - 1 / 3)
    assert not np.allclose(hessian, exact, atol=1e-3), (
        MENDED
        + "the note in `GradientRegularization`, and the exceptions for batch normalization in the tests"
    )


# autodiff: a model as a function of its weights


def test_a_scope_reads_and_writes_its_mapping():
    """`Forward` and the train step on JAX read and assign in a scope; identity tells them what has changed."""
    mapped, other = keras.Variable(1.0), keras.Variable(1.0)
    with keras.StatelessScope(state_mapping=[(mapped, tensor(2.0))]) as scope:
        assert array(mapped.value) == 2.0
        before = scope.get_current_value(mapped)
        assert scope.get_current_value(mapped) is before
        mapped.assign(3.0)
        assert scope.get_current_value(mapped) is not before
        assert array(mapped.value) == 3.0
        assert scope.get_current_value(other) is None
    assert array(mapped.value) == 1.0


def test_scopes_nest_and_hand_on_losses():
    """`Reparameterized.call` uses `original_scope`, `collect_losses`, `losses` and `add_loss`.

    If they changed, activity penalties of wrapped layers would be lost or count twice.
    """
    layer = layers.Dense(1, activity_regularizer="l2")
    layer.build((None, 2))
    with keras.StatelessScope(collect_losses=True) as outer:
        with keras.StatelessScope() as inner:
            inner.collect_losses = outer.collect_losses
            layer(tensor(np.ones((3, 2))))
        assert inner.original_scope is outer and len(inner.losses) == 1 and not outer.losses
        outer.add_loss(inner.losses[0])
        assert [loss is inner.losses[0] for loss in layer.losses] == [True]
    with keras.StatelessScope() as alone:
        pass
    assert alone.original_scope is None


def test_a_scope_holds_all_penalties_of_a_pass():
    """`Forward.loss`: within one scope, `losses` has those of activities and those of the mapped weights."""
    net = keras.Sequential([keras.Input((1,)), layers.Dense(1, kernel_regularizer="l2")])
    net.add(layers.ActivityRegularization(l1=1.0))
    kernel, bias = net.trainable_variables
    mapping = [(kernel, tensor([[10.0]])), (bias, tensor([0.0]))]
    with keras.StatelessScope(state_mapping=mapping, collect_losses=True):
        net(tensor([[1.0]]))
        assert sorted(float(array(loss)) for loss in net.losses) == [1.0, 10.0]


def test_compute_loss_takes_these_arguments_in_this_order():
    """`autodiff.functional.compute_loss` and `compute_loss` of the wrappers pass them by position."""
    expected = ["self", "x", "y", "y_pred", "sample_weight", "training"]
    assert list(inspect.signature(keras.Model.compute_loss).parameters) == expected


def test_a_model_tells_its_loss_but_not_the_weights_of_losses():
    """`CompiledLoss.of`: `model.loss` is what `compile` was given; weights stand in the configuration alone."""
    net = dense_model(loss=["mse"], loss_weights=[2.0])
    assert net.loss == ["mse"] and net.get_compile_config()["loss_weights"] == [2.0]
    assert not hasattr(net, "loss_weights"), MENDED + "`_configured_loss_weights` of `autodiff`"


def test_of_several_losses_for_one_output_the_first_counts():
    """`CompiledLoss.output_losses` takes the first, as Keras does."""
    net = dense_model(loss=["mse", "mae"])
    x, y = np.ones((2, 2), "float32"), np.zeros((2, 1), "float32")
    assert net.evaluate(x, y, verbose=0)[0] == pytest.approx(4.0)


def test_dictionaries_are_flattened_in_the_order_of_their_keys():
    """`CompiledLoss.names` pairs outputs, labels and losses by that order; `attacks` pair inputs by it."""
    assert keras.tree.flatten({"b": 1, "a": 2}) == [2, 1]


@pytest.mark.parametrize(
    "classes, y, loss",
    [(1, [[1.0]], "binary"), (2, [[1]], "sparse_categorical"), (2, [[0.0, 1.0]], "categorical")],
)
def test_crossentropy_is_chosen_by_shapes(classes, y, loss):
    """`_crossentropy_for` of `autodiff` chooses as `compile(loss="crossentropy")` does."""
    x, y = np.full((1, classes), 0.3, "float32"), np.array(y)
    losses = []
    for name in ("crossentropy", f"{loss}_crossentropy"):
        net = keras.Sequential([keras.Input((classes,)), layers.Identity()])
        net.compile(loss=name)
        losses.append(net.evaluate(x, y, verbose=0))
    assert losses[0] == pytest.approx(losses[1])


def test_random_states_are_called_so():
    """`Forward.redrawn` and the files of wrappers find the states of seeds by this name.

    With another name, passes that should draw new noise repeat it, and a training that is loaded again draws other
    numbers than one that went on.
    """
    assert keras.random.SeedGenerator(0).state.name == "seed_generator_state"
    dropout = layers.Dropout(0.5)
    assert [v.name for v in dropout.variables] == ["seed_generator_state"]
    assert not dropout.weights, "`Reparameterized` takes the states of seeds for weights"


@on_torch
def test_torch_leaves_attributes_behind_when_it_detaches():
    """`_detach` of `autodiff/_torch.py` copies what stands in `vars(tensor)`, where Keras keeps masks."""
    x = masked(np.ones((1, 2), "float32"), np.array([[True, False]]))
    assert "_keras_mask" in vars(x)
    assert not vars(x.detach()), MENDED + "`_detach` of `autodiff/_torch.py`"


def test_outputs_are_named_by_layers_in_the_order_of_flattening():
    """`CompiledLoss` and `scores` pair names with outputs and last layers; a dictionary goes by its keys."""
    x = keras.Input((1,))
    last = {"b": layers.Dense(1, name="for_b"), "a": layers.Dense(1, name="for_a")}
    net = keras.Model(x, {key: layer(x) for key, layer in last.items()})
    assert net.output_names == ["for_a", "for_b"]
    assert set(net.output) == {"a", "b"} and len(net.outputs) == 2


@on_jax
def test_jax_loses_masks_behind_a_gradient():
    """A test of `autodiff` is skipped for it: weighted metrics count masked positions in training on JAX."""
    import jax

    def value(x):
        outputs = masked(2.0 * x, np.array([[True, False]]))
        return ops.sum(outputs), outputs

    _, outputs = jax.grad(value, has_aux=True)(tensor([[1.0, 1.0]]))
    assert getattr(outputs, "_keras_mask", None) is None, (
        MENDED + "a skipped test in `tests/autodiff/test_functional.py`"
    )


# autodiff: taps


def test_an_attribute_hides_the_method_call():
    """`autodiff.taps` and `Reparameterized` put a `call` into `vars(layer)`.

    If it did not act, `layer=` of attacks would perturb nothing and penalties on features would see none.
    """
    layer = layers.Dense(1)
    x = keras.Input((2,))
    nets = [keras.Sequential([x, layer]), keras.Model(x, layer(x))]
    vars(layer)["call"] = lambda inputs: 7.0 * ops.ones((1, 1))
    for net in nets:
        assert array(net(tensor(np.ones((1, 2))))).tolist() == [[7.0]]
    del vars(layer)["call"]
    assert array(nets[0](tensor(np.zeros((1, 2))))).tolist() == [[0.0]]


# autodiff: the step on JAX


@on_jax
def test_jax_passes_the_state_in_these_groups():
    """`train_step`, `test_step` and `predict_step` of `autodiff/_jax.py` take and return it so."""
    seen = {}

    class Noting(keras.Model):
        def __init__(self):
            super().__init__()
            self.part = layers.Dense(1)
            self.noise = layers.Dropout(0.1)

        def call(self, x):
            return self.noise(self.part(x))

        def note(self, name, state):
            seen[name] = [len(group) for group in state]

        def train_step(self, state, data):
            self.note("train", state)
            logs, state = super().train_step(state, data)
            self.note("trained", state)
            return logs, state

        def test_step(self, state, data):
            self.note("test", state)
            logs, state = super().test_step(state, data)
            self.note("tested", state)
            return logs, state

        def predict_step(self, state, data):
            self.note("predict", state)
            outputs, rest = super().predict_step(state, data)
            self.note("predicted", [rest])
            return outputs, rest

    net = Noting()
    net.compile("sgd", "mse")
    x, y = np.ones((2, 2), "float32"), np.ones((2, 1), "float32")
    net.train_on_batch(x, y)
    net.test_on_batch(x, y)
    net.predict_on_batch(x)
    trained, others, slots, metrics = (
        len(group)
        for group in (
            net.trainable_variables,
            net.non_trainable_variables,
            net.optimizer.variables,
            net.metrics_variables,
        )
    )
    assert seen == {
        "train": [trained, others, slots, metrics],
        "trained": [trained, others, slots, metrics],
        "test": [trained, others, metrics],
        "tested": [trained, others, metrics],
        "predict": [trained, others],
        "predicted": [others],
    }


@on_jax
def test_jax_loses_the_weights_by_an_exception_in_the_first_step():
    """`keep_weights_on_error` of `autodiff/_jax.py` brings them back."""

    class Failing(layers.Layer):
        def call(self, x, training=False):
            if training:
                raise RuntimeError("planned")
            return x

    net = keras.Sequential([keras.Input((2,)), layers.Dense(1), Failing()])
    net.compile("sgd", "mse")
    kernel = net.trainable_variables[0]
    kernel.assign([[7.0], [7.0]])
    with pytest.raises(RuntimeError, match="planned"):
        net.fit(np.ones((2, 2), "float32"), np.ones((2, 1), "float32"), verbose=0)
    lost = fails(lambda: array(kernel), TypeError) or array(kernel).tolist() != [[7.0], [7.0]]
    assert lost, MENDED + "`keep_weights_on_error` of `autodiff`"


@on_jax
def test_jax_leaks_from_an_optimizer_that_scales_the_loss():
    """`apply_gradients` of `autodiff/_jax.py` takes the pure form instead of `optimizer.apply`."""
    import jax

    variable = keras.Variable([1.0])
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD())
    optimizer.build([variable])
    variables = [variable, *optimizer.variables]

    @jax.jit
    def step(values):
        with keras.StatelessScope(state_mapping=list(zip(variables, values))) as scope:
            optimizer.apply([tensor([1.0])], [variable])
            return [scope.get_current_value(v) for v in variables]

    def run():
        step([v.value for v in variables])

    assert fails(run, jax.errors.UnexpectedTracerError), (
        MENDED + "`stateless_apply` in `autodiff/_jax.py`, `optimizer.apply` will do"
    )


@on_jax
def test_jax_donates_no_buffer_twice():
    """`restart` of `IrrelevantWeightDecay` and `fold` of `Reparameterized` copy values for that reason."""
    import jax

    x = jax.numpy.ones(2)

    def step():
        jax.jit(lambda a, b: (a + 1, b + 1), donate_argnums=(0, 1))(x, x)

    assert fails(step, Exception), MENDED + "the copies in `restart` and `fold`"


@on_tensorflow
def test_a_strategy_loses_batches_of_a_generator():
    """`fit` of `SelfTuningNetwork`, and that of any model, skips some batches of a generator at its start.

    To build metrics Keras passes through the data once; what that has fetched ahead is gone for a generator.
    """
    import tensorflow as tf

    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        net = dense_model(loss="mae", optimizer=keras.optimizers.SGD(0.0))
    batches = ((np.full((1, 2), i / 2, "float32"), np.zeros((1, 1))) for i in range(99))
    history = net.fit(batches, steps_per_epoch=4, shuffle=False, verbose=0)
    # Without a strategy it is (0 + 1 + 2 + 3) / 4; the first two are looked at and put back.
    lost = history.history["loss"][0] > 1.5
    assert lost, MENDED + "the comment in `_paired_batches.py`"


# masks


def test_a_mask_is_this_attribute_of_a_tensor():
    """`masks.keras_mask`, and `carries_mask` of `autodiff/_torch.py`, read it.

    With another name they find no mask: losses, metrics and penalties count masked positions.
    """
    x = layers.Embedding(2, 3, mask_zero=True)(np.array([[1, 0]]))
    assert array(x._keras_mask).tolist() == [[True, False]]


@on_jax
def test_jax_tracers_keep_masks_in_a_table():
    """`masks.keras_mask` asks a loss for them where a tensor has no `__dict__`."""
    import jax

    layer, found = layers.Embedding(2, 3, mask_zero=True), []
    layer.build((None, 2))

    @jax.jit
    def step(ids):
        x = layer(ids)
        found.append((hasattr(x, "__dict__"), hasattr(x, "_keras_mask")))
        return Values(reduction="none")(ops.zeros(()), x[..., 0])

    step(np.array([[1, 0]]))
    assert found == [(False, False)], MENDED + "`_Read` in `masks.py`"


def test_a_loss_multiplies_its_values_by_the_mask():
    """`masks._Read` reads a mask off a loss of the one value 1."""

    class One(keras.losses.Loss):
        def call(self, y_true, y_pred):
            return ops.ones((), dtype=self.dtype)

    x = masked(np.ones((1, 2), "float32"), np.array([[True, False]]))
    assert array(One(reduction="none")((), x)).tolist() == [[1.0, 0.0]]
    assert array(One(reduction="none")((), tensor(np.ones((1, 2))))).shape == ()


def test_a_loss_divides_by_the_unmasked_positions():
    """`position_weights` of `autodiff` gives the weights by which a mean over all positions is Keras' loss."""
    x = masked(np.array([[1.0, 2.0, 30.0]], "float32"), np.array([[True, True, False]]))
    assert array(Values()(np.zeros((1, 3)), x)) == pytest.approx(1.5)


def test_a_loss_reads_the_mask_of_its_own_values():
    """`ClassLoss` hangs a mask on its values for `ignore_class`, as Keras' crossentropy does."""

    class Masking(keras.losses.Loss):
        def call(self, y_true, y_pred):
            return masked(np.array([1.0, 2.0, 30.0], "float32"), np.array([True, True, False]))

    assert array(Masking()(np.zeros(3), np.zeros(3))) == pytest.approx(1.5)
    crossentropy = keras.losses.SparseCategoricalCrossentropy(ignore_class=-1)
    p = np.array([[0.5, 0.5], [0.1, 0.9]], "float32")
    assert array(crossentropy(np.array([0, -1]), p)) == pytest.approx(np.log(2), rel=1e-4)


# losses


@on_torch
def test_torch_multiplies_sample_weights_by_the_mask_in_place():
    """`_copied` of `autodiff/functional.py` copies them, for a step that asks for the loss more than once."""
    x = masked(np.ones((1, 2), "float32"), np.array([[True, False]]))
    weights = tensor([[3.0, 3.0]])
    Values()(tensor([[0.0, 0.0]]), x, sample_weight=weights)
    assert array(weights).tolist() != [[3.0, 3.0]], (
        MENDED
        + "`_copied` of `autodiff/functional.py`, and weights that are spelled out in `losses/_loss.py`"
    )


@on_torch
def test_torch_has_no_sample_weights_beside_a_mask_of_more_axes():
    """The losses of the package spell weights out per position where there is a mask."""
    x = masked(np.ones((1, 2), "float32"), np.array([[True, False]]))

    def weighted():
        Values()(tensor([[0.0, 0.0]]), x, sample_weight=tensor([[3.0]]))

    assert fails(weighted, RuntimeError), (
        MENDED + "`ones_like` beside a mask in `losses/_coupled.py`"
    )


def test_losses_do_not_spread_a_weight_over_positions():
    """`losses.Loss` takes `(batch,)` weights for `(batch, time)` values."""

    def weighted():
        Values()(np.zeros((2, 3)), np.ones((2, 3)), sample_weight=np.ones(2))

    assert fails(weighted, Exception), MENDED + "the alignment of weights in `losses/_loss.py`"


def test_losses_leave_their_dtype_out_of_their_configuration():
    """`losses.Loss.get_config` adds it."""
    config = keras.losses.MeanSquaredError(dtype="float64").get_config()
    assert "dtype" not in config, MENDED + "`get_config` of `losses/_loss.py`"


def test_losses_cast_class_ids_to_their_dtype():
    """`losses.ClassLoss` reads labels before the cast."""
    loss = Values(dtype="float16")
    loss(np.array([2049]), np.zeros(1))
    assert array(loss.given[0]) == 2048, MENDED + "`_targets` of `losses/_loss.py`"


def test_losses_compute_in_single_precision_under_mixed_precision():
    """`_position_losses` of `autodiff` computes the loss per sample in at least float32, as Keras its mean."""
    keras.config.set_dtype_policy("mixed_float16")
    assert keras.losses.MeanSquaredError().dtype == "float32"


def test_this_reduction_divides_by_the_sum_of_weights():
    """`losses.Loss` spells weights out per position, so that their sum is that over positions."""
    loss = Values(reduction="mean_with_sample_weight")
    assert array(loss(np.zeros(2), np.array([1.0, 4.0]), np.array([1.0, 2.0]))) == pytest.approx(3)


@on_torch
def test_torch_divides_double_precision_in_single():
    """Since Keras 3.15. `DIVIDES_IN_FLOAT32` of `autodiff/_torch.py`: `Reduction` divides by itself."""
    loss = Values(dtype="float64")(np.zeros(3), np.full(3, 0.1))
    rounded = abs(float(array(loss)) - 0.1) > 1e-12
    assert rounded is (KERAS >= (3, 15)), MENDED + "`DIVIDES_IN_FLOAT32` on torch"


@contextlib.contextmanager
def double_precision():
    """JAX has it only when asked, by a context whose name changed."""
    if BACKEND != "jax":
        yield
        return
    import jax

    jax.config.update("jax_enable_x64", True)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", False)


@pytest.mark.skipif(BACKEND == "torch", reason="see above")
@pytest.mark.parametrize("reduction", ["mean", "mean_with_sample_weight"])
def test_jax_and_tensorflow_divide_in_double_precision(reduction):
    """`DIVIDES_IN_FLOAT32` is False there: else losses in float64 would lose half of their digits."""
    with double_precision():
        for x in (np.full(3, 0.1), masked(np.full(3, 0.1), np.array([True, True, False]))):
            loss = Values(dtype="float64", reduction=reduction)(np.zeros(3), x, np.ones(3))
            assert abs(float(array(loss)) - 0.1) < 1e-15


def test_losses_align_a_last_axis_of_size_one():
    """`_equal_ranks` of `autodiff` aligns labels and outputs as Keras does for functions."""
    loss = keras.losses.MeanSquaredError()
    assert array(loss(np.array([1.0, 2.0]), np.array([[1.0], [2.0]]))) == 0.0


@pytest.mark.parametrize(
    "name, y, p",
    [
        ("binary_crossentropy", [[1.0]], [[0.0]]),
        ("categorical_crossentropy", [[1.0, 0.0]], [[0.0, 2.0]]),
        ("sparse_categorical_crossentropy", [0], [[0.0, 2.0]]),
    ],
)
def test_crossentropies_normalize_and_clip_probabilities(name, y, p):
    """`numerics.log_probabilities` clips as they do, so that losses without any strength equal them."""
    value = array(getattr(keras.losses, name)(tensor(y), tensor(p)))
    assert value == pytest.approx(-np.log(1e-7), rel=1e-5)


# numerics, activations, labels


@on_torch
@pytest.mark.parametrize(
    "name, compute, exact",
    [
        ("mean", lambda x: ops.mean(x), 0.15),
        ("cumsum", lambda x: ops.cumsum(x)[-1], 0.3),
        ("matmul", lambda x: ops.matmul(x, x), 0.05),
        ("maximum", lambda x: ops.maximum(x, 0.15)[1], 0.2),
        ("minimum", lambda x: ops.minimum(x, 0.15)[0], 0.1),
    ],
)
def test_torch_rounds_double_precision(name, compute, exact):
    """`numerics` has functions of these names that do not."""
    found = float(array(compute(tensor([0.1, 0.2], "float64"))))
    assert abs(found - exact) > 1e-12, MENDED + f"`numerics.{name}`"


@on_tensorflow
def test_tensorflow_has_no_maximum_of_an_empty_batch():
    """`scores.shifted` and both `entmax` look for empty batches."""
    import tensorflow as tf

    def maximum():
        ops.amax(ops.zeros((0, 3)), axis=-1, keepdims=True)

    assert fails(maximum, tf.errors.InvalidArgumentError), (
        MENDED
        + "`if 0 in ….shape` in `scores.py`, `activations/_entmax.py` and `losses/classification/entmax.py`"
    )


@on_tensorflow
def test_tensorflow_does_not_compare_booleans_with_numbers():
    """`labels.labelled` calls `ops.greater_equal`."""
    assert fails(lambda: tensor([True], "bool") >= 0, TypeError), (
        MENDED + "a comment in `labels.py`"
    )


def test_sparsemax_of_keras_is_no_projection():
    """`kr.activations.sparsemax` exists for that reason."""
    total = float(array(ops.sum(keras.activations.sparsemax(tensor([[0.1, 0.2, 0.3]])))))
    assert total != pytest.approx(1.0, abs=1e-3), (
        MENDED + "what the documentation of `activations.sparsemax` says of Keras"
    )


# scores


def test_losses_say_whether_they_take_logits():
    """`scores.uses_logits` reads the attribute, the configuration or the function of a loss."""
    for kind in (keras.losses.BinaryCrossentropy, keras.losses.CategoricalFocalCrossentropy):
        assert kind(from_logits=True).get_config()["from_logits"] is True
    held = [value for value in vars(keras.losses.KLDivergence()).values() if callable(value)]
    assert keras.losses.kl_divergence in held
    assert keras.losses.get("kld") is keras.losses.kl_divergence


def test_functions_and_classes_of_keras_are_in_its_modules():
    """`scores.is_regression` tells the losses of Keras from those of users by their modules."""
    for symbol in (keras.losses.MeanSquaredError, keras.losses.mean_squared_error):
        assert symbol.__module__.split(".")[0] == "keras"


def test_a_layer_tells_its_activation():
    """`scores.known_logits` reads it, and finds the last layer of a functional model by the name of the output."""
    x = keras.Input((2,))
    net = keras.Model(x, layers.Dense(2, "softmax", name="scores")(layers.Dense(2)(x)))
    assert net.output_names == ["scores"]
    assert net.get_layer("scores").activation is keras.activations.softmax
    assert layers.Dense(2).activation is keras.activations.linear


# utils: variables and layers


@pytest.mark.parametrize(
    "layer, names",
    [
        (layers.TimeDistributed(layers.Dense(1)), ["layer"]),
        (layers.Bidirectional(layers.LSTM(1)), ["forward_layer", "backward_layer"]),
        (layers.LSTM(1), ["cell"]),
        (layers.StackedRNNCells([layers.GRUCell(1)]), ["cells"]),
    ],
    ids=["wrapper", "bidirectional", "recurrent", "stacked"],
)
def test_layers_keep_those_inside_under_these_names(layer, names):
    """`utils.variables` finds the owners of variables by them; else `attach` says that nothing would be saved."""
    for name in names:
        found = getattr(layer, name)
        inside = found if isinstance(found, (list, tuple)) else [found]
        assert inside and all(isinstance(part, keras.Layer) for part in inside)


def test_layers_stand_among_the_attributes_of_the_layer_that_holds_them():
    """`utils.variables.every_layer`, `attacks` (`layer=`) and stateful states look for them in `vars(layer)`."""
    held = layers.Dense(1)

    class Holding(layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = held

    values = vars(Holding()).values()
    found = [v for v in values if isinstance(v, (keras.Layer, list, tuple))]
    assert held in [part for part in keras.tree.flatten(found) if isinstance(part, keras.Layer)]


@pytest.mark.parametrize(
    "layer, variable, attribute",
    [
        (layers.Dense(1), "kernel", "kernel"),
        (layers.Dense(1), "bias", "bias"),
        (layers.DepthwiseConv1D(1), "kernel", "depthwise"),
        (layers.SeparableConv1D(1, 1), "depthwise_kernel", "depthwise"),
        (layers.SeparableConv1D(1, 1), "pointwise_kernel", "pointwise"),
        (layers.BatchNormalization(), "gamma", "gamma"),
        (layers.Embedding(2, 1), "embeddings", "embeddings"),
        (layers.GRUCell(1), "recurrent_kernel", "recurrent"),
    ],
)
@pytest.mark.parametrize("kind", ["regularizer", "constraint"])
def test_layers_keep_regularizers_under_these_names(layer, variable, attribute, kind):
    """`attach` sets them there, so that they are saved; `Reparameterized` and pruning find kernels by name."""
    fresh = type(layer).from_config(layer.get_config())
    fresh.build((None, 3, 2))
    assert variable in [v.name for v in fresh.weights]
    assert hasattr(fresh, f"{attribute}_{kind}")
    assert f"{attribute}_{kind}" in fresh.get_config()


def test_a_variable_acts_by_its_regularizer_and_constraint():
    """`regularizers.attach` and `constraints.attach` set them on variables of a model that exists."""
    net = dense_model()
    kernel = net.trainable_variables[0]
    kernel.regularizer, kernel.constraint = keras.regularizers.L1(0.5), keras.constraints.NonNeg()
    assert [float(array(loss)) for loss in net.losses] == [1.0]
    kernel.assign([[-1.0], [1.0]])
    net.optimizer.apply([ops.zeros((2, 1)), ops.zeros((1,))], net.trainable_variables)
    assert array(kernel).tolist() == [[0.0], [1.0]]


def test_the_configuration_of_a_model_names_what_is_made_from_it():
    """`attach` tells by it what is saved; `EffectiveLearningRate` reads which layer feeds which."""
    x = keras.Input((2,))
    net = keras.Model(x, layers.BatchNormalization()(layers.Dense(2, name="first")(x)))
    last = net.get_config()["layers"][-1]
    assert last["name"] == net.layers[-1].name
    history = last["inbound_nodes"][0]["args"][0]["config"]["keras_history"]
    assert history[0] == "first"


def test_activity_penalties_are_divided_by_the_batch():
    """Since Keras 3.14: `to_be_divided` of `regularizers/activity.py` goes by the version."""
    layer = layers.Identity(activity_regularizer=keras.regularizers.L1(1.0))
    layer(tensor(np.ones((4, 3))))
    assert [float(array(loss)) for loss in layer.losses] == [3.0 if KERAS >= (3, 14) else 12.0]


# layers: reparameterization


def test_a_layer_reads_its_signatures_off_its_attributes():
    """`Reparameterized` puts `call` into `vars` before `Layer.__init__` and `build` after: the wrapped layer's."""

    class Wrapping(layers.Layer):
        def __init__(self):
            self.__dict__["call"] = self.run
            super().__init__()

            def build(*args, **kwargs):
                self.built_with = kwargs

            build.__signature__ = inspect.signature(lambda query_shape, value_shape: None)
            self.__dict__["build"] = build

        def run(self, query, value, training=None):
            return query + value

    layer = Wrapping()
    assert layer.call_signature_parameters == ["query", "value", "training"]
    layer(tensor([[1.0]]), tensor([[1.0]]))
    assert set(layer.built_with) == {"query_shape", "value_shape"}


def test_attention_keeps_its_projections_under_these_names():
    """`layers/reparameterization/_kernels.py` finds the axes of units by them: else others share a scale."""
    layer = layers.MultiHeadAttention(2, 2)
    layer.build((None, 3, 2), (None, 3, 2))
    for name in ("query_dense", "key_dense", "value_dense", "output_dense"):
        assert isinstance(getattr(layer, name), layers.EinsumDense)
    assert layer.query_dense.equation.replace(" ", "") == "abc,cde->abde"


def test_an_initializer_draws_its_seed_from_the_seed_of_keras():
    """`BitWeights` and the quantizers draw by NumPy with it: else they are other weights in each run."""
    seeds = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        seeds.append(keras.initializers.RandomNormal().seed)
    assert seeds[0] == seeds[1] and isinstance(seeds[0], int)


def test_a_layer_that_says_that_it_is_built_is_not_locked():
    """`models._slots.Slots` says so and makes its variables later; `build` would lock it."""

    class Said(layers.Layer):
        def __init__(self):
            super().__init__()
            self.built = True

    Said().add_weight(shape=(1,), name="later")
    layer = layers.Dense(1)
    layer.build((None, 1))
    assert fails(lambda: layer.add_weight(shape=(1,)), ValueError), (
        MENDED + "`built = True` in `Slots`"
    )


def test_a_layer_writes_an_activity_regularizer_only_if_it_has_one():
    """`kr.testing.check_layer` leaves it out of the comparison of configurations."""
    assert "activity_regularizer" not in layers.Identity().get_config(), (
        MENDED + "`ignore=` in `testing/layers.py`"
    )


# optimizers


def test_optimizers_have_these_private_parts():
    """`OptimizerWrapper`, `Masked`, `LAWN` and `DecoupledWeightDecay` use them on themselves."""
    first, second = keras.Variable([1.0], name="first"), keras.Variable([1.0], name="second")
    optimizer = keras.optimizers.SGD()
    optimizer.build([first, second])
    assert [v is w for v, w in zip(optimizer._trainable_variables, [first, second])] == [True] * 2
    assert optimizer._get_variable_index(second) == 1
    excluding = keras.optimizers.SGD(weight_decay=0.1)
    excluding.exclude_from_weight_decay(var_names=["first"])
    excluding.build([first, second])
    assert [excluding._use_weight_decay(v) for v in (first, second)] == [False, True]


def test_optimizers_tell_these_options():
    """`OptimizerWrapper` refuses some, moves the loss scale, and lets callbacks set the learning rate."""
    optimizer = keras.optimizers.SGD(0.5, loss_scale_factor=2.0)
    assert optimizer.gradient_accumulation_steps is None and optimizer.use_ema is False
    assert optimizer.loss_scale_factor == 2.0 and optimizer.weight_decay is None
    config = keras.saving.serialize_keras_object(optimizer)["config"]
    assert config["loss_scale_factor"] == 2.0
    assert isinstance(optimizer.learning_rate, keras.Variable)
    schedule = keras.optimizers.schedules.ExponentialDecay(1.0, 1, 0.5)
    scheduled = keras.optimizers.SGD(schedule)
    assert not isinstance(scheduled.learning_rate, keras.Variable)
    scaling = keras.optimizers.LossScaleOptimizer(optimizer)
    assert scaling.inner_optimizer is optimizer, "`chain` finds no optimizer inside of loss scaling"


def test_optimizers_scale_a_number_by_a_number():
    """The train step skips what is for overflows, and multiplications by 1, where the scale is a float."""
    assert keras.optimizers.SGD().scale_loss(1.0) == 1.0
    assert isinstance(keras.optimizers.SGD(loss_scale_factor=2.0).scale_loss(1.0), float)
    scaling = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD())
    scaling.build([keras.Variable([1.0])])
    assert not isinstance(scaling.scale_loss(1.0), float)


def test_an_overflow_of_a_scaled_loss_moves_nothing():
    """The train step does not call `after_update` for a step that the optimizer skips."""
    variable = keras.Variable([1.0])
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD())
    optimizer.build([variable])
    gradient, slots = tensor([np.inf]), [v.value for v in optimizer.variables]
    if BACKEND == "jax":
        (value,), _ = optimizer.stateless_apply(slots, [gradient], [variable.value])
    else:
        optimizer.apply([gradient], [variable])
        value = variable.value
    assert array(value).tolist() == [1.0]


@on_tensorflow
def test_tensorflow_squares_repeated_rows_one_by_one():
    """`OptimizerWrapper` and the train step add them up, and the documentation of both tells of the difference."""
    import tensorflow as tf

    found = []
    rows = tf.IndexedSlices(tf.constant([[1.0], [1.0]]), tf.constant([0, 0]), tf.constant([1, 1]))
    for gradient in (rows, tf.convert_to_tensor(rows)):
        variable, optimizer = keras.Variable([[0.0]]), keras.optimizers.RMSprop(1.0, rho=0.5)
        optimizer.build([variable])
        optimizer.apply([gradient], [variable])
        found.append(float(array(variable)[0, 0]))
    assert found[0] != pytest.approx(found[1], rel=1e-3), (
        MENDED + "what `RegularizedModel` and `OptimizerWrapper` say of embeddings on TensorFlow"
    )


def test_variables_are_called_by_their_layers():
    """`AdaptiveGradientClipping` tells layouts of kernels by default names; `where=` takes parts of paths."""
    for layer, shape, path in [
        (layers.Conv2DTranspose(1, 1), (None, 2, 2, 1), "transpose"),
        (layers.DepthwiseConv2D(1), (None, 2, 2, 1), "depthwise_conv"),
        (layers.Dense(1, name="head"), (None, 2), "head/kernel"),
    ]:
        layer.build(shape)
        assert path in layer.weights[0].path and layer.weights[0].name == "kernel"
    attention = layers.MultiHeadAttention(2, 2)
    attention.build((None, 3, 2), (None, 3, 2))
    parts = [v.path.split("/")[-2] for v in attention.weights if v.name == "kernel"]
    assert parts[:3] == ["query", "key", "value"]
    assert all("attention" in v.path for v in attention.weights)


# models: the train step


def test_a_compiled_model_has_these_private_parts():
    """`metrics_inside` of `models/step` leaves them out: else metrics of an earlier compilation show up."""
    net = dense_model(metrics=["mae"])
    parts = [net._loss_tracker, net._compile_metrics, *net._compile_loss.metrics]
    assert all(any(part is metric for metric in net.metrics) for part in parts)


def test_the_tracker_of_the_loss_is_the_first_metric():
    """The train step updates `metrics[0]`: else the logged loss is 0, and another metric wrong."""
    net = dense_model(metrics=["mae"])
    net.evaluate(np.ones((1, 2), "float32"), np.ones((1, 1), "float32"), verbose=0)
    net.reset_metrics()
    net.metrics[0].update_state(7.0)
    assert net.metrics[0].name == "loss" and array(net.get_metrics_result()["loss"]) == 7.0


def test_metrics_of_a_model_inside_are_left_out():
    """`Measuring.metrics` adds those that a model inside has of its own."""

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.tracker = keras.metrics.Mean("own")

    class Around(keras.Model):
        def __init__(self):
            super().__init__()
            self.model = Own()

    assert not Around().metrics, MENDED + "`metrics_inside` of `models/step`"


def test_a_single_step_logs_its_own_values():
    """Since Keras 3.15: `fresh_logs` of `tests/conftest.py` and `testing/models.py` reset the metrics before."""
    net = dense_model(optimizer=keras.optimizers.SGD(0.0))
    x = np.ones((2, 2), "float32")
    for step in (net.train_on_batch, net.test_on_batch):
        net.reset_metrics()
        logs = [float(step(x, y)) for y in (np.full((2, 1), 2.0), np.full((2, 1), 3.0))]
        assert logs == [0.0, 1.0 if KERAS >= (3, 15) else 0.5]


def test_results_of_metrics_are_tensors():
    """Since Keras 3.14; `Measuring.get_metrics_result` gives numbers where Keras does."""
    net = dense_model(run_eagerly=True)
    net.evaluate(np.ones((1, 2), "float32"), np.ones((1, 1), "float32"), verbose=0)
    assert isinstance(net.get_metrics_result()["loss"], float) is (KERAS < (3, 14))


def test_fit_says_that_evaluate_gets_prepared_data():
    """`Evaluation.evaluate` prepares data of KerasHub models itself, but not that which `fit` has prepared."""
    seen = []

    class Noting(keras.Sequential):
        def evaluate(self, *args, **kwargs):
            seen.append(kwargs.get("_use_cached_eval_dataset"))
            return super().evaluate(*args, **kwargs)

    net = Noting([keras.Input((2,)), layers.Dense(1)])
    net.compile("sgd", "mse")
    x, y = np.ones((2, 2), "float32"), np.ones((2, 1), "float32")
    net.fit(x, y, validation_data=(x, y), verbose=0)
    net.evaluate(x, y, verbose=0)
    assert seen == [True, None]


def test_compile_takes_these_arguments():
    """`compile_inside` of `models/step` tells by them which arguments are a model's own."""
    known = set(inspect.signature(keras.Model.compile).parameters)
    wanted = {"optimizer", "loss", "loss_weights", "metrics", "weighted_metrics", "jit_compile"}
    assert wanted | {"run_eagerly", "steps_per_execution"} <= known


def test_fit_takes_these_arguments():
    """Wrappers read them from keywords; `ART.fit` binds them by the signature."""
    given = set(inspect.signature(keras.Model.fit).parameters)
    assert {"validation_data", "class_weight", "sample_weight", "batch_size", "epochs"} <= given


def test_sample_weights_are_repeated_for_each_label_of_a_dictionary():
    """`split_columns` takes them apart again, beside `y={"label": …, "group": …}`."""
    seen = []

    class Noting(keras.Sequential):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            seen.append(sample_weight)
            return ops.mean(y_pred)

    net = Noting([keras.Input((2,)), layers.Dense(1)])
    net.compile("sgd")
    x, y = np.ones((2, 2), "float32"), np.ones((2, 1), "float32")
    net.fit(x, {"label": y, "group": y}, sample_weight=np.ones(2), verbose=0)
    assert all(set(weights) == {"label", "group"} for weights in seen)


def test_class_weights_take_no_dictionary_of_labels():
    """`fit` of the wrappers says so first."""
    net = dense_model()
    x, y = np.ones((2, 2), "float32"), np.ones((2, 1), "float32")

    def fit():
        net.fit(x, {"label": y, "group": y}, class_weight={0: 1.0, 1: 1.0}, verbose=0)

    assert fails(fit, ValueError), MENDED + "the error of `Training._check`"


def test_states_of_recurrent_layers_are_no_variables_of_a_model():
    """`carried_states` of `models/step` finds them, for each pass of a step to start from the same ones."""
    layer = layers.SimpleRNN(2, stateful=True)
    net = keras.Sequential([keras.Input(batch_shape=(1, 3, 2)), layer])
    states = keras.tree.flatten(layer.states)
    assert states and all(isinstance(state, keras.Variable) for state in states)
    assert not any(state is v for state in states for v in net.variables), (
        MENDED + "`models/step/recurrent.py`"
    )


def test_files_have_no_seeds(tmp_path):
    """`Saving` adds them to those of wrappers."""
    net = keras.Sequential([keras.Input((2,)), layers.Dropout(0.5), layers.Dense(1)])
    (state,) = net.non_trainable_variables
    net.save_weights(tmp_path / "net.weights.h5")
    saved = array(state)
    state.assign(saved + 1)
    net.load_weights(tmp_path / "net.weights.h5")
    assert not np.array_equal(array(state), saved), MENDED + "`seed_…` in `models/step/saving.py`"


def test_variables_say_how_replicas_are_joined():
    """`average` of `autodiff/_torch.py` leaves out those that are declared equal on all."""
    variable = keras.Variable(1.0, aggregation="only_first_replica")
    assert variable.aggregation == "only_first_replica"


def test_a_model_with_its_own_build_is_not_called_to_be_built():
    """The measuring models of `analysis` override `build`, since a call of theirs is expensive."""
    calls = []

    class Measuring(keras.Model):
        def build(self, input_shape):
            pass

        def call(self, x):
            calls.append(x)
            return x

    net = Measuring()
    net.build(None)
    assert net.built and not calls


def test_a_model_tracks_a_seed_that_it_holds():
    """Models hold the seeds of their attacks as attributes: else JAX draws the same noise in every step."""

    class Holding(keras.Model):
        def __init__(self):
            super().__init__()
            self.seed = keras.random.SeedGenerator(1)

    net = Holding()
    assert any(v is net.seed.state for v in net.non_trainable_variables)


def test_a_model_tells_how_it_runs():
    """The measuring models of `analysis` run as the measured one does."""
    net = dense_model(run_eagerly=True, jit_compile=False)
    assert (net.run_eagerly, net.jit_compile) == (True, False)


def test_a_model_is_built_before_its_first_step():
    """The train step builds on TensorFlow alone, where Keras does not; elsewhere there would be no gradients."""
    seen = []

    class Late(keras.Model):
        def __init__(self):
            super().__init__()
            self.part = layers.Dense(1)

        def call(self, x):
            return self.part(x)

        def train_step(self, *arguments):
            seen.append(self.built)
            return super().train_step(*arguments)

    net = Late()
    net.compile("sgd", "mse")
    net.train_on_batch(np.ones((1, 2), "float32"), np.ones((1, 1), "float32"))
    assert seen[0] is (BACKEND != "tensorflow"), MENDED + "`self(x)` in `models/step/training.py`"


def test_a_variable_says_the_dtype_of_a_call():
    """`Slots` makes its variables in the wider dtype of two, since they may be made in a call."""
    seen = []

    class Noting(layers.Dense):
        def call(self, x):
            seen.append(self.kernel.dtype)
            return super().call(x)

    Noting(1, dtype="mixed_float16")(np.ones((1, 2), "float32"))
    assert seen == ["float16"], MENDED + "`result_type` in `models/_slots.py`"


def test_a_model_knows_the_layer_at_its_input():
    """`attacks` refuse to perturb floating ids: `feeds_embedding` looks for it by the output of `InputLayer`."""
    x, embedding = keras.Input((3,)), layers.Embedding(3, 2)
    net = keras.Model(x, embedding(x))
    assert embedding.input is net.inputs[0] is net.layers[0].output
    assert keras.Sequential([keras.Input((3,)), embedding]).layers[0] is embedding


def test_an_optional_input_may_be_none():
    """`WithLabels` passes `None` for labels, and finds the input by `InputLayer.optional`."""

    class Both(layers.Layer):
        def call(self, inputs):
            x, labels = inputs
            return x if labels is None else x + labels

    x, labels = keras.Input((1,)), keras.Input((1,), optional=True)
    net = keras.Model([x, labels], Both()([x, labels]))
    found = [p.optional for p in net.layers if isinstance(p, layers.InputLayer)]
    assert sorted(found) == [False, True]
    assert array(net([tensor([[2.0]]), None])).tolist() == [[2.0]]


def test_models_of_keras_hub_prepare_their_samples():
    """`prepared` of `models/step` calls `preprocess_samples` of tasks with a `preprocessor`."""
    hub = pytest.importorskip("keras_hub")
    given = inspect.signature(hub.models.Task.preprocess_samples).parameters
    assert list(given)[1:4] == ["x", "y", "sample_weight"]
    assert isinstance(hub.models.Task.preprocessor, property)


# metrics


def test_metrics_of_keras_name_no_further_columns():
    """`column_names` of `models/step` takes any other argument of `update_state` for a column of `y`."""
    known = {"self", "y_true", "y_pred", "sample_weight", "values"}
    for kind in vars(keras.metrics).values():
        if isinstance(kind, type) and issubclass(kind, keras.metrics.Metric):
            given = inspect.signature(kind.update_state).parameters.values()
            named = {p.name for p in given if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
            assert named <= known, kind


def test_metrics_leave_masked_positions_out():
    """`metrics._samples.position_weights` does as they do."""
    metric = keras.metrics.MeanSquaredError()
    x = masked(np.array([[[1.0], [30.0]]], "float32"), np.array([[True, False]]))
    metric.update_state(np.zeros((1, 2, 1)), x)
    assert array(metric.result()) == 1.0


def test_variables_of_metrics_add_up_over_replicas():
    """`metrics._sums.add_sums` makes sums of two parts, both of which must."""
    variable = keras.metrics.Mean().add_variable((2,), "zeros", "float32", name="sums")
    assert variable.aggregation == "sum"


def test_compiled_metrics_say_whether_they_are_built():
    """`FactoredSphericalClassifier.get_metrics_result` asks, as they may never see its logits."""
    net = dense_model(metrics=["mae"])
    compiled = net.metrics[1]
    assert compiled.built is False
    net.evaluate(np.ones((1, 2), "float32"), np.ones((1, 1), "float32"), verbose=0)
    assert compiled.built is True


# callbacks


def test_a_callback_knows_its_place_and_writes_into_the_logs():
    """`callbacks._fit.Position` reads `params`; several callbacks add entries to the logs of an epoch."""
    seen = {}

    class Noting(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.update(self.params)
            logs["extra"] = 5.0

    x, y = np.ones((4, 2), "float32"), np.ones((4, 1), "float32")
    history = dense_model().fit(x, y, batch_size=2, epochs=3, callbacks=[Noting()], verbose=0)
    assert (seen["steps"], seen["epochs"]) == (2, 3)
    assert history.history["extra"] == [5.0] * 3


def test_the_logs_of_a_batch_hold_the_mean_since_the_metrics_were_reset():
    """`LearningRateFinder` resets them before every batch."""
    seen = []

    class Noting(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.model.reset_metrics()

        def on_train_batch_end(self, batch, logs=None):
            seen.append(logs["loss"])

    net, x = dense_model(optimizer=keras.optimizers.SGD(0.0)), np.array([[0.5, 0.5], [2.0, 1.0]])
    net.fit(x, np.zeros((2, 1)), batch_size=1, shuffle=False, callbacks=[Noting()], verbose=0)
    assert seen == pytest.approx([1.0, 9.0])


def test_batch_normalization_reads_its_momentum_at_each_call():
    """`StochasticWeightAveraging` sets it so that the statistics are means over all batches."""
    layer = layers.BatchNormalization(momentum=0.9)
    layer.build((None, 1))
    layer.momentum = 0.25
    layer(tensor([[1.0], [3.0]]), training=True)
    assert array(layer.moving_mean) == pytest.approx(0.25 * 0.0 + 0.75 * 2.0)


# The project itself


def test_variables_become_arrays_without_the_argument_of_numpy_2():
    """`pyproject.toml` ignores the warning of NumPy."""
    given = inspect.signature(keras.Variable.__array__).parameters
    assert "copy" not in given, MENDED + "the warning filter for `__array__` in `pyproject.toml`"
