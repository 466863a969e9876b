"""Representations that are good for a whole class of tasks."""
