"""The version of Kitaru."""

VERSION = "0.1.0"
