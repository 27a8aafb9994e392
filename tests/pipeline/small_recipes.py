"""Changes of a recipe that make it train in a moment."""

from __future__ import annotations

SMALL = ("training.epochs=8", "network.notation=64-16-10", "data.steps=4")
GRADED = (*SMALL, "data.encoding=direct", "network.readout=accumulate")
SINGLE_SPIKES = ("data.name=digits", "network.notation=64-16-10", "training.epochs=1", "sparsity.update_every=5")
