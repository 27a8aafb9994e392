"""Names among which a caller chooses; nothing heavy is imported, because the help of the commands lists them."""

BACKENDS = ("integer", "lava", "lava-batched")
"""Simulators of a program."""

FORMATS = {"netx": "network.net", "lava-script": "network.py"}
"""What a bundle can hold besides the NIR graph and the integer program, and the file that it is written to."""

RECIPE = "mlp-digits"
"""The recipe that is trained where none is named."""

CHIP = "loihi2"
"""The chip that a network is compiled for where none is named."""

ENERGY_TARGETS = ("truenorth", "loihi", "loihi2", "cmos45", "v100-pcie")
"""Targets that are priced where none is named."""

ALL_TARGETS = "all"

LAVA = "lava"
READERS = ("norse", "snntorch", "spikingjelly", "nirtorch", LAVA)
"""Programs that can be asked to run a NIR file."""
