"""Models that train networks for quantization."""
