from keras_regularize.models.semi_supervised.robust_self_supervised import RobustSelfSupervised
from keras_regularize.models.semi_supervised.vat import VAT

__all__ = ["VAT", "RobustSelfSupervised"]
