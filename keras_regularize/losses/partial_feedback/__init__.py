"""Losses for targets that tell only part of the truth: means of bags, costs of chosen actions."""

from keras_regularize.losses.partial_feedback.aggregate_response import AggregateResponse
from keras_regularize.losses.partial_feedback.smoothed_ips import SmoothedIPS

__all__ = ["AggregateResponse", "SmoothedIPS"]
