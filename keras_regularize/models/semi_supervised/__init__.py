from keras_regularize.models.semi_supervised.vat import VAT

__all__ = ["VAT"]
