"""What the tests of nesting, failures and replicas know of every model: an entry of `METHODS` each.

A new model gets its entry and is then nested, counted, broken and distributed like the others.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import reference_steps as ref

import keras_regularize as kr
from keras_regularize import models


class Method(NamedTuple):
    """A model at a strength at which its work shows, and what one step of it costs.

    A rule makes `queries` of the gradient inside, an objective runs the one inside `repeats` times; `each` is
    what runs beside them, at every query from outside; `once` is the search of a step. The last two in
    `(forwards, backwards, weight gradients)`. A rule may take `products` of the objective's Hessian as well.
    """

    level: str  # "gradient", "objective", or "input" where a search runs once a step; "none" changes nothing.
    wrap: Callable[[keras.Model], keras.Model]
    reference: Callable[[], Any] | None = None  # Makes it of `reference_steps`, if known there.
    queries: int = 1
    products: int = 0
    repeats: int = 1
    each: tuple[int, int, int] = (0, 0, 0)
    once: tuple[int, int, int] = (0, 0, 0)
    updates: int = 1  # Of the weights in one step.
    random: bool = False  # Whether a step draws random numbers.
    labels: bool = False  # Whether the model itself needs labels, whatever its compiled loss.


def rule(wrap, reference=None, queries=2, **options):
    return Method("gradient", wrap, reference, queries, **options)


def objective(wrap, reference=None, **options):
    return Method("objective", wrap, reference, **options)


def search(wrap, reference=None, once=(0, 0, 0), each=(0, 0, 0), **options):
    return Method("input", wrap, reference, once=once, each=each, **options)


def fgsm():
    return kr.attacks.FGSM(0.1)


def pgd(**arguments):
    return kr.attacks.PGD(0.15, 0.06, 3, **{"random_start": False, **arguments})


def adversarial(attack, clean_weight=0.0):
    return lambda net: models.AdversarialTraining(net, attack(), clean_weight)


def regularized(*arguments, **options):
    return lambda net: models.GradientRegularization(net, *arguments, **options)


def vat(**arguments):
    strength = {"epsilon": 0.7, "finite_difference": 0.1, "entropy_factor": 0.3, "seed": 4}
    return lambda net: models.VAT(net, **{**strength, **arguments})


def directions(seed):
    """What an attack with this seed draws, a batch after the other."""
    generator = keras.random.SeedGenerator(seed)
    return lambda shape: keras.ops.convert_to_numpy(keras.random.normal(shape, seed=generator))


@keras.saving.register_keras_serializable("tests")
def squared_joint_norm(kernels):
    return sum(keras.ops.sum(w * w) for w in kernels) ** 2


def teacher():
    keras.utils.set_random_seed(9)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])


def later_srl(net):
    """As after its first epoch, with representations of the bins, the three labels; all terms are at work."""
    model = models.SRL(net, 1, [0, 1, 2, 3], 4, 20, 0.1, 1.0, 0.1, seed=4)
    model.build_parts()
    path = model.representation
    path.kernel.assign(keras.initializers.GlorotUniform(seed=4)(path.kernel.shape))
    path.surrogates.assign(np.eye(3, 4))
    path.seen.assign(np.ones(3))
    return model


FGSM, PGD = ref.Attack(0.1), ref.Attack(0.15, 0.06, 3)
ONE = (1, 1, 1)
TWICE = (1, 2, 1)  # An input gradient that is differentiated again.

METHODS = {
    "plain": Method("none", models.RegularizedModel, ref.Method),
    # Rules
    "SAM": rule(lambda net: models.SAM(net, 0.3), lambda: ref.SAM(0.3)),
    "ASAM": rule(lambda net: models.ASAM(net, 0.4, 0.1), lambda: ref.ASAM(0.4, 0.1)),
    "GSAM": rule(lambda net: models.GSAM(net, 0.3, 0.4), lambda: ref.GSAM(0.3, 0.4)),
    "GSAM, adaptive": rule(
        lambda net: models.GSAM(net, 0.4, 0.4, adaptive=True), lambda: ref.GSAM(0.4, 0.4, 0.01)
    ),
    "AMP": rule(lambda net: models.AMP(net, 0.1, 1.0, 2), lambda: ref.AMP(0.1, 1.0, 2), queries=3),
    "AWP": rule(lambda net: models.AWP(net, 0.2), lambda: ref.AWP(0.2)),
    "F-GR": rule(regularized(0.4, 0.5), lambda: ref.ForwardGR(0.4, 0.5)),
    "B-GR": rule(regularized(0.4, 0.5, "backward"), lambda: ref.ForwardGR(0.4, -0.5)),
    "GNP": rule(regularized(0.4, 0.5, normalize=True), lambda: ref.ForwardGR(0.4, 0.5, True)),
    "exact GR": rule(regularized(0.4, 0.5, "exact"), lambda: ref.ExactGR(0.4), 1, products=1),
    # The first of three steps.
    "LookSAM": rule(lambda net: models.LookSAM(net, 0.3, 3)),
    "FriendlySAM": rule(lambda net: models.FriendlySAM(net, 0.3), lambda: ref.FriendlySAM(0.3)),
    "MomentumSAM": rule(lambda net: models.MomentumSAM(net, 0.3), queries=1),
    "IGNITE": rule(lambda net: models.IGNITE(net, 0.1, factor=0.5), queries=1, each=(2, 2, 2)),
    # Objectives
    "Flooding": objective(lambda net: models.Flooding(net, 40.0), lambda: ref.Flooding(40.0)),
    "WeightPenalty": objective(
        lambda net: models.WeightPenalty(net, squared_joint_norm, 1e-3),
        lambda: ref.WeightPenalty(1e-3),
    ),
    "ScheduledLoss": objective(
        lambda net: models.ScheduledLoss(
            net, keras.losses.SparseCategoricalCrossentropy(from_logits=True), 0.5
        ),
        labels=True,
    ),
    "DataEmphasizedELBo": rule(
        lambda net: models.DataEmphasizedELBo(net, 8, initial_scale=0.1, num_samples=2, seed=0),
        random=True,
    ),
    "Distillation": objective(lambda net: models.Distillation(net, teacher(), 0.3, 2.0)),
    "RDrop": objective(lambda net: models.RDrop(net, 0.7), repeats=2),
    # Three outputs are a mixture of one Gaussian.
    "RecalibratedTraining": objective(models.RecalibratedTraining, labels=True),
    "ART": objective(lambda net: models.ART(net, 0.5, 1e-2, growth=1.0, warmup_epochs=0)),
    "InputGradientPenalty": objective(
        lambda net: models.InputGradientPenalty(net, 0.1), each=TWICE, labels=True
    ),
    "ContractiveAutoencoder": objective(
        lambda net: models.ContractiveAutoencoder(net, 0.1, method="noise", seed=4),
        each=ONE,
        random=True,
    ),
    "SRL": objective(later_srl, labels=True),
    # The pass back from hidden units does not reach the last layer, where passes are counted.
    "SpaceFolding": objective(lambda net: models.SpaceFolding(net, 0.3, 4), each=(1, 0, 0)),
    "ManifoldSmooth": objective(
        lambda net: models.ManifoldSmooth(net, 0.1, dual_learning_rate=0.3)
    ),
    # Searches
    "DenoisingAutoencoder": search(
        lambda net: models.DenoisingAutoencoder(net, 0.1, seed=4), random=True
    ),
    "FGSM training": search(
        adversarial(fgsm), lambda: ref.AdversarialTraining(FGSM), (1, 1, 0), labels=True
    ),
    "PGD training": search(
        adversarial(pgd, 0.3),
        lambda: ref.AdversarialTraining(PGD, 0.3),
        (3, 3, 0),
        repeats=2,
        labels=True,
    ),
    "TRADES": search(
        lambda net: models.TRADES(net, pgd(), 3.0),
        lambda: ref.TRADES(PGD, 3.0),
        (3, 3, 0),
        ONE,
        labels=True,
    ),
    "TRADES, random start": search(
        lambda net: models.TRADES(net, pgd(loss="kl", random_start="gaussian", seed=4)),
        once=(4, 3, 0),
        each=ONE,
        random=True,
        labels=True,
    ),
    "MART": search(lambda net: models.MART(net, pgd(), 3.0), None, (3, 3, 0), ONE, labels=True),
    "ARoW": search(lambda net: models.ARoW(net, pgd(), 3.0), None, (3, 3, 0), ONE, labels=True),
    "ALP": search(lambda net: models.ALP(net, pgd(), 0.5), None, (3, 3, 0), ONE, labels=True),
    "AdvCompSum": search(
        lambda net: models.AdvCompSum(net, pgd(loss="margin_shift", random_start=True, seed=4)),
        None,
        (4, 3, 0),
        ONE,
        random=True,
        labels=True,
    ),
    "SRSTAWR": search(
        lambda net: models.SRSTAWR(net, teacher(), pgd()), None, (3, 3, 0), ONE, labels=True
    ),
    "RobustSelfSupervised": search(
        lambda net: models.RobustSelfSupervised(net, 0.5, 2.0, 3.0, steps=3), None, (4, 3, 0)
    ),
    "ELLE-A": search(
        lambda net: models.ELLE(net, 0.1, 9.0, adaptive=True, seed=4),
        None,
        (1, 1, 0),
        ONE,
        random=True,
        labels=True,
    ),
    "GradAlign": search(
        lambda net: models.GradAlign(net, fgsm(), 0.3, seed=4),
        None,
        (2, 2, 0),
        TWICE,
        random=True,
        labels=True,
    ),
    "FreeAdversarialTraining": search(
        lambda net: models.FreeAdversarialTraining(net, 0.1, 3, batch_size=16),
        repeats=3,
        updates=3,
    ),
    "VAT": search(
        vat(),
        lambda: ref.VAT(directions(4), 0.7, 0.1, entropy_factor=0.3),
        (2, 1, 0),
        ONE,
        random=True,
    ),
    "VAT, 3 iterations": search(vat(iterations=3), None, (4, 3, 0), ONE, random=True),
}


# What differs from another row in a number alone.
VARIANTS = {"GSAM, adaptive", "B-GR", "GNP", "TRADES, random start", "VAT, 3 iterations"}


def known(*levels):
    """Names of the methods of some levels whose steps the reference knows."""
    return [name for name, m in METHODS.items() if m.level in levels and m.reference]


def wrap(names, model):
    """The models of these names around a model, written outermost first: `wrap(["SAM", "VAT"], m)`."""
    for name in reversed(names):
        model = METHODS[name].wrap(model)
    return model


def expected_passes(names):
    """What one step of a nesting runs: searches once, the objective at every query."""
    chain = [METHODS[name] for name in reversed(names)]
    once, objective = np.zeros(3, int), np.ones(3, int)
    for method in chain:
        once = once + method.once
        if method.level != "gradient":
            objective = method.repeats * objective + method.each
    gradient = objective
    for method in (method for method in chain if method.level == "gradient"):
        # A product differentiates the backward pass as well, forwards included.
        gradient = method.queries * gradient + method.products * objective * (1, 2, 2) + method.each
    return tuple((once + gradient).tolist())
