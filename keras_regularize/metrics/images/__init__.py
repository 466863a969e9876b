"""Metrics of depth maps and of images as a whole."""
