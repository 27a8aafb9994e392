"""Run an integer program: in our own integer simulator, or in the real Lava CPU simulator."""
