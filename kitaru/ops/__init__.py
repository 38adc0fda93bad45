"""Use cases, one module each, shared by the command line, `KitaruClient` and `Flow`.

An operation is a typed function that returns data and never prints. The command line and the client
only parse, call and render, so that both behave the same. Lower layers do not import this package.
The compiler and the targets are imported inside functions: a container with only the runtime can
import every module here.
"""
