from keras_regularize.models.adversarial.adversarial_training import AdversarialTraining

__all__ = ["AdversarialTraining"]
