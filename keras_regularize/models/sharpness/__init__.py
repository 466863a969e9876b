from keras_regularize.models.sharpness.amp import AMP
from keras_regularize.models.sharpness.asam import ASAM
from keras_regularize.models.sharpness.awp import AWP
from keras_regularize.models.sharpness.flooding import Flooding
from keras_regularize.models.sharpness.friendly_sam import FriendlySAM
from keras_regularize.models.sharpness.gradient_regularization import GradientRegularization
from keras_regularize.models.sharpness.gsam import GSAM
from keras_regularize.models.sharpness.ignite import IGNITE
from keras_regularize.models.sharpness.look_sam import LookSAM
from keras_regularize.models.sharpness.momentum_sam import MomentumSAM
from keras_regularize.models.sharpness.sam import SAM

__all__ = [
    "AMP",
    "ASAM",
    "AWP",
    "GSAM",
    "IGNITE",
    "SAM",
    "Flooding",
    "FriendlySAM",
    "GradientRegularization",
    "LookSAM",
    "MomentumSAM",
]
