"""The train step: hooks, objective, and what lets a wrapper act as the Keras model inside."""
