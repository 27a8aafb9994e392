"""What a spike does to the potential of its neuron: the words for it in recipes, layers, notes of files and options.

With ``v`` the potential at a spike:

======================  ========================================================================================
``zero``                ``v = 0`` (in NIR ``v = v_reset``, which is 0 in most files)
``subtract``            ``v = v - threshold`` at once
``subtract_next_step``  the next step computes ``(1 - dv) v - threshold``: snnTorch with ``reset_delay=True``, its
                        default. This is ``v = v - threshold / (1 - dv)`` at once
======================  ========================================================================================

A spike subtracts once, so a potential that is still above the threshold spikes again in the next step.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

Reset: TypeAlias = Literal["zero", "subtract", "subtract_next_step"]
ZERO: Reset = "zero"
SUBTRACT: Reset = "subtract"
SUBTRACT_NEXT_STEP: Reset = "subtract_next_step"
RESETS: tuple[Reset, ...] = (ZERO, SUBTRACT, SUBTRACT_NEXT_STEP)
