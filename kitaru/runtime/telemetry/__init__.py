"""Output, spans and metrics of a running execution."""
