"""What features are good for: accuracies of simple classifiers on them, clusters, alignment and uniformity."""
