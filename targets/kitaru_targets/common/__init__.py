"""What several targets share: parameters, options, names, limits, and reading of documents."""
