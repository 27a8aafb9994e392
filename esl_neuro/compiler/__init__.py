"""NIR graph to integer program: read, quantise, check against the limits of the chip."""
