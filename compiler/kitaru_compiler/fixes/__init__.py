"""Fixes that change a source file so that a finding disappears.

A fix is a function from a finding and the tree of its file to edits. libcst preserves all spaces
and comments that an edit does not touch. It is imported here, in `kitaru_compiler.migrations`, and
in the reader of scopes (`kitaru_compiler.frontend.reader`).
"""
