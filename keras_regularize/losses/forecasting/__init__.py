"""Losses of forecasts: quantiles, scaled and relative errors, and errors up to shifts in time."""
