from keras_regularize.models.sharpness.sam import SAM

__all__ = ["SAM"]
