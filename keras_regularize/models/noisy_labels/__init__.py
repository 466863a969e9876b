"""Train steps for labels of which some are wrong."""
