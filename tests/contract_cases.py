"""What the contract tests need to know beyond a symbol's golden cases and defaults.

Entries of `CASES`, all optional, by public name:

- `config`: function that returns constructor arguments, where neither golden cases nor defaults will do;
- `check`: function that returns keyword arguments of the symbol's `check_…` (inputs, `skip`, `neutral` …);
- `no_paper`: `True` where there is nothing to cite.

`skip` names checks that a symbol does not promise, with the reason beside it.
"""

import keras
import numpy as np

import keras_regularize as kr

# Random numbers drawn in compiled code differ from eager ones on TensorFlow.
RANDOM_STEP = ("jit",) if keras.backend.backend() == "tensorflow" else ()

# A value per sample that depends on the others, of which a masked position is one.
BATCH_COUPLED = ("independence", "sequences")


def images():
    return np.random.default_rng(0).normal(size=(4, 6, 6, 2))


def selections():
    scores = np.array([0.3, -0.2, 1.0, 0.5, -3.0, 0.1])
    return {"y_true": np.array([1, 0, 1, 0, 1, 0]), "y_pred": scores}


@keras.saving.register_keras_serializable("tests")
class LabelShift(keras.layers.Layer):
    """Lowers the logit of the label in training."""

    def call(self, inputs):
        logits, labels = inputs
        if labels is None:
            return logits
        return logits - keras.ops.one_hot(labels, logits.shape[-1], dtype=logits.dtype)


def network_with_labels():
    x, labels = keras.Input((4,)), keras.Input((), dtype="int32", optional=True)
    hidden = keras.layers.Dense(5, activation="tanh")(x)
    return keras.Model([x, labels], LabelShift()([keras.layers.Dense(3)(hidden), labels]))


CASES = {
    "attacks.VirtualAdversarial": {"check": lambda: {"direction": True}},
    # Each application shrinks further.
    "constraints.SoftThreshold": {"check": lambda: {"skip": ("idempotent",)}},
    "constraints.attach": {"no_paper": True},
    "layers.Cutout": {
        "config": lambda: {"length": 3},
        "check": lambda: {"inputs": images(), "identity_at_inference": True},
    },
    "layers.Reparameterized": {
        "config": lambda: {"layer": keras.layers.Dense(2)},
        "no_paper": True,
    },
    "losses.ACLS": {
        # Top logits above the margin and the others within it, where no gradient is stopped.
        "check": lambda: {"y_true": np.arange(4) % 3, "y_pred": 10 + 2 * images()[:, 0, 0:3, 0]}
    },
    "losses.AnyLoss": {
        "check": lambda: {
            "y_true": np.array([0, 1, 1, 0, 0]),
            "y_pred": np.array([0.48, 0.53, 0.49, 0.51, 0.45]),
            "skip": BATCH_COUPLED,
        }
    },
    "losses.MDCA": {"check": lambda: {"skip": BATCH_COUPLED}},
    "losses.Rejection": {
        # Scores whose exponentials float16 can hold.
        "check": lambda: {"y_true": np.arange(4) % 2, "y_pred": 0.1 * images()[:, 0, 0, 0]}
    },
    "losses.Seesaw": {
        # Correct predictions, where no gradient is stopped.
        "check": lambda: {
            "y_true": images()[:, 0, 0:4, 0].argmax(-1),
            "y_pred": images()[:, 0, 0:4, 0],
        }
    },
    "losses.ZErrorBCE": {"check": lambda: {"skip": BATCH_COUPLED}},
    "losses.ZErrorMSE": {"check": lambda: {"skip": BATCH_COUPLED}},
    "metrics.Coverage": {"check": lambda: selections()},
    "metrics.SelectiveAccuracy": {"check": lambda: selections()},
    "models.AMP": {"check": lambda: {"neutral": {"epsilon": 0.0}}},
    "models.ASAM": {"check": lambda: {"neutral": {"rho": 0.0}}},
    "models.AWP": {"check": lambda: {"neutral": {"gamma": 0.0}}},
    "models.AdversarialTraining": {
        "config": lambda: {"attack": kr.attacks.FGSM(epsilon=0.1)},
        # The one training pass of a step is that on adversarial inputs.
        "check": lambda: {"skip": ("batch norm",)},
    },
    "models.Flooding": {
        "config": lambda: {"level": 0.5},
        "check": lambda: {"neutral": {"level": 0.0}},
    },
    "models.GSAM": {"check": lambda: {"neutral": {"rho": 0.0, "alpha": 0.0}}},
    "models.GradientRegularization": {"check": lambda: {"neutral": {"factor": 0.0}}},
    "models.RegularizedModel": {"check": lambda: {"neutral": {}}, "no_paper": True},
    "models.SAM": {
        "config": lambda: {"rho": 0.1},
        "check": lambda: {"neutral": {"rho": 0.0}},
    },
    "models.TRADES": {
        "config": lambda: {"attack": kr.attacks.FGSM(epsilon=0.1), "beta": 2.0},
        "check": lambda: {"neutral": {"beta": 0.0}},
    },
    "models.VAT": {
        "config": lambda: {"epsilon": 0.5, "seed": 1},
        "check": lambda: {"neutral": {"factor": 0.0}, "skip": RANDOM_STEP},
    },
    "models.WeightPenalty": {
        "config": lambda: {"penalty": keras.regularizers.L1(1.0), "factor": 0.1},
        "check": lambda: {"neutral": {"factor": 0.0}},
        "no_paper": True,
    },
    "models.WithLabels": {
        # The wrapped model takes a list, with labels in training, so it is not called alone.
        "check": lambda: {"network": network_with_labels, "skip": ("inference", "batch norm")},
        "no_paper": True,
    },
    "regularizers.attach": {"no_paper": True},
}

# Public functions that need no registration: they are never saved inside a model. None: the whole namespace.
FUNCTIONS = {
    "analysis": {"robust_accuracy"},
    "autodiff": None,
    "losses": {
        "class_balanced_weights",
        "decoupled_distillation_loss",
        "distillation_loss",
        "early_learning_penalty",
    },
    "testing": None,
    "utils": {"with_index"},
}
