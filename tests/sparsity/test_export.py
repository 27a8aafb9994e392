"""What leaves a learner in a NIR file: nothing where there is no connection."""

from __future__ import annotations

import nir
import numpy as np
import pytest
import torch

from esl_neuro.interchange import to_nir
from esl_neuro.snn import build_layers, observe
from esl_neuro.snn.neurons import lif_per_channel
from esl_neuro.sparsity import make_learner
from sparsity.learner_options import ITERATIONS, OPTIONS, section_of
from sparsity.toy_problem import OPTIMISERS


@pytest.mark.parametrize(
    ("name", "optimiser"), [*((name, "masking Adam") for name in OPTIONS), *(("rigl", name) for name in OPTIMISERS)]
)
def test_exported_weights_are_zero_where_there_is_no_connection(tmp_path, name, optimiser):
    torch.manual_seed(2)
    network = build_layers("20-30-4", (20,), lif_per_channel(), bias=False, spiking_output=True)
    optimizer = OPTIMISERS[optimiser](network.parameters())
    learner = make_learner(section_of(name, **OPTIONS[name]), network, optimizer, iterations=ITERATIONS, seed=0)
    for _ in range(60):  # past the cut of admm, and in the middle of the updates of the others
        optimizer.zero_grad()
        loss = observe(network, 3 * torch.rand(3, 8, 20)).outputs.square().sum()
        (loss + learner.penalty()).backward()
        optimizer.step()
        learner.step()
    nir.write(tmp_path / "model.nir", to_nir(network, steps=3))
    graph = nir.read(tmp_path / "model.nir")
    assert [layer.name for layer in learner.layers] == ["fc1", "fc2"]
    for layer in learner.layers:
        exported = torch.from_numpy(np.asarray(graph.nodes[layer.name].weight))
        assert (exported[~layer.mask] == 0).all()
        assert torch.equal(exported != 0, layer.weight.detach() != 0)
        assert exported.any()
        assert (~layer.mask).any() == (name != "dense")
