"""Losses of predicted distributions: likelihoods, proper scores, and how well they are calibrated."""
