"""Solvers of inverse problems."""

from keras_regularize.inverse._learned_priors import convex_cnn, evaluate_prior, plug_and_play
from keras_regularize.inverse._operators import operator_norm
from keras_regularize.inverse._sparse_recovery import fista, iht, ista
from keras_regularize.inverse._tomography import radon_operator, space_variant_reconstruct
from keras_regularize.inverse._total_variation import (
    chambolle_pock,
    space_variant_weights,
    total_variation_denoise,
)
from keras_regularize.inverse._transport import (
    marginal_projection,
    pairwise_fusion_prox,
    sinkhorn,
    sum_of_norms_penalty,
    sum_of_norms_transport,
)
from keras_regularize.inverse.class_transport import ClassTransport
from keras_regularize.inverse.manifold import chart_gradient, manifold_descent

__all__ = [
    "chart_gradient",
    "manifold_descent",
    "ClassTransport",
    "chambolle_pock",
    "convex_cnn",
    "evaluate_prior",
    "fista",
    "iht",
    "ista",
    "marginal_projection",
    "operator_norm",
    "pairwise_fusion_prox",
    "plug_and_play",
    "radon_operator",
    "sinkhorn",
    "space_variant_reconstruct",
    "space_variant_weights",
    "sum_of_norms_penalty",
    "sum_of_norms_transport",
    "total_variation_denoise",
]
