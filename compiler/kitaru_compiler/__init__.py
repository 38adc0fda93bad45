"""Decides what other packages call: `compile_flow` and `check`."""

from kitaru_compiler.compile import Compilation, check, compile_flow

__all__ = ["Compilation", "check", "compile_flow"]
