"""Runs side by side: what may be compared, one front, indicators, repeats and tests."""
