from keras_regularize.callbacks.robustness import RobustAccuracy
from keras_regularize.callbacks.warm_restarts import WarmRestarts

__all__ = ["RobustAccuracy", "WarmRestarts"]
