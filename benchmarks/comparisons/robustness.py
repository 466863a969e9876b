"""Robustness: every pixel of a digit may move by a tenth of its range."""

import keras
from keras import layers

import keras_regularize as kr
from benchmarks.comparisons._comparison import Data, Measure, Method, Task, grid
from benchmarks.comparisons._digits import accuracy, digits, keras_methods, mlp

EPSILON = 0.1
STEPS = 5
TESTED = 500


def data(generator):
    drawn = digits(generator, 800, 200)
    x, y = drawn.test
    return Data(drawn.train, drawn.validation, (x[:TESTED], y[:TESTED]))


def measure(model, data, part):
    x, y = getattr(data, part)
    attack = kr.attacks.APGD(EPSILON, steps=20, from_logits=True, seed=0)
    return {
        "robust": kr.analysis.robust_accuracy(model, x, y, attack, batch_size=len(x)),
        "accuracy": accuracy(model, x, y),
    }


def adam():
    return keras.optimizers.Adam(2e-3)


def pgd(epsilon=EPSILON, steps=STEPS, **options):
    return kr.attacks.PGD(epsilon, 1.25 * epsilon / steps, steps, **options)


def noisy(run, stddev):
    net = mlp()
    model = keras.Sequential([keras.Input((64,)), layers.GaussianNoise(stddev), *net.layers])
    return run.train(model)


def adversarial(run, epsilon, steps=STEPS):
    return run.train(kr.models.AdversarialTraining(mlp(), pgd(epsilon, steps)))


def paired(key, settings, passes=STEPS + 2, **attack):
    """A method that compares a batch with its attacked version."""
    make = getattr(kr.models, key)
    return Method(
        f"models.{key}",
        lambda run, **s: run.train(make(mlp(), pgd(**attack), **s)),
        settings,
        passes=passes,
    )


def perturbed_weights(run, gamma):
    return run.train(kr.models.AWP(kr.models.AdversarialTraining(mlp(), pgd()), gamma=gamma))


def free(run, replays, epsilon):
    model = kr.models.FreeAdversarialTraining(
        mlp(), epsilon, replays, batch_size=run.task.batch_size
    )
    return run.train(model, epochs=run.epochs / replays)


def distilled(run, factor):
    teacher = run.train(mlp())
    model = kr.models.SRSTAWR(mlp(), teacher, pgd(loss="kl"), factor)
    return run.train(model)


def wrapped(key, settings, passes, **options):
    make = getattr(kr.models, key)
    return Method(
        f"models.{key}",
        lambda run, **s: run.train(make(mlp(), **s, **options)),
        settings,
        passes=passes,
    )


RADII = (0.08, 0.1, 0.12, 0.15)

METHODS = [
    *keras_methods(learning_rate=2e-3),
    Method(None, noisy, grid(stddev=(0.05, 0.1, 0.2, 0.4)), "Gaussian noise"),
    Method(
        "attacks.FGSM",
        lambda run, epsilon: run.train(
            kr.models.AdversarialTraining(mlp(), kr.attacks.FGSM(epsilon))
        ),
        grid(epsilon=RADII),
        "models.AdversarialTraining, FGSM",
        2,
    ),
    Method(
        "models.AdversarialTraining",
        adversarial,
        grid(epsilon=RADII),
        "models.AdversarialTraining, PGD",
        STEPS + 1,
    ),
    Method(
        "models.AWP",
        perturbed_weights,
        grid(gamma=(0.003, 0.01, 0.03, 0.1)),
        "models.AWP, PGD",
        STEPS + 2,
    ),
    paired("TRADES", grid(beta=(1.0, 3.0, 6.0, 12.0)), loss="kl", random_start="gaussian"),
    paired("MART", grid(beta=(1.0, 2.5, 5.0, 10.0)), random_start="gaussian"),
    paired("ARoW", grid(factor=(2.0, 4.0, 7.0, 14.0)), loss="kl"),
    paired("ALP", grid(factor=(0.25, 0.5, 1.0, 2.0))),
    paired("AdvCompSum", grid(nu=(0.5, 1.0, 2.0, 4.0)), loss="margin_shift"),
    Method("models.SRSTAWR", distilled, grid(factor=(5.0, 10.0, 20.0, 40.0)), passes=STEPS + 4),
    Method(
        "models.FreeAdversarialTraining",
        free,
        grid(replays=(2, 4, 4, 8), epsilon=(0.1, 0.1, 0.15, 0.1)),
    ),
    wrapped("GradAlign", grid(factor=(0.02, 0.1, 0.5, 2.0)), 5, attack=kr.attacks.FGSM(EPSILON)),
    wrapped("ELLE", grid(factor=(1.0, 10.0, 100.0, 1000.0)), 5, epsilon=EPSILON),
    wrapped("InputGradientPenalty", grid(factor=(0.1, 1.0, 10.0, 100.0)), 4),
    wrapped("RobustSelfSupervised", grid(gamma=(0.3, 1.0, 3.0, 10.0)), STEPS + 1, steps=STEPS),
    wrapped("VAT", grid(epsilon=(0.25, 0.5, 1.0, 2.0)), 3),
]

PAGE = """
{best}

{table}

{picture}

{protocol}
"""

TASK = Task(
    title="robustness to attacks",
    data=data,
    measure=measure,
    measures={
        "robust": Measure("accuracy under attack, %"),
        "accuracy": Measure("accuracy, %"),
    },
    methods=METHODS,
    optimizer=adam,
    epochs=30,
    batch_size=50,
    page=PAGE,
)
