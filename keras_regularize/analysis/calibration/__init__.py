"""Probabilities of a trained model: how far they are from what happens, and maps that repair them."""
