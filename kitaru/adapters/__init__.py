"""Adapters of agent harnesses; each needs the extra of its harness and imports no other one."""
