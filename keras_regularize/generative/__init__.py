"""What generative models are trained and judged by."""

from keras_regularize.generative.black_box import (
    black_box_cross_entropy,
    black_box_square_loss,
    sequential_cross_entropy,
)

__all__ = ["black_box_cross_entropy", "black_box_square_loss", "sequential_cross_entropy"]
