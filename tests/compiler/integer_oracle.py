"""A program run step by step with plain Python integers where it matters: the equations of its docstrings."""

from __future__ import annotations

import numpy as np

from esl_neuro.backends.trace import Trace

M = 2**23


def run(program, inputs):
    """Every spike, u and v; step t of every group belongs to input step t."""
    samples, steps, _ = inputs.shape
    signals = {"input": np.asarray(inputs, dtype=np.int64)}
    matrices = [connection.matrix.toarray().astype(np.int64) for connection in program.connections]
    u, v = ({group.name: np.zeros((samples, steps, group.neurons), np.int64) for group in program.groups} for _ in "uv")
    for group in program.groups:
        signals[group.name] = np.zeros((samples, steps, group.neurons), np.int64)
    for step in range(steps):
        for group in program.groups:
            arriving = np.zeros((samples, group.neurons), np.int64)
            for connection, matrix in zip(program.connections, matrices, strict=True):
                if connection.target == group.name and step >= connection.delay:
                    sums = signals[connection.source][:, step - connection.delay] @ matrix.T
                    exponent = connection.weight_exp
                    arriving += sums * 2**exponent if exponent >= 0 else sums // 2**-exponent
            last_u, last_v = (state[group.name][:, step - 1] if step else 0 for state in (u, v))
            new_u = toward_zero(last_u * (4096 - (group.du + 1))) + arriving * 64
            new_u = np.where(new_u > M, new_u - 2 * M, np.where(new_u <= -M, new_u + 2 * M, new_u))
            new_v = toward_zero(last_v * (4096 - group.dv)) + new_u + group.bias_mant * 2**group.bias_exp
            new_v = np.clip(new_v, -(M - 1), M - 1)
            fired = new_v > group.vth * 64
            after = 0 if group.reset_by is None else new_v - group.reset_by
            u[group.name][:, step], v[group.name][:, step] = new_u, np.where(fired, after, new_v)
            signals[group.name][:, step] = fired
    spikes = {name: signal.astype(np.uint8) for name, signal in signals.items() if name != "input"}
    potential = v[program.output.name][:, -1] if program.readout == "potential" else None
    return Trace("oracle", np.asarray(inputs), spikes, u, v, potential)


def toward_zero(value):
    return np.where(value < 0, -(-value // 4096), value // 4096)
