"""Train on real digits, compile for Loihi 2, run, price, save and prove: the commands, as a program.

The same numbers as ``esl-neuro train --seed 0 --set training.epochs=4``, ``export``, ``run`` and ``energy report``.
"""

import esl_neuro as esl

run = esl.train("mlp-digits", seed=0, changes=["training.epochs=4"])
chip = esl.compile(run, "loihi2")
print(chip)

result = chip.run(esl.test_set(run))  # backend="lava" runs in Lava and compares every spike
print(result)
print(f"float {run.accuracy:.4f}, integers {result.accuracy:.4f}")

print(esl.energy_report(result, targets=["truenorth", "loihi", "v100-pcie"]))

chip.save("out")
print(esl.verify("out", with_lava=False))
