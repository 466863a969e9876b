"""Losses of bounding boxes: how far two boxes are from covering each other."""
