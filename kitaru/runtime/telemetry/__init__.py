"""Decides what can be watched of a running execution: its output, spans and metrics."""
