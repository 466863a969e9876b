"""Last layers of classifiers."""
