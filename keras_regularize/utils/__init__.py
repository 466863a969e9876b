"""Helpers for data and models that Keras lacks."""

from keras_regularize.utils.bins import bin_edges, bin_labels
from keras_regularize.utils.columns import with_index
from keras_regularize.utils.interactions import t_batches
from keras_regularize.utils.neighbor_graphs import GraphBatches, neighbor_graph
from keras_regularize.utils.variables import AllBut

__all__ = [
    "AllBut",
    "GraphBatches",
    "bin_edges",
    "bin_labels",
    "neighbor_graph",
    "t_batches",
    "with_index",
]
