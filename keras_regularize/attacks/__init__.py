"""Perturbations of inputs, for training with `models.AdversarialTraining` and for measuring robustness."""

from keras_regularize.attacks.attack import Attack
from keras_regularize.attacks.auto_attack import AutoAttack
from keras_regularize.attacks.auto_projected_gradient import APGD
from keras_regularize.attacks.boundary import FAB
from keras_regularize.attacks.gradient_sign import FGSM
from keras_regularize.attacks.penalized_ascent import PenalizedAscent
from keras_regularize.attacks.projected_gradient import PGD
from keras_regularize.attacks.square import Square
from keras_regularize.attacks.virtual_adversarial import VirtualAdversarial

__all__ = [
    "Attack",
    "APGD",
    "AutoAttack",
    "FAB",
    "FGSM",
    "PGD",
    "PenalizedAscent",
    "Square",
    "VirtualAdversarial",
]
