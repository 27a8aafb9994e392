"""Turn results into text for people."""
