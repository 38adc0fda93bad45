"""Tests of the adapter of Google ADK, in the environment `.envs/google-adk`."""
