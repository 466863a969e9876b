from keras_regularize.callbacks.robustness import RobustAccuracy

__all__ = ["RobustAccuracy"]
