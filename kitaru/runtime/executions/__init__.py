"""Queries and operations on recorded executions."""
