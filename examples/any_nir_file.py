"""A NIR file of any program: what prevents deployment, what it needs of the chip, and what it does there."""

import nir
import numpy as np

import esl_neuro as esl

# Stands for the file of another program: 40 inputs, 20 neurons with a time constant of 20 ms.
rng = np.random.default_rng(0)
neurons = {"tau": 2e-2, "r": 1.0, "v_leak": 0.0, "v_threshold": 0.3, "v_reset": 0.0}
nodes = {
    "input": nir.Input({"input": np.array([40])}),
    "fc": nir.Affine(rng.normal(1.0, 1.0, (20, 40)), np.zeros(20)),
    "lif": nir.LIF(**{name: np.full(20, value) for name, value in neurons.items()}),
    "output": nir.Output({"output": np.array([20])}),
}
esl.write_nir("model.nir", nir.NIRGraph(nodes, [("input", "fc"), ("fc", "lif"), ("lif", "output")]))

checked = esl.check("model.nir", "loihi2")
print(checked.compiles, *checked.findings, sep="\n")  # NIR leaves the time step open, so it has to be said

checked = esl.check("model.nir", "loihi2", steps=50, dt_s=1e-3)
for row in checked.utilisation:
    print(f"{row.resource}: {row.used:,} {row.unit}")

chip = esl.compile("model.nir", "loihi2", steps=50, dt_s=1e-3)
result = chip.run(rng.random((10, 50, 40)) < 0.1)  # samples, steps, lines
print(result)
chip.save("out")
