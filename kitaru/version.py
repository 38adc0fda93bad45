"""Decides which version of Kitaru this is."""

VERSION = "0.1.0"
