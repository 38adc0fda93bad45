"""Async flows: ids, order, cancellation, waits, and processes that are killed and resumed."""
