"""Train steps for inputs that were moved against the model."""
