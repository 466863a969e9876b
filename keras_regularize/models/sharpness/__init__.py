"""Train steps that look for flat minima."""
