"""Clusters that a network finds by itself."""
