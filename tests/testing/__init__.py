"""Tests of what users test their flows with."""
