"""Decides how one step of a compiled flow runs: its code, the frame in, the frame out."""
