"""Noise in training: what is dropped, hidden or disturbed at random."""
