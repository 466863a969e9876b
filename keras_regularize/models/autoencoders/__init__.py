"""Autoencoders that are regularized, and what their Jacobians say."""
