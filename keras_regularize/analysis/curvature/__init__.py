"""Second derivatives of the loss in the weights, streamed over data; the noise of its gradients."""
