"""JSON schemas of answers, inputs and model output: made from types, validated by a library."""
