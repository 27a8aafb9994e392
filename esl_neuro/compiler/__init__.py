"""Compile a NIR graph to an integer program: read, quantise, check against the limits of the chip."""
