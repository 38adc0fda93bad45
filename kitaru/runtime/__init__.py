"""The runtime: what runs and records flows."""


def _get_current_execution_id() -> str:
    """Return what `kitaru.current_execution_id` returns; flows of Kitaru 0.21 import it here."""
    from kitaru.runtime.engine.execution import anywhere

    return anywhere("kitaru.current_execution_id").execution.journal.exec_id
