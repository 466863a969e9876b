"""Called to choose what a network is trained or run with: bits for every layer, the weight decay, any penalty."""

from keras_regularize.hyper._search_bits import search_bits
from keras_regularize.hyper._search_network import search_network
from keras_regularize.hyper._weight_decay_search import weight_decay_search
from keras_regularize.hyper.accuracy_predictor import AccuracyPredictor
from keras_regularize.hyper.bilevel._hypergradient import hypergradient
from keras_regularize.hyper.bilevel._hypergradient_error_bound import hypergradient_error_bound
from keras_regularize.hyper.bilevel._tune_l2 import tune_l2
from keras_regularize.hyper.bilevel.hoag import HOAG
from keras_regularize.hyper.bilevel.maid import MAID
from keras_regularize.hyper.bilevel.objectives import l2_penalty, objective
from keras_regularize.hyper.network_autoencoder import NetworkAutoencoder
from keras_regularize.models.gaussian_prior import (
    data_emphasized_elbo,
    gaussian_prior_kl,
    optimal_prior_variance,
)
from keras_regularize.models.hyperparameters import (
    Hyperparameter,
    constrain,
    perturbation_entropy,
    unconstrain,
)

__all__ = [
    "HOAG",
    "MAID",
    "AccuracyPredictor",
    "Hyperparameter",
    "NetworkAutoencoder",
    "constrain",
    "data_emphasized_elbo",
    "gaussian_prior_kl",
    "hypergradient",
    "hypergradient_error_bound",
    "l2_penalty",
    "objective",
    "optimal_prior_variance",
    "perturbation_entropy",
    "search_bits",
    "search_network",
    "tune_l2",
    "unconstrain",
    "weight_decay_search",
]
