"""Operations of any torch model, against loops over every spike and every weight."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from esl_neuro.energy.counts import count_recording
from esl_neuro.errors import BadInput
from esl_neuro.interchange.record import record
from esl_neuro.snn.neurons import LIF, RecurrentLIF

STEPS, BATCH, LINES, NEURONS = 6, 3, 10, 7


class Neurons(nn.Module):
    """Neurons of one's own that advance one step per call; everything that they emit is kept."""

    def __init__(self):
        super().__init__()
        self.v, self.emitted, self.received = 0.0, [], []

    def forward(self, current):
        self.received.append(current)
        self.v = 0.5 * self.v + current
        spikes = (self.v > 0.4).float()
        self.v = self.v * (1 - spikes)
        self.emitted.append(spikes)
        return spikes


class Weights(nn.Module):
    """Weights of any name in any function."""

    def __init__(self, function, *shape, name="kernel"):
        super().__init__()
        self.function, self.name = function, name
        setattr(self, name, nn.Parameter(torch.randn(*shape) * (torch.rand(*shape) < 0.5)))

    def forward(self, signal):
        return self.function(signal, getattr(self, self.name))


@pytest.fixture(autouse=True)
def same_weights_every_time():
    torch.manual_seed(0)


def spikes(*shape, rate=0.4):
    return (torch.rand(STEPS, BATCH, *(shape or (LINES,))) < rate).float()


def loop(network, inputs):
    return [network(step) for step in inputs]


def counted(network, inputs, *, run=loop, neurons=(Neurons,), **options):
    layers = count_recording(record(network, inputs, neurons=neurons, run=run, **options)).layers
    return {layer.name: layer for layer in layers}


def brute_force(arriving, matrix):
    """Count every spike that meets a weight, and every output that one of them reaches; matrix (outputs, inputs)."""
    rows, pattern = np.asarray(arriving).reshape(-1, matrix.shape[1]), np.asarray(matrix.detach()) != 0
    operations = reached = 0
    for row in rows:
        for weights in pattern:
            met = sum(1 for event, weight in zip(row, weights, strict=True) if event and weight)
            operations, reached = operations + met, reached + (met > 0)
    return operations, reached


# Every way to multiply by weights.

MATRIX_PRODUCTS = {
    "linear": (functional.linear, (NEURONS, LINES)),
    "matmul": (lambda x, w: x @ w, (LINES, NEURONS)),
    "weights first": (lambda x, w: (w @ x.T).T, (NEURONS, LINES)),
    "mm": (torch.mm, (LINES, NEURONS)),
    "inner": (torch.inner, (NEURONS, LINES)),
    "inner, weights first": (lambda x, w: torch.inner(w, x).T, (NEURONS, LINES)),
    "sparse.mm": (lambda x, w: torch.sparse.mm(w.to_sparse(), x.T).T, (NEURONS, LINES)),
    "sparse rows": (lambda x, w: (w.to_sparse_csr() @ x.T).T, (NEURONS, LINES)),
    "addmm": (lambda x, w: torch.addmm(torch.zeros(NEURONS), x, w), (LINES, NEURONS)),
    "mask in the product": (lambda x, w: x @ (w * (w > 0)).T, (NEURONS, LINES)),
}


@pytest.mark.parametrize("way", MATRIX_PRODUCTS)
@pytest.mark.parametrize("name", ["weight", "kernel", "A"])
def test_a_matrix_product_counts_as_a_linear_layer(way, name):
    function, shape = MATRIX_PRODUCTS[way]
    network, inputs = nn.Sequential(Weights(function, *shape, name=name), Neurons()), spikes()
    matrix = getattr(network[0], name)
    matrix = matrix.T if shape[0] == LINES else matrix
    matrix = matrix * (matrix > 0) if "mask" in way else matrix
    (layer,) = counted(network, inputs).values()
    assert (layer.sop_effective, layer.neuron_updates_touched) == brute_force(inputs, matrix)
    assert layer.neuron_updates == STEPS * BATCH * NEURONS
    assert layer.spikes_out == int(torch.stack(network[1].emitted).sum())


@pytest.mark.parametrize(
    ("function", "shape", "named"),
    [
        (lambda x, w: torch.linalg.multi_dot([x, w, w.T]), (LINES, NEURONS), "linalg_multi_dot"),
        (lambda x, w: torch.einsum("bi,io->bo", x, w), (LINES, NEURONS), "einsum"),
        (lambda x, w: torch.tensordot(x, w, 1), (LINES, NEURONS), "tensordot"),
        (lambda x, w: (x[:, None, :] * w).sum(-1), (NEURONS, LINES), "mul"),
        (lambda x, w: torch.cdist(x, w), (NEURONS, LINES), "cdist"),
        (lambda x, w: torch.kron(x, w), (NEURONS, LINES), "kron"),
        (lambda x, w: torch.bmm(x[:, None], w.expand(BATCH, LINES, NEURONS))[:, 0], (LINES, NEURONS), "bmm"),
    ],
)
def test_another_product_is_refused_by_its_name_beside_layers_that_can_be_counted(function, shape, named):
    class Beside(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(LINES, LINES), Weights(function, *shape)

        def forward(self, signal):
            self.second((self.first(signal) > 0).float())

    with pytest.raises(BadInput, match=f"layer 'second'.*'{named}'.*cannot be counted"):
        counted(Beside(), spikes())


def test_weights_that_no_torch_function_receives_are_refused():
    class Elsewhere(nn.Linear):
        def forward(self, signal):
            return torch.from_numpy(signal.numpy() @ self.weight.detach().numpy().T)

    with pytest.raises(BadInput, match="'0' \\(Elsewhere\\) has the weights"):
        counted(nn.Sequential(Elsewhere(LINES, 4), nn.Linear(4, 4)), spikes())


# Weights that are vectors.


class OneToOne(nn.Module):
    """Recurrent neurons with one weight each, and a threshold and a decay that are learned."""

    def __init__(self, neurons, product):
        super().__init__()
        self.v, self.z, self.product, self.emitted = 0.0, torch.zeros(neurons), product, []
        self.recurrent = nn.Parameter(torch.rand(neurons) * (torch.rand(neurons) < 0.6))
        self.threshold, self.decay = nn.Parameter(torch.full((neurons,), 0.3)), nn.Parameter(torch.rand(neurons))

    def forward(self, current):
        self.v = self.decay * self.v + self.product(current, self.z, self.recurrent)
        self.z = (self.v > self.threshold).float()
        self.v = self.v - self.threshold * self.z  # a reset, not a connection
        self.emitted.append(self.z)
        return self.z


@pytest.mark.parametrize(
    "product",
    [
        lambda current, z, w: current + w * z,
        lambda current, z, w: current + z * w,
        lambda current, z, w: torch.addcmul(current, z, w),
        lambda current, z, w: current + z.mul(w),
        lambda current, z, w: current + z @ torch.diag(w),
        lambda current, z, w: current + functional.linear(z, w.diag()),
    ],
)
def test_recurrent_weights_that_are_a_vector_count_as_the_diagonal_matrix(product):
    network, inputs = nn.Sequential(nn.Linear(LINES, NEURONS), OneToOne(NEURONS, product)), spikes()
    first, recurrent = counted(network, inputs, neurons=(OneToOne,)).values()
    matrix = torch.diag(network[1].recurrent)
    before = torch.stack(network[1].emitted[:-1])
    assert recurrent.sop_effective == brute_force(before, matrix)[0] > 0
    assert recurrent.source == "0"
    assert first.sop_effective == brute_force(inputs, network[0].weight)[0]
    assert first.neuron_updates + recurrent.neuron_updates == STEPS * BATCH * NEURONS
    assert first.spikes_out + recurrent.spikes_out == int(torch.stack(network[1].emitted).sum())


# Layers that meet.


class Block(nn.Module):
    """A residual block with weights in both branches."""

    def __init__(self):
        super().__init__()
        self.a, self.n = nn.Linear(LINES, NEURONS), Neurons()
        self.b, self.short, self.m = nn.Linear(NEURONS, NEURONS, bias=False), nn.Linear(LINES, NEURONS), Neurons()

    def forward(self, signal):
        return self.m(self.b(self.n(self.a(signal))) + self.short(signal))


def test_a_residual_connection_counts_the_neurons_once():
    network, inputs = Block(), spikes()
    layers = counted(network, inputs)
    assert {name: layer.source for name, layer in layers.items()} == {"a": "input", "b": "a", "short": "input"}
    assert sum(layer.neuron_updates for layer in layers.values()) == 2 * NEURONS * STEPS * BATCH
    assert sum(layer.state_reads for layer in layers.values()) == 2 * NEURONS * STEPS * BATCH
    assert sum(layer.bias_adds for layer in layers.values()) == 2 * NEURONS * STEPS * BATCH
    fired = torch.stack(network.n.emitted)
    assert layers["short"].sop_effective == brute_force(inputs, network.short.weight)[0]
    assert layers["b"].sop_effective == brute_force(fired, network.b.weight)[0]
    together = torch.cat([fired, inputs], -1), torch.cat([network.b.weight, network.short.weight], 1)
    assert layers["b"].neuron_updates_touched == brute_force(*together)[1]
    assert layers["b"].spikes_out == int(torch.stack(network.m.emitted).sum())
    assert layers["short"].spikes_out == layers["short"].neuron_updates_touched == 0


def test_units_that_are_no_module_are_counted_once_as_well():
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.short, self.out = (nn.Linear(NEURONS, NEURONS) for _ in range(4))

        def forward(self, signal):
            hidden = (self.a(signal) > 0).float()
            return self.out((self.b(hidden) + self.short(signal) > 0).float())

    layers = counted(Plain(), spikes(NEURONS), neurons=())
    assert {name: layer.source for name, layer in layers.items()} == {
        "a": "input",
        "b": "a",
        "short": "input",
        "out": "b",
    }
    assert sum(layer.neuron_updates for layer in layers.values()) == 3 * NEURONS * STEPS * BATCH


def test_branches_count_the_neurons_of_each():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.common, self.left, self.right = nn.Linear(LINES, NEURONS), Neurons(), Neurons()

        def forward(self, signal):
            current = self.common(signal)
            return self.left(current) + self.right(2 * current)

    network = Branches()
    (layer,) = counted(network, spikes()).values()
    assert layer.neuron_updates == layer.neurons * STEPS * BATCH == 2 * NEURONS * STEPS * BATCH
    assert layer.spikes_out == sum(int(torch.stack(each.emitted).sum()) for each in (network.left, network.right))


def test_a_membrane_shortcut_counts_every_layer_of_neurons():
    class Shortcut(nn.Module):  # MS-ResNet: currents, not spikes, go around the block
        def __init__(self):
            super().__init__()
            self.fc = nn.ModuleList(nn.Linear(NEURONS, NEURONS) for _ in range(3))
            self.n = nn.ModuleList(Neurons() for _ in range(3))

        def forward(self, signal):
            current = self.fc[0](signal)
            for neurons, layer in zip(self.n, self.fc[1:], strict=False):
                current = current + layer(neurons(current))
            return self.n[2](current)

    layers = counted(Shortcut(), spikes(NEURONS))
    assert [layer.neuron_updates for layer in layers.values()] == [NEURONS * STEPS * BATCH] * 3


def test_joined_layers_are_not_the_same_neurons():
    class Joined(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.n = nn.Linear(LINES, 4), nn.Linear(LINES, 3), Neurons()

        def forward(self, signal):
            return self.n(torch.cat([self.a(signal), self.b(signal)], -1))

    network, inputs = Joined(), spikes()
    layers = counted(network, inputs)
    assert sum(layer.neuron_updates for layer in layers.values()) == 7 * STEPS * BATCH
    both = torch.cat([network.a.weight, network.b.weight])
    assert sum(layer.neuron_updates_touched for layer in layers.values()) == brute_force(inputs, both)[1]


@pytest.mark.parametrize("tau_syn", [0.0, 0.5])
def test_our_own_recurrent_neurons_are_counted_once(tau_syn):
    network = nn.Sequential(nn.Linear(LINES, NEURONS), RecurrentLIF(NEURONS, threshold=0.2, tau_syn=tau_syn))
    inputs = spikes()
    first, recurrent = counted(network, inputs, run=None, neurons=(LIF,)).values()
    with torch.no_grad():
        fired = network(inputs)
    assert first.neuron_updates + recurrent.neuron_updates == NEURONS * STEPS * BATCH
    assert first.state_reads == (2 if tau_syn else 1) * NEURONS * STEPS * BATCH
    assert recurrent.sop_effective == brute_force(fired[:-1], network[1].recurrent.weight)[0] > 0
    assert first.spikes_out == int(fired.sum())


def test_pooling_before_the_neurons_leaves_the_pooled_neurons():
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.n = nn.Conv2d(1, 2, 3, bias=True), Neurons()
            self.conv.weight.data *= torch.rand_like(self.conv.weight) < 0.4

        def forward(self, image):
            return self.n(functional.max_pool2d(self.conv(image), 2))

    network, images = Pooled(), spikes(1, 6, 6, rate=0.1)
    (layer,) = counted(network, images).values()
    assert (layer.neurons, layer.neuron_updates) == (2 * 2 * 2, 2 * 2 * 2 * STEPS * BATCH)
    assert layer.bias_adds == layer.neuron_updates
    touched = effective = 0
    pattern = network.conv.weight.detach() != 0
    for image in images.reshape(-1, 6, 6):
        met = torch.zeros(2, 4, 4, dtype=torch.int64)
        for out, y, x, dy, dx in np.ndindex(2, 4, 4, 3, 3):
            met[out, y, x] += int(image[y + dy, x + dx] and pattern[out, 0, dy, dx])
        effective += int(met.sum())
        touched += sum(bool(met[c, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].any()) for c, y, x in np.ndindex(2, 2, 2))
    assert (layer.sop_effective, layer.neuron_updates_touched) == (effective, touched)


def test_neurons_without_weights_before_them_have_one_connection_each():
    inputs = spikes()
    first, second = counted(nn.Sequential(Neurons(), nn.Linear(LINES, 4)), inputs).values()
    both = {first.name: first, second.name: second}
    assert both["0"].sop_effective == int(inputs.sum())
    assert both["0"].neuron_updates == LINES * STEPS * BATCH
    assert both["1"].source == "0"


# Tokens and attention.


@pytest.mark.parametrize("run", [None, loop])
def test_layers_of_tokens_are_counted_as_one_layer_for_each_token(run):
    layer, tokens = nn.Linear(LINES, NEURONS), spikes(5, LINES)
    (seen,) = counted(nn.Sequential(layer), tokens, run=run).values()
    assert (seen.sop_effective, seen.neuron_updates_touched) == brute_force(tokens, layer.weight)
    assert (seen.inputs, seen.neurons, seen.stored) == (5 * LINES, 5 * NEURONS, 5 * LINES * NEURONS)
    assert seen.weights == LINES * NEURONS


class Attention(nn.Module):
    def __init__(self, product):
        super().__init__()
        self.q, self.k, self.n, self.m, self.product = nn.Linear(8, 8), nn.Linear(8, 8), Neurons(), Neurons(), product

    def forward(self, tokens):
        return self.product(self.n(self.q(tokens)), self.m(self.k(tokens)))


@pytest.mark.parametrize(
    "product",
    [
        lambda q, k: q @ k.transpose(-1, -2),
        lambda q, k: torch.einsum("bnc,bmc->bnm", q, k),
        lambda q, k: torch.bmm(q, k.transpose(-1, -2)),
        lambda q, k: q * k,
        lambda q, k: functional.scaled_dot_product_attention(q, k, k),
    ],
)
def test_attention_is_refused_because_it_multiplies_activations(product):
    with pytest.raises(BadInput, match="multiplies activations by activations, as attention does"):
        counted(Attention(product), spikes(5, 8))


# Neurons that advance one step per call.


class ReturnsState(nn.Module):
    def forward(self, current, state=None):
        v = current if state is None else 0.5 * state + current
        spikes = (v > 0.4).float()
        return spikes, v * (1 - spikes)


class Chain(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.n = nn.Linear(LINES, NEURONS), ReturnsState()

    def forward(self, signal):
        return self.n(self.fc(signal))[0]


class InADictionary(Neurons):
    """State in a dictionary of the module, as SpikingJelly keeps it."""

    def __init__(self):
        super().__init__()
        self.memories = {"v": 0.0}

    def forward(self, current):
        v = 0.5 * self.memories["v"] + current
        spikes = (v > 0.4).float()
        self.memories["v"] = v * (1 - spikes)
        return spikes


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(nn.Linear(LINES, NEURONS), Neurons()),
        lambda: nn.Sequential(nn.Linear(LINES, NEURONS), InADictionary()),
        Chain,
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_single_step_neurons_without_a_loop_are_refused(make, named):
    neurons = (Neurons, ReturnsState) if named else (LIF,)
    with pytest.raises(BadInput, match=r"advances one step per call, but received all 6 steps in one call.*loop"):
        counted(make(), spikes(), run=None, neurons=neurons)


class EveryStep(nn.Module):
    """Neurons that run all steps in one call, and keep the potentials of every step."""

    def __init__(self, keep):
        super().__init__()
        self.keep, self.potentials = keep, None

    def forward(self, currents):
        v, spikes, potentials = torch.zeros_like(currents[0]), [], []
        for current in currents:
            v = self.keep * v + current
            potentials.append(v)
            spikes.append((v > 0.4).float())
            v = v * (1 - spikes[-1])
        self.potentials = torch.stack(potentials)
        return torch.stack(spikes)


@pytest.mark.parametrize("keep", [0.0, 0.5])
def test_neurons_that_run_all_steps_are_accepted_also_if_they_keep_their_potentials(keep):
    network, inputs = nn.Sequential(nn.Linear(LINES, NEURONS), EveryStep(keep)), spikes()
    (layer,) = counted(network, inputs, run=None, neurons=(EveryStep,)).values()
    assert layer.sop_effective == brute_force(inputs, network[0].weight)[0]


def test_our_own_neurons_in_a_loop_are_refused_because_they_start_from_rest_each_time():
    network = nn.Sequential(nn.Linear(LINES, NEURONS), LIF(NEURONS))
    with pytest.raises(BadInput, match=r"runs all 6 steps of .* in one call"):
        counted(network, spikes(), neurons=(LIF,))


def test_the_probe_leaves_the_state_of_the_neurons_as_the_run_left_it():
    network, inputs = nn.Sequential(nn.Linear(LINES, NEURONS), Neurons()), spikes()
    with pytest.raises(BadInput):
        counted(network, inputs, run=None)
    left, network[1].v = network[1].v, 0.0
    network(inputs)
    assert torch.equal(left, network[1].v)


@pytest.mark.parametrize("swapped", [False, True])
def test_samples_may_come_first_inside_the_network(swapped):
    layer, inputs = nn.Linear(LINES, NEURONS), spikes()
    run = (lambda network, given: network(given.swapaxes(0, 1))) if swapped else None
    (seen,) = counted(nn.Sequential(layer), inputs, run=run).values()
    assert seen.each_sample("sop_effective").tolist() == (inputs.sum((0, 2)) * NEURONS).tolist()
    assert seen.per_step("sop_effective").tolist() == (inputs.sum((1, 2)) * NEURONS).tolist()
