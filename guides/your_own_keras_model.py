"""
# My model has its own train step, compile or compute_loss: what now?

Wrappers train any `keras.Model`, also one whose class overrides what Keras does. What such a class defines goes on
acting under a wrapper:

| your class overrides | under a wrapper |
|---|---|
| `call`, `add_loss`, regularizers | act, at the weights that the method looks at |
| `compute_loss` | acts at every query of the gradient |
| `compute_metrics`, `metrics` | act; metrics kept as attributes are logged and reset |
| `test_step`, `predict_step` | act in `evaluate`, in the validation of `fit` and in `predict` |
| `compile` with further arguments | gets them |
| a KerasHub preprocessor | prepares what is passed to `fit`, `evaluate` and `predict` |
| `train_step` | is refused: two steps cannot both act |

This guide moves a model out of the last row into the others.

**Use this when** a wrapper refuses your model, or you want to know what of your class still acts under one.

**Do not when** your model is built of layers and compiled with a loss: it can be wrapped as it is.
"""

import textwrap

import keras
import numpy as np
from keras import ops
from sklearn.datasets import load_digits

import keras_regularize as kr

EPOCHS = 20

x, y = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(y))
x, y = (x[order] / 16).astype("float32"), y[order]
x_train, y_train, x_test, y_test = x[:1000], y[:1000], x[1000:], y[1000:]

"""
## A train step of one's own

Here is the kind of class that many code examples have: a classifier that also rebuilds its input, with both terms
added up in a `train_step`. Nothing can be wrapped around it, and the error says so before anything is trained.
"""


class Rebuilding(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.encoder = keras.layers.Dense(64, "relu")
        self.classifier = keras.layers.Dense(10)
        self.decoder = keras.layers.Dense(64)
        self.error_of_rebuilt = keras.metrics.Mean("rebuilt")

    def call(self, x):
        code = self.encoder(x)
        return {"scores": self.classifier(code), "rebuilt": self.decoder(code)}


class WithTrainStep(Rebuilding):
    def train_step(self, *arguments):
        return super().train_step(*arguments)


try:
    kr.models.SAM(WithTrainStep())
except ValueError as error:
    print("\n".join(textwrap.wrap(str(error), 80)))

"""
## The same as `compute_loss`

What a train step computes between the prediction and the gradient is a loss of inputs, labels and outputs, and that is
what `compute_loss` gets. The gradient, the optimizer and the metrics are then no concern of the class, and it needs no
code for a backend. Arguments of `compile` that the class adds reach it, and so does a metric it keeps.
"""


class WithComputeLoss(Rebuilding):
    def compile(self, rebuilding=0.5, **kwargs):
        super().compile(**kwargs)
        self.rebuilding = rebuilding

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
        labels = super().compute_loss(x, {"scores": y}, {"scores": y_pred["scores"]}, sample_weight)
        rebuilt = ops.mean(ops.square(x - y_pred["rebuilt"]))
        self.error_of_rebuilt.update_state(rebuilt)
        return labels + self.rebuilding * rebuilt

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        y_pred = {"scores": y_pred["scores"]}
        return super().compute_metrics(x, {"scores": y}, y_pred, sample_weight)


def trained(wrap):
    keras.utils.set_random_seed(0)
    model = wrap(WithComputeLoss())
    model.compile(
        optimizer=keras.optimizers.Adam(1e-3),
        loss={"scores": keras.losses.SparseCategoricalCrossentropy(from_logits=True)},
        metrics={"scores": ["accuracy"]},
        rebuilding=0.5,
    )
    history = model.fit(x_train, y_train, batch_size=50, epochs=EPOCHS, verbose=0).history
    scores = model.predict(x_test, verbose=0)["scores"]
    return history, np.mean(np.argmax(scores, axis=1) == y_test)


print(f"{'':6s} {'loss':>9s} {'rebuilt':>9s} {'accuracy':>9s}  test accuracy")
for name, wrap in {"plain": lambda net: net, "SAM": lambda net: kr.models.SAM(net, 0.1)}.items():
    history, accuracy = trained(wrap)
    last = " ".join(f"{history[key][-1]:9.3f}" for key in ("loss", "rebuilt", "accuracy"))
    print(f"{name:6s} {last} {accuracy:14.3f}")

"""
## A term that needs its own gradient

If the train step queried gradients elsewhere, remembered something, or changed the inputs, it is a method: write it as
a subclass of `kr.models.RegularizedModel`, as in [Write your own train step](write_your_own_train_step.md). It then
nests with every other method.

## What stays outside

- Two networks with an optimizer each, such as a GAN, are no single objective; a wrapper has one.
- Methods that weigh or compare samples (`GroupDRO`, `Prospect`, `CoTeaching` …) need a compiled loss with a value per
  sample. A `compute_loss` of the class gives one number; they pass it the weights and leave the rest to it.
- A dictionary of labels with the key `"label"` goes to `compute_loss` whole. Only methods that read further columns
  take it apart, see `reads_columns` of `kr.models.RegularizedModel`.
"""
