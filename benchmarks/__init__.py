"""What the methods cost, as ratios within one run, and a demonstration of what they buy."""
