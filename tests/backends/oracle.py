"""What a program computes, from the equations alone: Python integers, one neuron after the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from esl_neuro.compiler.program import INPUT

M = 2**23


@dataclass
class Expected:
    """Records per group, [sample][step][neuron]; counts per connection, [sample]; how often the range was left."""

    spikes: dict
    u: dict
    v: dict
    events: list
    operations: list
    touched: list
    wraps: int = 0
    saturations: int = 0


def truncated(product):
    return product // 4096 if product >= 0 else -(-product // 4096)


def expected_run(program, samples):
    names = [group.name for group in program.groups]
    expected = Expected(
        *({name: [] for name in names} for _ in range(3)), *([[] for _ in program.connections] for _ in range(3))
    )
    for sample in samples.tolist():
        run_sample(program, sample, expected)
    return expected


def run_sample(program, sample, expected):
    dense = [connection.matrix.toarray().tolist() for connection in program.connections]
    spikes = {INPUT: sample, **{group.name: [] for group in program.groups}}
    state = {group.name: ([0] * group.neurons, [0] * group.neurons) for group in program.groups}
    for record in (expected.spikes, expected.u, expected.v):
        for values in record.values():
            values.append([])
    for count in (expected.events, expected.operations, expected.touched):
        for values in count:
            values.append(0)
    for step in range(program.steps):
        for group in program.groups:
            drive = [0] * group.neurons
            for k, connection in enumerate(program.connections):
                if connection.target != group.name or step < connection.delay:
                    continue
                arriving = spikes[connection.source][step - connection.delay]
                expected.events[k][-1] += sum(s != 0 for s in arriving)
                for i, row in enumerate(dense[k]):
                    met = [(w, s) for w, s in zip(row, arriving, strict=True) if w and s]
                    total = sum(w * s for w, s in met)
                    e = connection.weight_exp
                    drive[i] += total * 2**e if e >= 0 else total // 2**-e
                    expected.operations[k][-1] += len(met)
                    expected.touched[k][-1] += len(met) > 0
            u, v = state[group.name]
            fired = [step_neuron(group, i, u, v, drive[i], expected) for i in range(group.neurons)]
            spikes[group.name].append(fired)
            for record, values in ((expected.spikes, fired), (expected.u, u), (expected.v, v)):
                record[group.name][-1].append(list(values))


def step_neuron(group, i, u, v, drive, expected):
    u[i] = truncated(u[i] * (4096 - (int(group.du[i]) + 1))) + 64 * drive
    if u[i] > M:
        u[i] -= 2 * M
        expected.wraps += 1
    elif u[i] <= -M:
        u[i] += 2 * M
        expected.wraps += 1
    bias = int(group.bias_mant[i]) * 2 ** int(group.bias_exp[i])
    raw = truncated(v[i] * (4096 - int(group.dv[i]))) + u[i] + bias
    v[i] = max(-(M - 1), min(M - 1, raw))
    expected.saturations += raw != v[i]
    fired = int(v[i] > 64 * int(group.vth[i]))
    if fired:
        v[i] = 0 if group.reset_by is None else v[i] - int(group.reset_by[i])
    return fired


def extremes(program, trace):
    """How many currents wrapped and potentials saturated in a recorded run."""
    spikes = {INPUT: trace.input_spikes, **trace.spikes}
    wraps = saturations = 0
    for group in program.groups:
        u, v = trace.u[group.name], trace.v[group.name]
        drive = np.zeros(u.shape, np.int64)
        for connection in program.incoming(group.name):
            keep = max(program.steps - connection.delay, 0)
            source = spikes[connection.source][:, :keep].astype(np.int64)
            sums = (connection.matrix.astype(np.int64) @ source.reshape(-1, source.shape[2]).T).T
            e = connection.weight_exp
            shifted = sums << e if e >= 0 else sums >> -e
            drive[:, program.steps - keep :] += shifted.reshape(*source.shape[:2], group.neurons)
        before = [np.concatenate([np.zeros_like(state[:, :1]), state[:, :-1]], axis=1) for state in (u, v)]
        current = decayed(before[0], 4095 - group.du) + (drive << 6)
        potential = decayed(before[1], 4096 - group.dv) + u + group.bias_mant * 2**group.bias_exp
        wraps += int(((current > M) | (current <= -M)).sum())
        saturations += int((abs(potential) > M - 1).sum())
    return wraps, saturations


def decayed(x, keep):
    return np.sign(x) * (np.abs(x) * keep >> 12)
