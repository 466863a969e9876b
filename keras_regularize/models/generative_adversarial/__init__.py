"""Two networks with an optimizer each, trained against one another in one `fit`."""
