from keras_regularize.models.adversarial.adv_comp_sum import AdvCompSum
from keras_regularize.models.adversarial.adversarial_training import AdversarialTraining
from keras_regularize.models.adversarial.alp import ALP
from keras_regularize.models.adversarial.arow import ARoW
from keras_regularize.models.adversarial.elle import ELLE
from keras_regularize.models.adversarial.free_adversarial_training import FreeAdversarialTraining
from keras_regularize.models.adversarial.grad_align import GradAlign
from keras_regularize.models.adversarial.input_gradient_penalty import InputGradientPenalty
from keras_regularize.models.adversarial.mart import MART
from keras_regularize.models.adversarial.srst_awr import SRSTAWR
from keras_regularize.models.adversarial.trades import TRADES

__all__ = [
    "ALP",
    "ELLE",
    "MART",
    "SRSTAWR",
    "TRADES",
    "ARoW",
    "AdvCompSum",
    "AdversarialTraining",
    "FreeAdversarialTraining",
    "GradAlign",
    "InputGradientPenalty",
]
