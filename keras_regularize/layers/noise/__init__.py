"""Random changes of features, active in training."""
