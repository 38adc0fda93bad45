"""The dispatcher: rounds, hints and processes, under kills, faults and services that lie."""
