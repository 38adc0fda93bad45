"""Public functions of the compiler: `compile_flow` and `check`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kitaru_compiler.compile import Checked, Compilation, check, compile_flow

__all__ = ["Checked", "Compilation", "check", "compile_flow"]


def __getattr__(name: str) -> Any:
    """Import the compiler when it is first used: a build that is reused needs its findings only."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from kitaru_compiler import compile

    return getattr(compile, name)
