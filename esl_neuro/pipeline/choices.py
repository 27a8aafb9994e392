"""The names that a caller can choose from. The help of the commands lists them, so this file imports nothing heavy."""

from typing import Literal, get_args

BACKENDS = ("integer", "lava", "lava-batched")
"""Simulators of a program."""

LAYOUTS = ("samples,steps,...", "steps,samples,...", "steps,...")
"""Orders of the first axes of an array of inputs."""

FORMATS = {"netx": "network.net", "lava-script": "network.py"}
"""Optional formats of an export, and the file of each."""

RECIPE = "mlp-digits"
"""The default recipe."""

CHIP = "loihi2"
"""The default chip."""

ENERGY_TARGETS = ("truenorth", "loihi", "loihi2", "cmos45", "v100-pcie")
"""The targets that are priced by default."""

ALL_TARGETS = "all"

LAVA = "lava"
READERS = ("norse", "snntorch", "spikingjelly", "nirtorch", "sinabs", LAVA)
"""Programs that can run a NIR file."""

Scale = Literal["smoke", "short", "full"]
SCALES: tuple[Scale, ...] = get_args(Scale)
"""Scales of a reproduction: seconds, a budget for two cores, and as the paper."""
