"""Public functions of the compiler: `compile_flow`, `check` and `data_files`."""

from kitaru_compiler.compile import Compilation, check, compile_flow, data_files

__all__ = ["Compilation", "check", "compile_flow", "data_files"]
