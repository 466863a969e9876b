"""Losses of a prediction and of the prediction under attack, as functions of both."""
