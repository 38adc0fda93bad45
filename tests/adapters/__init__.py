"""Tests of the adapters, with the real harnesses and scripted models."""
