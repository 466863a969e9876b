from keras_regularize.models.adversarial import ALP
from keras_regularize.models.adversarial import ARoW
from keras_regularize.models.adversarial import AdvCompSum
from keras_regularize.models.adversarial import AdversarialTraining
from keras_regularize.models.adversarial import ELLE
from keras_regularize.models.adversarial import FreeAdversarialTraining
from keras_regularize.models.adversarial import GradAlign
from keras_regularize.models.adversarial import InputGradientPenalty
from keras_regularize.models.adversarial import MART
from keras_regularize.models.adversarial import SRSTAWR
from keras_regularize.models.adversarial import TRADES
from keras_regularize.models.distillation import Distillation
from keras_regularize.models.ens_loss import EnsLoss
from keras_regularize.models.factored_spherical_classifier import FactoredSphericalClassifier
from keras_regularize.models.multimodal import FunctionalEntropyRegularization
from keras_regularize.models.noisy_labels import CoTeaching
from keras_regularize.models.noisy_labels import ELR
from keras_regularize.models.noisy_labels import ELRPlus
from keras_regularize.models.regularized_model import RegularizedModel
from keras_regularize.models.robust_optimization import GroupDRO
from keras_regularize.models.robust_optimization import Prospect
from keras_regularize.models.semi_supervised import RobustSelfSupervised
from keras_regularize.models.semi_supervised import VAT
from keras_regularize.models.sharpness import AMP
from keras_regularize.models.sharpness import ASAM
from keras_regularize.models.sharpness import AWP
from keras_regularize.models.sharpness import Flooding
from keras_regularize.models.sharpness import GSAM
from keras_regularize.models.sharpness import GradientRegularization
from keras_regularize.models.sharpness import IGNITE
from keras_regularize.models.sharpness import LookSAM
from keras_regularize.models.sharpness import MomentumSAM
from keras_regularize.models.sharpness import SAM
from keras_regularize.models.weight_penalty import WeightPenalty
from keras_regularize.models.with_labels import WithLabels

__all__ = [
    "ALP",
    "AMP",
    "ARoW",
    "ASAM",
    "AWP",
    "AdvCompSum",
    "AdversarialTraining",
    "CoTeaching",
    "Distillation",
    "ELLE",
    "ELR",
    "ELRPlus",
    "EnsLoss",
    "FactoredSphericalClassifier",
    "Flooding",
    "FreeAdversarialTraining",
    "FunctionalEntropyRegularization",
    "GSAM",
    "GradAlign",
    "GradientRegularization",
    "GroupDRO",
    "IGNITE",
    "InputGradientPenalty",
    "LookSAM",
    "MART",
    "MomentumSAM",
    "Prospect",
    "RegularizedModel",
    "RobustSelfSupervised",
    "SAM",
    "SRSTAWR",
    "TRADES",
    "VAT",
    "WeightPenalty",
    "WithLabels",
]
