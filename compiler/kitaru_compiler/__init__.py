"""Decides how a flow becomes a plan: frontend, passes, cut. `compile_flow` and `check` are the way in."""

from kitaru_compiler.compile import Compilation, check, compile_flow

__all__ = ["Compilation", "check", "compile_flow"]
