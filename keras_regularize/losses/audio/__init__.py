"""Losses of waveforms and of what networks see in them."""
