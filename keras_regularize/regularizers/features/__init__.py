"""Features of a batch that spread out and do not collapse, from one view of the data."""
