"""Losses of segmentation masks: overlaps of regions, distances of boundaries, and cross-entropies of pixels."""
