"""Use cases, one module each: what the command line, `KitaruClient` and `Flow` have in common.

An operation is a typed function that returns data and never prints. Command line and client only
parse, call and render, so that both do the same. Nothing below imports this package. The compiler
and the targets are imported where they are used: a container that holds the runtime alone can
import every module here.
"""
