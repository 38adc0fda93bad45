"""Decides what can be asked of executions that are recorded, and what can be made of them."""
