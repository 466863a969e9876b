"""The checks themselves: good Keras objects pass, and objects broken in one known way are caught by name."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

import keras_regularize as kr
from keras_regularize import testing

register = keras.saving.register_keras_serializable("broken")


def fails(check, label, *args, **kwargs):
    """Asserts that the check fails, in the given part."""
    with pytest.raises(AssertionError, match=f'check "{label}"'):
        check(*args, **kwargs)


# Losses


class Loss(keras.losses.Loss):
    """A good loss, cross-entropy on logits for ids or rows; the broken ones change one thing."""

    def __init__(self, scale=1.0, reduction="sum_over_batch_size", name=None):
        super().__init__(name=name, reduction=reduction)
        self.scale = scale

    def rows(self, y_true, y_pred):
        y_true = ops.convert_to_tensor(y_true)
        if len(y_true.shape) == len(y_pred.shape) and y_true.shape[-1] == 1:
            y_true = ops.squeeze(y_true, -1)
        if len(y_true.shape) == len(y_pred.shape) - 1:
            return ops.one_hot(ops.cast(y_true, "int32"), y_pred.shape[-1], dtype=y_pred.dtype)
        return ops.cast(y_true, y_pred.dtype)

    def call(self, y_true, y_pred):
        y_pred = ops.convert_to_tensor(y_pred)
        log_p = ops.log_softmax(y_pred)
        return -self.scale * ops.sum(self.rows(y_true, y_pred) * log_p, axis=-1)

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}


GoodLoss = register(type("GoodLoss", (Loss,), {}))


@register
class ScalarLoss(Loss):
    def call(self, y_true, y_pred):
        return ops.mean(super().call(y_true, y_pred))


@register
class ForgetfulLoss(Loss):
    def get_config(self):
        return keras.losses.Loss.get_config(self)


@register
class DriftingLoss(Loss):
    def get_config(self):
        return {**super().get_config(), "scale": 2.0 * self.scale}


@register
class SaturatingLoss(Loss):
    """Finite value, NaN gradient at saturated logits."""

    def call(self, y_true, y_pred):
        p = ops.softmax(y_pred)
        log_p = ops.where(p > 0, ops.log(p), -100.0)
        return -ops.sum(self.rows(y_true, y_pred) * log_p, axis=-1)


@register
class WrongGradientLoss(Loss):
    def call(self, y_true, y_pred):
        y_pred = ops.convert_to_tensor(y_pred)
        part = super().call(y_true, ops.stop_gradient(y_pred))
        return 0.5 * super().call(y_true, y_pred) + 0.5 * part


@register
class CoupledLoss(Loss):
    def call(self, y_true, y_pred):
        return super().call(y_true, y_pred) + ops.mean(ops.square(y_pred))


@register
class BroadcastingLoss(Loss):
    """Squared error that turns (batch,) against (batch, 1) into (batch, batch)."""

    def call(self, y_true, y_pred):
        return ops.mean(ops.square(y_true - y_pred), axis=-1)


@register
class WeightlessLoss(Loss):
    def __call__(self, y_true, y_pred, sample_weight=None):
        return super().__call__(y_true, y_pred)


@register
class MisreadingLoss(Loss):
    """Reads one-hot rows of labels by their first column."""

    def rows(self, y_true, y_pred):
        y_true = ops.convert_to_tensor(y_true)
        if len(y_true.shape) == 2 and y_true.shape[-1] > 1:
            y_true = y_true[:, 0]
        return super().rows(y_true, y_pred)


@register
class HalfLoss(Loss):
    """Overflows in float16."""

    def call(self, y_true, y_pred):
        y_pred = ops.convert_to_tensor(y_pred)
        spread = ops.mean(ops.square(y_pred), axis=-1)
        return super().call(y_true, y_pred) + ops.cast(spread, y_pred.dtype)


class UnregisteredLoss(Loss):
    pass


SEQUENCES = ("sequences",)  # Keras' own reduction takes no (batch,) weights there.


@pytest.mark.parametrize(
    "loss",
    [
        keras.losses.CategoricalCrossentropy(from_logits=True),
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
        GoodLoss(0.5),
    ],
)
def test_good_losses(loss):
    testing.check_loss(loss, skip=SEQUENCES)


def test_good_regression_loss():
    rng = np.random.default_rng(0)
    y_true, y_pred = rng.normal(size=(2, 4, 2))
    # Squares of 1e4 overflow half precision, and Keras' `huber` tells 0.0 from an integer.
    testing.check_loss(
        keras.losses.MeanSquaredError(), y_true, y_pred, skip=(*SEQUENCES, "half precision")
    )
    testing.check_loss(
        keras.losses.BinaryCrossentropy(from_logits=True),
        np.array([[0.0], [1.0], [1.0], [0.0]]),
        y_pred[:, :1],
        skip=SEQUENCES,
    )


@pytest.mark.parametrize(
    "cls, label",
    [
        (ScalarLoss, "per sample"),
        (ForgetfulLoss, "config"),
        (DriftingLoss, "config"),
        (UnregisteredLoss, "config"),
        (SaturatingLoss, "finite"),
        (WrongGradientLoss, "gradient"),
        (CoupledLoss, "independence"),
        (WeightlessLoss, "sample weights"),
        (MisreadingLoss, "labels"),
        (HalfLoss, "half precision"),
        (GoodLoss, "sequences"),
    ],
)
def test_broken_losses(cls, label):
    fails(testing.check_loss, label, cls(0.5), skip=() if label == "sequences" else SEQUENCES)


def test_broadcasting_loss():
    y_true, y_pred = np.random.default_rng(0).normal(size=(2, 4, 1))
    fails(
        testing.check_loss,
        "alignment",
        BroadcastingLoss(),
        y_true,
        y_pred,
        skip=("half precision",),
    )


def test_the_loss_that_keras_gets_wrong():
    # Gradient NaN at probability 0.
    loss = keras.losses.CategoricalGeneralizedCrossEntropy()
    loss.from_logits = False
    fails(testing.check_loss, "finite", loss, skip=("config", "labels", *SEQUENCES))


def test_skip_must_name_checks():
    with pytest.raises(ValueError, match="`skip` must name checks of `check_loss`.*jitter"):
        testing.check_loss(GoodLoss(), skip=("jitter",))


def test_the_report_says_what_was_not_checked():
    jit = "passed"
    if keras.backend.backend() == "torch":
        jit = "not applicable: `torch.compile` takes minutes, so the steps ran eagerly"
    report = testing.check_loss(GoodLoss(), skip=SEQUENCES)
    assert report.pop("alignment") == (
        "not applicable: the targets are not those of a regression on `(batch, columns)`"
    )
    assert report.pop("sequences") == "skipped"
    assert report.pop("jit") == jit
    assert set(report.values()) == {"passed"}
    assert "labels" in report

    y_true, y_pred = np.random.default_rng(0).normal(size=(2, 4, 2, 3))
    loss = keras.losses.MeanSquaredError()
    report = testing.check_loss(loss, y_true, y_pred, skip=("half precision", "sample weights"))
    assert [report[name].partition(":")[0] for name in ("labels", "alignment", "sequences")] == [
        "not applicable"
    ] * 3


@pytest.mark.parametrize(
    "report, label, reason",
    [
        (
            lambda: testing.check_regularizer(UnscaledRegularizer()),
            "factor",
            "there is no argument `factor`",
        ),
        (
            lambda: testing.check_constraint(keras.constraints.NonNeg()),
            "double precision",
            "promised by the symbols of keras_regularize",
        ),
        (
            lambda: testing.check_layer(keras.layers.BatchNormalization(), np.ones((2, 3, 3, 1))),
            "mask",
            "the inputs are no sequences",
        ),
        (
            lambda: testing.check_layer(keras.layers.Rescaling(2.0)),
            "randomness",
            "nothing is random in training",
        ),
        (
            lambda: testing.check_metric(keras.metrics.MeanSquaredError(), *np.ones((2, 4, 1))),
            "labels",
            "the labels are not classes of the last axis",
        ),
        (
            lambda: testing.check_model(kr.models.RegularizedModel, skip=SLOW),
            "neutral",
            "no neutral strength is given",
        ),
        (lambda: testing.check_docstring(Documented), "returns", "a class"),
    ],
)
def test_a_check_that_does_not_apply_is_not_said_to_have_passed(report, label, reason):
    found = report()
    assert found[label] == f"not applicable: {reason}"
    assert "passed" in found.values()


def test_a_failure_says_what_was_expected():
    with pytest.raises(AssertionError, match=r"check_loss\(ScalarLoss\).*shape \(4, …\), got \(\)"):
        testing.check_loss(ScalarLoss())


# Regularizers


class Regularizer(keras.regularizers.Regularizer):
    def __init__(self, factor=0.1):
        self.factor = factor

    def __call__(self, x):
        return self.factor * self.norm(ops.convert_to_tensor(x))

    def norm(self, x):
        return ops.sum(ops.square(x))

    def get_config(self):
        return {"factor": self.factor}


@register
class NormRegularizer(Regularizer):
    """NaN gradient at zero."""

    def norm(self, x):
        return ops.sqrt(ops.sum(ops.square(x)))


@register
class VectorRegularizer(Regularizer):
    def norm(self, x):
        return ops.sum(ops.square(x), axis=0)


@register
class OffsetRegularizer(Regularizer):
    def __call__(self, x):
        return super().__call__(x) + 1.0


@register
class DetachedRegularizer(Regularizer):
    def norm(self, x):
        return ops.sum(x * ops.stop_gradient(x))


@register
class UnscaledRegularizer(Regularizer):
    def __init__(self):
        super().__init__()

    def get_config(self):
        return {}


@register
class TupleRegularizer(Regularizer):
    """Comes back from JSON with a list for its tuple."""

    def __init__(self, factor=0.1, axis=(0, 1)):
        super().__init__(factor)
        self.axis = axis

    def get_config(self):
        return {"factor": np.float32(self.factor), "axis": self.axis}


@register
class SteepRegularizer(Regularizer):
    """At weights of 100 its slope is beyond float16."""

    def norm(self, x):
        return ops.sum(ops.cast(x, "float32") ** 4)

    def get_config(self):
        return {"factor": float(self.factor)}


@pytest.mark.parametrize(
    "regularizer",
    [keras.regularizers.L2(0.01), keras.regularizers.L1L2(0.01, 0.1), SteepRegularizer()],
)
@pytest.mark.parametrize("activity", [False, True])
def test_good_regularizers(regularizer, activity):
    testing.check_regularizer(regularizer, activity=activity)


@pytest.mark.parametrize(
    "cls, label",
    [
        (NormRegularizer, "degenerate"),
        (VectorRegularizer, "scalar"),
        (OffsetRegularizer, "factor"),
        (DetachedRegularizer, "gradient"),
        (TupleRegularizer, "config"),
        (Regularizer, "config"),
    ],
)
def test_broken_regularizers(cls, label):
    fails(testing.check_regularizer, label, cls())


def test_the_regularizer_that_keras_gets_wrong():
    # One row has no pair of rows to divide by.
    fails(testing.check_regularizer, "shapes", keras.regularizers.OrthogonalRegularizer(0.01))


# Constraints


class Constraint(keras.constraints.Constraint):
    def get_config(self):
        return {}


@register
class Shrinking(Constraint):
    def __call__(self, w):
        return 0.5 * ops.convert_to_tensor(w)


@register
class Normalizing(Constraint):
    """NaN for zero weights."""

    def __call__(self, w):
        w = ops.convert_to_tensor(w)
        return w / ops.sqrt(ops.sum(ops.square(w), axis=0, keepdims=True))


@register
class Widening(Constraint):
    def __call__(self, w):
        return ops.relu(ops.cast(w, "float32"))


@register
class Flattening(Constraint):
    def __call__(self, w):
        return ops.reshape(ops.relu(ops.convert_to_tensor(w)), (-1,))


@pytest.mark.parametrize("constraint", [keras.constraints.NonNeg(), keras.constraints.MaxNorm(1.0)])
def test_good_constraints(constraint):
    testing.check_constraint(constraint)


@pytest.mark.parametrize(
    "cls, label",
    [
        (Shrinking, "idempotent"),
        (Normalizing, "degenerate"),
        (Widening, "half precision"),
        (Flattening, "shape"),
    ],
)
def test_broken_constraints(cls, label):
    fails(testing.check_constraint, label, cls())


# Activations


@register
def root(x):
    return ops.sqrt(ops.square(x))


@register
def batch_centered(x):
    return x - ops.mean(x, axis=0, keepdims=True)


@register
def straight_through(x):
    return kr.autodiff.straight_through(ops.sign(x), x)


@register
def always_float32(x):
    return ops.tanh(ops.cast(x, "float32"))


def unregistered(x):
    return ops.tanh(x)


@pytest.mark.parametrize("activation", [keras.activations.softmax, keras.activations.silu])
def test_good_activations(activation):
    testing.check_activation(activation)


@pytest.mark.parametrize(
    "activation, label",
    [
        (root, "finite"),
        (batch_centered, "independence"),
        (straight_through, "gradient"),
        (always_float32, "half precision"),
        (unregistered, "saving"),
    ],
)
def test_broken_activations(activation, label):
    fails(testing.check_activation, label, activation)


def test_straight_through_passes_without_the_gradient():
    testing.check_activation(straight_through, skip=("gradient",))


# Layers


class Layer(keras.layers.Layer):
    def __init__(self, rate=0.5, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate
        self.supports_masking = True

    def call(self, inputs, training=None):
        return inputs

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}


@register
class NoisyAtInference(Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.generator = keras.random.SeedGenerator(0)

    def call(self, inputs, training=None):
        return keras.random.dropout(inputs, 0.5, seed=self.generator)


@register
class SharedNoise(Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.generator = keras.random.SeedGenerator(0)

    def call(self, inputs, training=None):
        noise = keras.random.normal((1, inputs.shape[-1]), seed=self.generator, dtype=inputs.dtype)
        return inputs + noise if training else inputs


@register
class MaskDropping(Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = False


@register
class Unsaved(Layer):
    """Its weight is kept out of Keras' sight."""

    def build(self, shape):
        hidden = [keras.Variable(np.ones(shape[-1], "float32"))]
        object.__setattr__(self, "_hidden", {"w": hidden[0]})
        self.step = self.add_weight((), "zeros", name="step")

    def save_own_variables(self, store):
        pass

    def load_own_variables(self, store):
        pass

    def call(self, inputs, training=None):
        return inputs + self.step


@register
class Hungry(Layer):
    def call(self, inputs, training=None):
        return ops.sum(inputs, axis=-1, keepdims=True)

    def compute_output_shape(self, shape):
        return shape


@register
class Dividing(Layer):
    def call(self, inputs, training=None):
        return inputs / ops.max(ops.abs(inputs), axis=-1, keepdims=True)


@register
class Forgetful(Layer):
    def get_config(self):
        return keras.layers.Layer.get_config(self)


@pytest.mark.parametrize(
    "layer, identity",
    [
        (keras.layers.GaussianNoise(0.1), True),
        (keras.layers.Dropout(0.5), True),
        (keras.layers.BatchNormalization(), False),
        (keras.layers.LayerNormalization(), False),
    ],
)
def test_good_layers(layer, identity):
    testing.check_layer(layer, identity_at_inference=identity)


@pytest.mark.parametrize(
    "cls, label",
    [
        (NoisyAtInference, "inference"),
        (SharedNoise, "randomness"),
        (MaskDropping, "mask"),
        (Unsaved, "saving"),
        (Hungry, "symbolic"),
        (Dividing, "finite"),
        (Forgetful, "config"),
    ],
)
def test_broken_layers(cls, label):
    options = {"skip": ("config",)} if cls in (NoisyAtInference, SharedNoise, MaskDropping) else {}
    if cls is Dividing:  # No largest entry in an empty batch either.
        options["skip"] = ("independence",)
    fails(testing.check_layer, label, cls(), **options)


def test_identity_at_inference():
    layer = keras.layers.Rescaling(2.0)
    fails(testing.check_layer, "inference", layer, identity_at_inference=True)


# Metrics


class Metric(keras.metrics.Metric):
    """Mean largest probability."""

    def __init__(self, name="confidence", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.total = self.add_variable((), "zeros", name="total")
        self.count = self.add_variable((), "zeros", name="count")

    def values(self, y_true, y_pred):
        return ops.max(y_pred, axis=-1)

    def update_state(self, y_true, y_pred, sample_weight=None):
        values = self.values(ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred))
        weight = (
            ops.ones_like(values) if sample_weight is None else ops.cast(sample_weight, "float32")
        )
        self.total.assign_add(ops.sum(values * weight))
        self.count.assign_add(ops.sum(weight))

    def result(self):
        return ops.divide_no_nan(self.total.value, self.count.value)


GoodMetric = register(type("GoodMetric", (Metric,), {}))


@register
class LastBatch(Metric):
    def update_state(self, y_true, y_pred, sample_weight=None):
        self.reset_state()
        super().update_state(y_true, y_pred, sample_weight)


@register
class WeightBlind(Metric):
    def update_state(self, y_true, y_pred, sample_weight=None):
        super().update_state(y_true, y_pred)


@register
class EmptyNaN(Metric):
    def result(self):
        return self.total.value / self.count.value


@register
class Accumulating(Metric):
    """Kept in Python: lost by reset, by saving and by compiled code."""

    seen = 0

    def result(self):
        self.seen += 1
        return super().result() * self.seen


def test_good_metrics():
    testing.check_metric(GoodMetric())
    y_true, y_pred = np.random.default_rng(0).normal(size=(2, 6, 1))
    testing.check_metric(keras.metrics.MeanSquaredError(), y_true, y_pred)


@pytest.mark.parametrize(
    "cls, label",
    [
        (LastBatch, "streaming"),
        (WeightBlind, "sample weights"),
        (EmptyNaN, "empty"),
        (Accumulating, "result"),
    ],
)
def test_broken_metrics(cls, label):
    fails(testing.check_metric, label, cls())


# Optimizers


@register
class Ascent(keras.optimizers.SGD):
    def update_step(self, gradient, variable, learning_rate):
        super().update_step(-gradient, variable, learning_rate)


@register
class UnitStep(keras.optimizers.SGD):
    """0/0 for a zero gradient."""

    def update_step(self, gradient, variable, learning_rate):
        norm = ops.sqrt(ops.sum(ops.square(gradient)))
        super().update_step(gradient / norm, variable, learning_rate)


@register
class Undocumented(keras.optimizers.SGD):
    def __init__(self, learning_rate=0.1, boost=2.0, **kwargs):
        super().__init__(learning_rate, **kwargs)
        self.boost = boost


@register
class Amnesiac(keras.optimizers.SGD):
    """Momentum that is not saved."""

    def save_own_variables(self, store):
        pass

    def load_own_variables(self, store):
        pass


@pytest.mark.parametrize(
    "optimizer",
    [keras.optimizers.SGD(0.1, momentum=0.9), keras.optimizers.Adam(0.05)],
)
def test_good_optimizers(optimizer):
    testing.check_optimizer(optimizer)


@pytest.mark.parametrize(
    "optimizer, label",
    [
        (lambda: Ascent(0.1), "descent"),
        (lambda: UnitStep(0.1), "finite"),
        (lambda: Undocumented(0.1), "config"),
        (lambda: Amnesiac(0.1, momentum=0.9), "saving"),
    ],
)
def test_broken_optimizers(optimizer, label):
    fails(testing.check_optimizer, label, optimizer())


# Models


@register
class Halved(kr.models.RegularizedModel):
    """Half the gradient."""

    def gradients(self, objective, weights, batch):
        loss, aux, gradients = super().gradients(objective, weights, batch)
        return loss, aux, [0.5 * g for g in gradients]


@register
class Forgetting(kr.models.RegularizedModel):
    def __init__(self, model, strength=0.1, **kwargs):
        super().__init__(model, **kwargs)
        self.strength = strength

    def get_config(self):
        return {n: value for n, value in super().get_config().items() if n != "strength"}


@register
class Permissive(keras.Model):
    """Wraps anything."""

    def __init__(self, model, **kwargs):
        super().__init__(**kwargs)
        self.model = model


@register
class Copying(kr.models.RegularizedModel):
    """Trains a copy instead of the model it was given."""

    def __init__(self, model, **kwargs):
        if isinstance(model, keras.Model):
            copy = keras.models.clone_model(model)
            copy.set_weights(model.get_weights())
            model = copy
        super().__init__(model, **kwargs)


@register
class SecondPass(kr.models.RegularizedModel):
    """Lets batch statistics move twice."""

    def prepare(self, batch, forward):
        self.model(batch.x, training=True)
        return super().prepare(batch, forward)


SLOW = ("jit", "mixed precision", "saving", "weights")


def test_good_model():
    wrap = kr.models.RegularizedModel
    testing.check_model(wrap, neutral=wrap, skip=SLOW)


@pytest.mark.parametrize(
    "cls, label",
    [
        (Halved, "neutral"),
        (Forgetting, "config"),
        (Permissive, "construction"),
        (Copying, "fit"),
        (SecondPass, "neutral"),
    ],
)
def test_broken_models(cls, label):
    fails(testing.check_model, label, cls, neutral=cls, skip=SLOW)


# Attacks


class Attack:
    def __init__(self, epsilon=0.1):
        self.epsilon = epsilon

    def __call__(self, model, x, y=None):
        return x + self.epsilon * ops.sign(x)

    def get_config(self):
        return {"epsilon": self.epsilon}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@register
class TooFar(Attack):
    def __call__(self, model, x, y=None):
        return x + 2.0 * self.epsilon


@register
class Disturbing(Attack):
    """Runs the model in training mode and keeps what that changes."""

    def __call__(self, model, x, y=None):
        model(x, training=True)
        return ops.convert_to_tensor(x)


@register
class Helping(Attack):
    """Descends the loss."""

    def __call__(self, model, x, y=None):
        moved = kr.attacks.FGSM(epsilon=self.epsilon, bounds=None)(model, x, y)
        return 2.0 * x - moved


def test_good_attack():
    testing.check_attack(kr.attacks.FGSM(epsilon=0.1))


@pytest.mark.parametrize(
    "cls, label",
    [(TooFar, "limits"), (Disturbing, "model"), (Helping, "ascent"), (Attack, "config")],
)
def test_broken_attacks(cls, label):
    fails(testing.check_attack, label, cls())


# Docstrings


def well_documented(x: float, y: float = 1.0) -> float:
    """Adds numbers.

    Args:
        x: A number.
        y: Another.

    Returns:
        The sum.

    Example:

    ```python
    1 + 1
    ```

    Reference: Peano, *Arithmetices principia*, 1889.
    """
    return x + y


class Documented:
    """Adds nothing.

    Example:

    ```python
    1 + 1
    ```

    Reference: Peano, *Arithmetices principia*, 1889.
    """


def documented_as(text, hints=True):
    def function(x: float, y: float = 1.0) -> float:
        return x + y

    function.__doc__ = text
    if not hints:
        function.__annotations__ = {}
    return function


TEXT = well_documented.__doc__


@pytest.mark.parametrize(
    "text, label",
    [
        (None, "summary"),
        (TEXT.replace("Adds numbers.", "Adds numbers " * 20), "summary"),
        (TEXT.replace("        y: Another.\n", ""), "arguments"),
        (TEXT.replace("y: Another.", "y: Another.\n        z: None such."), "arguments"),
        (TEXT.replace("Returns:", "Gives back"), "returns"),
        (TEXT.replace("1889", "long ago"), "reference"),
        (TEXT.replace("```python", "```"), "example"),
        (TEXT.replace("1 + 1", "1 + undefined"), "example"),
    ],
)
def test_broken_docstrings(text, label):
    fails(testing.check_docstring, label, documented_as(text))


def test_docstrings():
    testing.check_docstring(well_documented)
    testing.check_docstring(documented_as(TEXT.replace("1889", "long ago")), reference=False)
    fails(testing.check_docstring, "type hints", documented_as(TEXT, hints=False))


# Pieces


@settings(max_examples=5)
@given(st.lists(st.floats(-3.0, 3.0), min_size=3, max_size=3), st.floats(0.1, 2.0))
def test_finite_differences_accept_the_right_gradient_and_no_other(x, scale):
    x = np.array(x)
    testing.assert_gradient_matches_finite_differences(lambda x: ops.sin(scale * x), x)

    def wrong(x):
        return ops.sin(scale * x) + 0.1 * (x - ops.stop_gradient(x))

    with pytest.raises(AssertionError, match="expected the slope"):
        testing.assert_gradient_matches_finite_differences(wrong, x)


def test_finite_differences_next_to_a_kink():
    x = np.array([0.02, -0.03, 1.0])
    testing.assert_gradient_matches_finite_differences(lambda x: ops.relu(x), x, directions=5)


def test_finite_differences_of_structures():
    x = {"a": np.ones((2, 2)), "b": [np.zeros(3)]}
    testing.assert_gradient_matches_finite_differences(
        lambda x: ops.sum(ops.exp(x["a"])) * ops.cos(x["b"][0]), x
    )


def test_finite_gradients():
    testing.assert_finite_gradients(ops.tanh, np.zeros(3, "float32"))
    with pytest.raises(AssertionError, match=r"gradient of root at \[0\.\].*got"):
        testing.assert_finite_gradients(ops.sqrt, np.zeros(1, "float32"), what="root")
    with pytest.raises(AssertionError, match="value of fn"):
        testing.assert_finite_gradients(ops.log, np.zeros(1, "float32"))


def test_config_round_trip_names_what_is_missing():
    with pytest.raises(AssertionError, match=r"\['scale'\] are missing"):
        testing.assert_config_round_trip(ForgetfulLoss(), ignore=("dtype",))
    testing.assert_config_round_trip(ForgetfulLoss(), ignore=("dtype", "scale"))


if keras.backend.backend() == "torch":
    # Not for every loss: several operations of Keras compute float64 in float32 on torch.
    import torch

    @pytest.mark.parametrize("loss", [GoodLoss(0.5), kr.losses.MaxSup()])
    def test_gradcheck_agrees_with_the_contract(loss):
        labels = torch.tensor([0, 2, 1, 2])
        y_pred = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda z: loss.call(labels, z), (y_pred,))
