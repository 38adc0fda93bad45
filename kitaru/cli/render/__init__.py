"""How the data of operations is shown: as text for people, or as JSON."""
