"""Run the body of a flow in a process: durable calls, attempts, futures, waits."""
