"""Hyperparameters by the gradient of a validation loss at weights that minimize the training loss."""
