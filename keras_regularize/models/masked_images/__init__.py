"""Training by what is hidden of an image."""
