"""Losses that pull features of the same thing together and keep the others apart."""
