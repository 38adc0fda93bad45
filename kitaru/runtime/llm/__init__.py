"""Choose and call a model, and record its answer."""
