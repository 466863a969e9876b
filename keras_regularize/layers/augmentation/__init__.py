"""Random changes of inputs, active in training."""
