"""
# Write your own train step

Many methods change neither the loss function nor the layers but how a step of training is taken: they evaluate the
gradient elsewhere, reweight samples, add attacked inputs, remember something from step to step. With
`kr.models.RegularizedModel` such a method is about fifteen lines, works on JAX, TensorFlow and PyTorch, with `fit`,
mixed precision, batch normalization and saving, and nests with every other method.

A subclass overrides the hook it is about:

| hook | called | does |
|---|---|---|
| `prepare(batch, forward)` | once a step, undifferentiated | adds what the objective needs to the batch |
| `objective(batch, forward)` | at every gradient query | the differentiable scalar; pure |
| `gradients(objective, weights, batch)` | once a step | queries gradients, also at other weights |
| `after_update(batch, aux, gradients)` | once a step, after the optimizer | stores what was learnt |

`super()` is always the rest: the method wrapped inside, or the plain step.

**Use this when** you have an idea, or a paper, that changes the gradient of a step, and want it to work with everything
else.

**Do not when** a loss function, a layer or a regularizer can say it: those are simpler, and need no train step.
"""

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
## The smallest example

Sample variance penalization wants losses that are small and alike: it adds their standard deviation over the batch
to their mean. That is another objective, so it overrides `objective`. `forward.loss(batch)`, called inside `super()`,
is the compiled loss with everything Keras adds to it; `forward.outputs_at` has the outputs of that same pass, and
`forward.sample_losses` the compiled loss per sample.

Four things to note. The class has no `get_config`: what its constructor takes is kept under the same name, so
that a saved model has it. The hook returns the loss and a dictionary of values for `after_update`. It assigns nothing, since a
gradient method may call it several times a step. And the derivative of a square root at zero is
infinite, so `kr.numerics` has one that is not.
"""


@keras.saving.register_keras_serializable("guide")
class VariancePenalty(kr.models.RegularizedModel):
    """Adds `factor` times the standard deviation of the losses of a batch."""

    def __init__(self, model, factor=0.2, **kwargs):
        super().__init__(model, **kwargs)
        self.factor = factor

    def objective(self, batch, forward):
        loss, values = super().objective(batch, forward)
        losses = forward.sample_losses(batch.y, forward.outputs_at(batch.x))
        deviation = kr.numerics.safe_sqrt(ops.var(losses))
        return loss + self.factor * ops.cast(deviation, loss.dtype), values


def network():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(10),
        ]
    )


def train(model, labels, epochs=EPOCHS):
    model.compile(
        keras.optimizers.SGD(0.05, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(x_train, labels, batch_size=50, epochs=epochs, verbose=0)
    return model.evaluate(x_test, y_test, verbose=0, return_dict=True)["accuracy"]


print(f"plain             test accuracy {train(network(), y_train):.3f}")
model = VariancePenalty(network(), factor=0.2)
print(f"variance penalty  test accuracy {train(model, y_train):.3f}")

"""
## A method with a memory

Among wrong labels, samples with a large loss are probably the wrong ones. This method leaves out samples whose
loss is above a multiple of its running mean. The running mean is a variable; made in `__init__`, it is tracked, hence
saved with the model and carried through compiled steps.

Which samples count is decided once a step, at the weights the step starts from, and is not differentiated: that is
`prepare`. It returns a changed copy of the batch, here with other sample weights, and leaves a note in
`batch.extra` under its own key. `after_update` reads the note and moves the mean; no other hook may assign it.
"""


@keras.saving.register_keras_serializable("guide")
class SkipOutliers(kr.models.RegularizedModel):
    """Leaves out samples whose loss exceeds `multiple` times the running mean."""

    def __init__(self, model, multiple=0.8, momentum=0.98, **kwargs):
        super().__init__(model, **kwargs)
        self.multiple = multiple
        self.momentum = momentum
        # High at first, so that nothing is left out before there is something to compare with.
        self.running_mean = keras.Variable(4.0, trainable=False, name="running_mean")

    def prepare(self, batch, forward):
        batch = super().prepare(batch, forward)
        losses = ops.cast(forward.sample_losses(batch.y, forward(batch.x)), "float32")
        kept = ops.cast(losses <= self.multiple * self.running_mean, "float32")
        weight = kept if batch.sample_weight is None else kept * batch.sample_weight
        return batch.replace(sample_weight=weight).add(**{self.key: ops.mean(losses)})

    def after_update(self, batch, aux, gradients):
        super().after_update(batch, aux, gradients)
        mean = batch.extra[self.key]
        self.running_mean.assign(self.momentum * self.running_mean + (1 - self.momentum) * mean)


generator = np.random.default_rng(0)
random_label = generator.random(len(y_train)) < 0.5
y_noisy = np.where(random_label, generator.integers(0, 10, len(y_train)), y_train)

model = SkipOutliers(network())
found = {
    "model": train(network(), y_noisy, 2 * EPOCHS),
    "SkipOutliers(model)": train(model, y_noisy, 2 * EPOCHS),
}
for name, accuracy in found.items():
    print(f"{name:24s} test accuracy {accuracy:.3f} with half the labels random")
print(f"running mean of the loss {float(model.running_mean):.2f}")

"""
## It nests

A wrapper is a model, so wrappers wrap wrappers, yours and the package's. The outermost owns the step; every hook
passes on to the next one inside. Outliers are found once a step, and SAM takes both its gradients without them.
"""

model = kr.models.SAM(SkipOutliers(network()), rho=0.2)
accuracy = found["SAM(SkipOutliers(model))"] = train(model, y_noisy, 2 * EPOCHS)
print(f"SAM(SkipOutliers(model)) test accuracy {accuracy:.3f} with half the labels random")

"""
## What a step costs

Time on a small network says little; passes through the network do not lie. A layer that counts its calls, run
eagerly, shows them. Plain training makes one pass a step. The variance penalty reuses its outputs, so it costs nothing;
finding outliers costs a forward pass; SAM doubles what is differentiated, not what is prepared.
"""


class Counter(keras.layers.Layer):
    """Counts how often it is called."""

    calls = 0

    def call(self, inputs):
        Counter.calls += 1
        return inputs


def forward_passes(wrap):
    net = keras.Sequential([keras.Input((64,)), Counter(), keras.layers.Dense(10)])
    model = wrap(net)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, run_eagerly=True)
    model.train_on_batch(x_train[:50], y_train[:50])
    Counter.calls = 0
    model.train_on_batch(x_train[:50], y_train[:50])
    return Counter.calls


SAM, VAT = kr.models.SAM, kr.models.VAT
wrappers = {
    "model": lambda net: net,
    "VariancePenalty(model)": VariancePenalty,
    "SkipOutliers(model)": SkipOutliers,
    "SAM(model)": SAM,
    "SAM(SkipOutliers(model))": lambda net: SAM(SkipOutliers(net)),
    "SAM(VAT(VariancePenalty(model)))": lambda net: SAM(VAT(VariancePenalty(net), epsilon=1.0)),
}
passes = {name: forward_passes(wrap) for name, wrap in wrappers.items()}
for name, number in passes.items():
    print(f"{name:34s} {number} forward passes")

"""
## Checking it

`kr.testing.check_model` puts a method through what every method of this package keeps: it can be saved and goes on
training with the same next step, batch normalization moves once a step, a compiled step equals an eager one,
`mixed_float16` gives finite numbers, and at neutral strength (`factor=0`) it trains exactly like the plain model.
It raises at the first thing that does not hold.
"""

kr.testing.check_model(
    lambda net: VariancePenalty(net, factor=0.2),
    neutral=lambda net: VariancePenalty(net, factor=0.0),
)
kr.testing.check_model(
    SkipOutliers,
    neutral=lambda net: SkipOutliers(net, multiple=1e9),
)
print("both methods keep the contract")

"""
## What it brought

The accuracies with half the labels random, and what each cost.
"""

print(f"{'':24s} test accuracy  forward passes")
for name, accuracy in found.items():
    print(f"{name:24s} {accuracy:13.3f} {passes[name]:15d}")
