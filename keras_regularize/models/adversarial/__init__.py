from keras_regularize.models.adversarial.adv_comp_sum import AdvCompSum
from keras_regularize.models.adversarial.adversarial_training import AdversarialTraining
from keras_regularize.models.adversarial.alp import ALP
from keras_regularize.models.adversarial.arow import ARoW
from keras_regularize.models.adversarial.mart import MART
from keras_regularize.models.adversarial.srst_awr import SRSTAWR
from keras_regularize.models.adversarial.trades import TRADES

__all__ = ["ALP", "MART", "SRSTAWR", "TRADES", "ARoW", "AdvCompSum", "AdversarialTraining"]
