"""How often a classifier is right on inputs that are attacked, corrupted or not of its data."""
