"""Kernels that networks of great width have, and those of finite ones at their weights."""
