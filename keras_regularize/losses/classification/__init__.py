"""Classification losses in the cross-entropy family."""
