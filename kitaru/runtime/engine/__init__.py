"""Decides how the body of a flow runs in a process: durable calls, attempts, futures, waits."""
