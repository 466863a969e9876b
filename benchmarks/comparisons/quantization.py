"""Few bits: the kernels of a small network get one or two bits a weight."""

import dataclasses

import keras
import numpy as np
from keras import layers

import keras_regularize as kr
from benchmarks.comparisons._comparison import PLAIN, Measure, Method, Task, grid
from benchmarks.comparisons._digits import CLASSES, accuracy, digits

BITS = 2
UNITS = 32
#: Share of the epochs in which the rounded network trains on.
AFTER = 1 / 3
#: Bits of a weight that has three values.
TERNARY = float(np.log2(3))


@dataclasses.dataclass(frozen=True)
class Quantized:
    """A network and the bits of its kernel weights."""

    net: keras.Model
    bits: float


def data(generator):
    return digits(generator, 800, 300)


def measure(quantized, data, part):
    return {"accuracy": accuracy(quantized.net, *getattr(data, part)), "bits": quantized.bits}


def adam(learning_rate=3e-3):
    return keras.optimizers.Adam(learning_rate)


def slow():
    """For a network that was trained before."""
    return adam(1e-3)


def network(wrap=lambda layer: layer, between=(), **dense):
    hidden = []
    for _ in range(2):
        hidden += [wrap(layers.Dense(UNITS, activation="relu", **dense)), *(b() for b in between)]
    return keras.Sequential([keras.Input((64,)), *hidden, wrap(layers.Dense(CLASSES, **dense))])


def trained_float(run, **dense):
    return run.train(network(**dense), epochs=(1 - AFTER) * run.epochs)


def plain(run):
    return Quantized(run.train(network()), 32)


def keras_own(run, mode, bits):
    net = run.train(network())
    net.quantize(mode)
    net.compile()
    return Quantized(net, bits)


def rounded(net, x, bits=BITS):
    """The network with two bits a weight, its steps fitted to some data."""
    result = network(lambda layer: kr.layers.QuantizedWeights(layer, bits))
    wrapped = [layer.layer for layer in result.layers if hasattr(layer, "layer")]
    for source, target in zip([layer for layer in net.layers if layer.weights], wrapped):
        target.set_weights(source.get_weights())
    kr.layers.calibrate_quantizers(result, x)
    return result


def after_training(run, **dense):
    """Rounds and does not train on."""
    return Quantized(rounded(run.train(network(**dense)), run.x), BITS)


def in_training(run, learning_rate):
    net = rounded(trained_float(run), run.x)
    return Quantized(run.train(net, optimizer=adam(learning_rate), epochs=AFTER * run.epochs), BITS)


def flattened(run, factor):
    """Trains for a flat distribution, then rounds and trains on."""
    regularizer = kr.regularizers.WeightDistribution(factor, factor)
    net = rounded(trained_float(run, kernel_regularizer=regularizer), run.x)
    return Quantized(run.train(net, optimizer=slow(), epochs=AFTER * run.epochs), BITS)


def flattened_only(run, factor):
    return after_training(
        run, kernel_regularizer=kr.regularizers.WeightDistribution(factor, factor)
    )


def projected(constraint, bits, regularizer=None):
    """Trains, drawn to the values by a regularizer, rounds to them, and trains the biases on."""

    def train(run, **setting):
        dense = {"kernel_regularizer": regularizer(**setting)} if regularizer else {}
        net = trained_float(run, **dense)
        for layer in net.layers:
            layer.kernel.assign(constraint(layer.kernel.value))
            layer.kernel.trainable = False
        return Quantized(run.train(net, optimizer=slow(), epochs=AFTER * run.epochs), bits)

    return train


def in_bits(run, learning_rate, bits):
    net = network(lambda layer: kr.layers.BitWeights(layer, bits))
    run.train(net, optimizer=adam(learning_rate))
    return Quantized(net, TERNARY if bits == 2 else bits)


def elastic(run, learning_rate, distribution_factor):
    net = trained_float(run)
    model = kr.models.ElasticQuantization(
        net, (BITS, 4, 8), distribution_factor=distribution_factor, seed=run.seed
    )
    model.calibrate(run.x)
    run.train(model, optimizer=adam(learning_rate), epochs=AFTER * run.epochs)
    # What it trains as the smallest network: the ends keep the most bits.
    bits = [8, BITS, 8]
    model.select(bits, 8)
    sizes = [np.prod(layer.kernel.shape) for layer in net.layers]
    return Quantized(model, np.average(bits, weights=sizes))


FACTORS = (1e-3, 1e-2, 1e-1, 1.0)
RATES = (3e-4, 1e-3, 3e-3, 1e-2)

METHODS = [
    Method(None, plain, label=PLAIN),
    Method(None, lambda run: keras_own(run, "int8", 8), label='quantize("int8"), 8 bits'),
    Method(None, lambda run: keras_own(run, "int4", 4), label='quantize("int4"), 4 bits'),
    Method(
        "layers.QuantizedWeights",
        after_training,
        label="layers.QuantizedWeights, after training",
    ),
    Method(
        "layers.QuantizedWeights",
        in_training,
        grid(learning_rate=RATES),
        "layers.QuantizedWeights, in training",
    ),
    Method(
        "regularizers.WeightDistribution",
        flattened_only,
        grid(factor=FACTORS),
        "regularizers.WeightDistribution, after training",
    ),
    Method(
        "regularizers.WeightDistribution",
        flattened,
        grid(factor=FACTORS),
        "regularizers.WeightDistribution, in training",
    ),
    Method(
        "models.ElasticQuantization",
        elastic,
        grid(learning_rate=(1e-3, 3e-3, 1e-3, 3e-3), distribution_factor=(0.0, 0.0, 1.0, 1.0)),
        "models.ElasticQuantization, 6.2 bits",
        passes=5 / 3,
    ),
    Method(
        "layers.BitWeights",
        lambda run, learning_rate: in_bits(run, learning_rate, 2),
        grid(learning_rate=RATES),
        "layers.BitWeights, ternary",
    ),
    Method(
        "layers.BitWeights",
        lambda run, learning_rate: in_bits(run, learning_rate, 1),
        grid(learning_rate=RATES),
        "layers.BitWeights, binary",
    ),
    Method("constraints.Ternary", projected(kr.constraints.Ternary(), TERNARY)),
    Method("constraints.Binary", projected(kr.constraints.Binary(), 1)),
    Method(
        "regularizers.TernaryCauchySchwarz",
        projected(kr.constraints.Ternary(), TERNARY, kr.regularizers.TernaryCauchySchwarz),
        grid(factor=(0.1, 1.0, 10.0, 100.0)),
    ),
    Method(
        "regularizers.BinaryCauchySchwarz",
        projected(kr.constraints.Binary(), 1, kr.regularizers.BinaryCauchySchwarz),
        grid(factor=(0.1, 1.0, 10.0, 100.0)),
    ),
]

PAGE = """
**For four bits and more use Keras' `quantize`**: eight bits cost nothing here, four half a point. **For two,
`kr.layers.QuantizedWeights`**, and train on after rounding:
{rows[layers.QuantizedWeights, in training].accuracy} % against {rows[plain].accuracy} % of float weights, where
rounding alone leaves {rows[layers.QuantizedWeights, after training].accuracy} %. **For weights of three values**
`kr.regularizers.TernaryCauchySchwarz` is as good ({rows[regularizers.TernaryCauchySchwarz].accuracy} %), **for
one bit** `kr.layers.BitWeights` is best ({rows[layers.BitWeights, binary].accuracy} %).

{table}

{picture}

## What was compared

Eight hundred digits and a network with two hidden layers of 32 units, so that it has few weights to spare. All of
its kernels get the bits in the table, biases stay float. Three values are log2(3) = 1.58 bits. Where nothing else
is said, a network trains in float for two thirds of the epochs, is rounded, and trains on for the last third. As
the rows differ in bits, compare those with the same number.

## What to use

- **`kr.layers.QuantizedWeights`** around every layer, `kr.layers.calibrate_quantizers` once, and then `fit`
  again, with {rows[layers.QuantizedWeights, in training].setting} here.
- `kr.regularizers.WeightDistribution`, which flattens the distribution of weights before they are rounded,
  changes neither the result without training on
  ({rows[regularizers.WeightDistribution, after training].accuracy} %) nor that with it
  ({rows[regularizers.WeightDistribution, in training].accuracy} %) by more than chance.
- **`kr.regularizers.TernaryCauchySchwarz`** draws weights to three values while they are float;
  `kr.constraints.Ternary` then rounds them, and only the biases train on. Without it, the constraint alone has
  {rows[constraints.Ternary].accuracy} %. For one bit `kr.regularizers.BinaryCauchySchwarz` does the same
  ({rows[regularizers.BinaryCauchySchwarz].accuracy} % against {rows[constraints.Binary].accuracy} %). They take
  a large factor: {rows[regularizers.TernaryCauchySchwarz].setting}, the largest that was tried, and
  {rows[regularizers.BinaryCauchySchwarz].setting}.
- **`kr.layers.BitWeights`** trains bits from the first step on and needs no float training before. With one bit
  it is ahead of the others, with three values ({rows[layers.BitWeights, ternary].accuracy} %) it is not.
- `kr.models.ElasticQuantization` ({rows[models.ElasticQuantization, 6.2 bits].accuracy} %) is one network for
  two, four and eight bits, with inputs of eight bits in every layer. Measured is the smallest that it trains,
  whose first and last layer keep eight bits: in a network of three layers most weights, 6.2 bits in the mean. Take
  it to choose the bits after training, not for one width.

## Limits

One small network with dense layers. The weights are stored in few bits, but how fast that is depends on the
hardware; inputs of the layers are float but in `quantize` and `ElasticQuantization`. The last three methods
of the table spread much over seeds.

{protocol}
"""

TASK = Task(
    title="quantization to few bits",
    data=data,
    measure=measure,
    measures={
        "accuracy": Measure("accuracy, %"),
        "bits": Measure("bits a weight", more_is_better=False, percent=False),
    },
    claims=[
        *(
            ("layers.QuantizedWeights, in training", worse, "accuracy")
            for worse in (
                "layers.QuantizedWeights, after training",
                "layers.BitWeights, ternary",
            )
        ),
        ("plain", 'quantize("int4"), 4 bits', "accuracy"),
        ("plain", "layers.QuantizedWeights, in training", "accuracy"),
        ("regularizers.TernaryCauchySchwarz", "constraints.Ternary", "accuracy"),
        ("regularizers.TernaryCauchySchwarz", "layers.BitWeights, ternary", "accuracy"),
        ("regularizers.BinaryCauchySchwarz", "constraints.Binary", "accuracy"),
        ("layers.BitWeights, binary", "regularizers.BinaryCauchySchwarz", "accuracy"),
    ],
    methods=METHODS,
    optimizer=adam,
    epochs=45,
    batch_size=50,
    page=PAGE,
)
