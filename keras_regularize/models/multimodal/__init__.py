from keras_regularize.models.multimodal.functional_entropy import FunctionalEntropyRegularization

__all__ = ["FunctionalEntropyRegularization"]
