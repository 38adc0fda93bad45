"""The journal of an execution. Records never change once they are written."""
