"""Decides how a model is chosen and asked, and what is kept of its answer."""
