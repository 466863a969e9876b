from keras_regularize.models.adversarial.adversarial_training import AdversarialTraining
from keras_regularize.models.adversarial.trades import TRADES

__all__ = ["TRADES", "AdversarialTraining"]
