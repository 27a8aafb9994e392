"""Programs to report on."""

from __future__ import annotations

import itertools

import numpy as np
import scipy.sparse as sp

from esl_neuro.compiler.program import Connection, Group, Program


def chain(sizes, density, seed=0):
    random = np.random.default_rng(seed)
    connections, groups, source = [], [], "input"
    for depth, (inputs, neurons) in enumerate(itertools.pairwise(sizes)):
        name = f"a_layer_with_quite_a_long_name_{depth}"
        matrix = sp.csr_matrix((random.random((neurons, inputs)) < density).astype(np.int64) * 2)
        zeros = np.zeros(neurons, dtype=np.int64)
        connections.append(Connection(source, name, matrix, 0, matrix.nnz))
        groups.append(Group(name, zeros, zeros, zeros + 1, zeros, zeros, 1.0))
        source = name
    return Program("loihi2", sizes[0], 4, 1e-3, tuple(connections), tuple(groups))
