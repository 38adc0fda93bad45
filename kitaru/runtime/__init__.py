"""The runtime: it runs flows and records them."""


def _get_current_execution_id() -> str:
    """Return the id of the current execution. Flows of Kitaru 0.21 import this function here."""
    from kitaru.runtime.engine.execution import anywhere

    return anywhere("kitaru.current_execution_id").execution.journal.exec_id
