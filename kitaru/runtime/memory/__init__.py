"""Decides what flows remember beyond their own execution."""
