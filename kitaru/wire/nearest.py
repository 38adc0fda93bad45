"""Suggestions for a mistyped name of a command, flow, input, target or stack."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(given: str, known: Iterable[str], alike: float = 0.6) -> str:
    """Return the known name that is most like `given`, empty when none is like it.

    `alike` is how like it has to be, from 0 to 1.

    >>> nearest("vertx", ["vertex", "airflow"])
    'vertex'
    """
    # Costs milliseconds that a command without a mistake need not pay.
    from difflib import get_close_matches

    return next(iter(get_close_matches(given, sorted(known), n=1, cutoff=alike)), "")


def suggestion(given: str, known: Iterable[str], otherwise: str) -> str:
    """Return the help of an error about an unknown name: what was meant, then `otherwise`.

    >>> suggestion("vertx", ["vertex", "airflow"], "kitaru target list")
    'Did you mean vertex?\\nkitaru target list'
    """
    near = nearest(given, known)
    return f"Did you mean {near}?\n{otherwise}" if near else otherwise
