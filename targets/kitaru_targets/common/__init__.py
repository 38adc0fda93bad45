"""Shared code of several targets: parameters, options, names, limits, reading of documents."""
