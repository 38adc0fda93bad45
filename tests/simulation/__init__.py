"""Deterministic simulation: one seed determines a whole execution, and replays it exactly.

The engine, the journal and the stores are real. Their environment is simulated: threads, clocks,
random numbers, processes and the service behind a store.
"""
