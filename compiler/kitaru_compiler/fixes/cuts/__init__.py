"""Changes that make a cut possible. Each is tried: the changed source is compiled in memory.

`kitaru compile --explain` shows them. Unlike the fixes of `kitaru check --fix`, they are never
applied, because whether a flow should be cut at a place is a decision of its author.
"""
