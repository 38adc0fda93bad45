"""Run one step of a compiled flow: its code, the frame in, the frame out."""
