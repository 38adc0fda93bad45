"""`kitaru serve`: an HTTP service over a store, without a database or state of its own.

Needs the extra `server`. Every request is one call of the Python client or of a function of
`kitaru.ops`. This package only parses requests and renders responses.
"""
