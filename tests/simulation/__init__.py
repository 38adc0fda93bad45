"""Deterministic simulation: one seed decides a whole execution, and replays it exactly.

The engine, the journal and the stores are the real ones. What is simulated is what they run on:
threads, clocks, random numbers, processes and the service behind a store.
"""
