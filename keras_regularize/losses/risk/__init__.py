"""Losses of the worst samples: risk measures of the losses in a batch in the place of their mean."""
