"""Layers of self-tuning networks, which respond to the hyperparameters that they are trained with."""
