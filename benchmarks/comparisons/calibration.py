"""Calibration: confidence that can be believed, on digits under so much noise that many cannot be told apart."""

import functools

import keras
import numpy as np
from keras import layers, ops

import keras_regularize as kr
from benchmarks.comparisons._comparison import Data, Measure, Method, Task, grid
from benchmarks.comparisons._digits import digits, focal, keras_methods, mlp, scores

NOISE = 0.4

network = functools.partial(mlp, hidden=1, units=64)


def data(generator):
    clean = digits(generator, 400, 300)

    def noisy(part):
        x, y = part
        return x + NOISE * generator.normal(size=x.shape).astype("float32"), y

    return Data(noisy(clean.train), noisy(clean.validation), noisy(clean.test))


def crossentropy(logits, y):
    log_p = ops.convert_to_numpy(ops.log_softmax(logits, axis=-1))
    return -np.mean(log_p[np.arange(len(y)), y])


def measure(model, data, part):
    x, y = getattr(data, part)
    logits = scores(model, x)
    calibration = kr.metrics.ExpectedCalibrationError(from_logits=True)
    calibration.update_state(y, logits)
    return {
        "ece": float(calibration.result()),
        "crossentropy": crossentropy(logits, y),
        "accuracy": np.mean(np.argmax(logits, axis=-1) == y),
    }


def adam():
    return keras.optimizers.Adam(5e-3)


def temperature_scaling(run):
    """Plain training, and then the one number that makes its logits fit the validation data best."""
    model = run.train(network())
    x, y = run.data.validation
    logits = scores(model, x)
    best = min(np.geomspace(0.5, 20, 100), key=lambda t: crossentropy(logits / t, y))
    return keras.Sequential([model, layers.Rescaling(1 / best)])


def ensemble(run, members):
    return kr.models.Ensemble([run.train(network()) for _ in range(members)])


def averaged(run, **setting):
    averaging = kr.callbacks.StochasticWeightAveraging(start=run.epochs // 2, **setting)
    return run.train(network(), callbacks=[averaging])


def loss(key, settings):
    make = getattr(kr.losses, key)
    return Method(f"losses.{key}", lambda run, **s: run.train(network(), make(**s)), settings)


METHODS = [
    *keras_methods(network, learning_rate=5e-3),
    Method(
        None,
        lambda run, gamma: run.train(network(), focal(gamma)),
        grid(gamma=(1.0, 2.0, 3.0, 5.0)),
        "focal loss",
    ),
    Method(None, temperature_scaling, label="temperature scaling"),
    loss("ACLS", grid(margin=(1.0, 3.0, 6.0, 10.0))),
    loss("FLSD", grid(gamma=(1.0, 2.0, 3.0, 5.0), low_confidence_gamma=(2.0, 3.0, 5.0, 7.0))),
    loss("MDCA", grid(factor=(1.0, 5.0, 20.0, 20.0), gamma=(0.0, 0.0, 0.0, 2.0))),
    loss("MaxSup", grid(factor=(0.02, 0.05, 0.1, 0.2))),
    loss("MbLS", grid(margin=(1.0, 3.0, 6.0, 10.0))),
    loss("SpectralDecoupling", grid(factor=(0.001, 0.01, 0.03, 0.1))),
    Method(
        "models.SAM",
        lambda run, **s: run.train(kr.models.SAM(network(), **s)),
        grid(rho=(0.05, 0.1, 0.2, 0.4)),
        passes=2,
    ),
    Method(
        "models.RDrop",
        lambda run, rate, alpha: run.train(kr.models.RDrop(network(dropout=rate), alpha=alpha)),
        grid(rate=(0.25, 0.25, 0.5, 0.5), alpha=(1.0, 3.0, 1.0, 3.0)),
        passes=2,
    ),
    Method(
        "callbacks.StochasticWeightAveraging",
        averaged,
        grid(learning_rate=(None, 0.002, 0.01, 0.02)),
    ),
    Method("models.Ensemble", ensemble, [{"members": 4}], passes=4),
]

PAGE = """
**Stop in time, or use the dropout or weight decay that Keras has.** Each of them calibrates as well as the best
loss made for it, and improves accuracy and log loss at the same time. Where training has to run to its end,
take `kr.losses.FLSD`: it brings the calibration error from {rows[plain].ece} % to {rows[losses.FLSD].ece} %
without anything else to tune, and has an accuracy of {rows[losses.FLSD].accuracy} % against
{rows[plain].accuracy} %.

{table}

{picture}

## What was compared

Digits under so much noise that many cannot be told apart, 400 to train a small network on, until it is far too
sure. Settings were chosen by the log loss, not by the calibration error: a prediction must be sharp *and*
honest to keep it low, while always giving the class frequencies is perfectly calibrated. For that reason look
at all three columns.

## What to use

- **Early stopping, dropout, weight decay** first: log loss {rows[early stopping].crossentropy},
  {rows[dropout].crossentropy} and {rows[weight decay].crossentropy} against {rows[plain].crossentropy} of plain
  training, and no method of the package has a lower one. `kr.models.RDrop` on top of dropout
  ({rows[models.RDrop].crossentropy}) adds nothing to dropout alone, for twice the passes.
- **Temperature scaling**, five lines after training, when the trained network must stay as it is: it leaves
  accuracy alone and has a calibration error of {rows[temperature scaling].ece} %.
- **`kr.losses.FLSD`** or Keras' focal loss, between which there is no difference here, when all epochs are
  needed.
- `kr.losses.SpectralDecoupling` and `kr.losses.MDCA` (with a focusing exponent) have as low a calibration
  error. But their accuracy is below that of plain training, and most so that of `SpectralDecoupling`
  ({rows[losses.SpectralDecoupling].accuracy} %), `kr.losses.MaxSup` ({rows[losses.MaxSup].accuracy} %) and
  label smoothing ({rows[label smoothing].accuracy} %).
- `kr.losses.MbLS` and `kr.losses.ACLS` calibrate less than the others once their margin is chosen by the log
  loss. The guide on calibration shows what a smaller margin does.
- `kr.callbacks.StochasticWeightAveraging` and `kr.models.SAM` help a little, beside what they are for. A
  `kr.models.Ensemble` of four overconfident networks stays overconfident.

## Limits

One small network, one kind of noise, inputs that are ambiguous. Where a network is calibrated as it is, a loss
that lowers confidence makes it worse; the guide on calibration shows such a case. Measure first, with
`kr.metrics.ExpectedCalibrationError`.

{protocol}
"""

TASK = Task(
    title="calibration",
    data=data,
    measure=measure,
    measures={
        "ece": Measure("calibration error (ECE), %", more_is_better=False),
        "crossentropy": Measure("log loss", more_is_better=False, percent=False),
        "accuracy": Measure("accuracy, %"),
    },
    chosen_by="crossentropy",
    claims=[
        *(
            (better, "plain", measure)
            for better in ("early stopping", "dropout", "weight decay")
            for measure in ("ece", "crossentropy", "accuracy")
        ),
        *(
            (better, worse, "crossentropy")
            for better in ("early stopping", "dropout")
            for worse in ("losses.FLSD", "losses.MDCA", "losses.SpectralDecoupling", "models.SAM")
        ),
        ("temperature scaling", "plain", "ece"),
        ("plain", "losses.FLSD", "accuracy"),
        ("plain", "losses.SpectralDecoupling", "accuracy"),
        ("plain", "losses.MaxSup", "accuracy"),
        ("plain", "label smoothing", "accuracy"),
        ("losses.FLSD", "losses.MbLS", "ece"),
        ("losses.FLSD", "losses.ACLS", "ece"),
        ("callbacks.StochasticWeightAveraging", "plain", "ece"),
        ("models.SAM", "plain", "ece"),
        ("losses.FLSD", "models.Ensemble", "ece"),
    ],
    methods=METHODS,
    optimizer=adam,
    epochs=40,
    batch_size=50,
    page=PAGE,
)
