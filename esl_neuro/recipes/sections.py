"""The sections of a recipe: fields, allowed values and defaults. No torch here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from esl_neuro.resets import ZERO, Reset
from esl_neuro.toml_tables import Table

Fraction = Annotated[float, Field(ge=0, le=1)]
Density = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1, lt=2**31)]
Natural = Annotated[int, Field(ge=0, lt=2**31)]


class Section(Table):
    """A section of a recipe."""


class DataSection(Section):
    """The data, and their conversion to the input of a network."""

    name: str = Field(
        description="a data set by name; or your own data: the path of an .npz file with x and y, of a folder with one "
        "folder of images or event recordings per class, or module:function"
    )
    encoding: str = Field(description="how samples become input over time")
    steps: Count = Field(description="time steps per sample; frames per recording of event data")
    shape: list[Count] | None = Field(
        default=None,
        min_length=3,
        max_length=3,
        description="channels, height and width to which images are enlarged and event frames are drawn",
    )
    samples: Count | None = Field(default=None, description="at most this many samples of each part, for short budgets")
    augment: str | None = Field(
        default=None, description="augmentation of training samples, or none; default: that of the data set"
    )
    cut: Literal["count", "time", "duration"] = Field(
        default="count",
        description="recordings are cut into frames of equal event count, into equal parts of the time from first to "
        "last event, or into frames of frame_us from start_us",
    )
    frame_us: Count | None = Field(default=None, description="duration of a frame in microseconds, for cut = duration")
    start_us: Annotated[int, Field(ge=0, lt=2**31)] | None = Field(
        default=None,
        description="beginning of the first frame in the recording, in microseconds, for cut = duration; 0 by default",
    )
    sensor: list[Count] | None = Field(
        default=None,
        min_length=2,
        max_length=2,
        description="height and width of the event camera of your own recordings",
    )
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        default=None,
        description="SHA-256 of your own data, which a run records; data with another one are refused",
    )


# --- networks -------------------------------------------------------------------------------------------------------


class SpikingSection(Section):
    """Common fields of all networks over time."""

    notation: str = Field(
        description="papers' notation, such as 784-800-10; an architecture and its outputs, such as VGGSNN-10; "
        "or module:function of your own"
    )
    threshold: Positive = Field(description="initial threshold of every neuron")
    surrogate: str = Field(description="surrogate gradient of the spike")
    surrogate_width: Positive = Field(description="width of the surrogate, in units of potential")
    mode: Literal["stl", "sl", "tl"] = Field(
        description="what is trained: weights and thresholds (stl), weights only (sl), thresholds only (tl)"
    )
    thresholds: Literal["channel", "position"] = Field(
        default="channel", description="one threshold per channel of a convolution, or per position; always per neuron"
    )
    reset: Reset = Field(
        default=ZERO,
        description="a spike sets the potential to zero (zero) or subtracts the threshold, at once (subtract) or after "
        "the leak of the next step (subtract_next_step)",
    )
    timing: Literal["aligned", "streaming"] = Field(
        default="aligned",
        description="spikes arrive in the step in which they are sent, and the compiler delays shorter paths "
        "(aligned); or every connection takes one step, as on the chip, and paths differ (streaming)",
    )
    delay_slots: Count = Field(
        default=1,
        description="delays that each connection of a linear layer can have: 0 steps, delay_stride steps, twice that, "
        "...; several delays of one pair of neurons are separate connections",
    )
    delay_stride: Count = Field(default=1, description="steps between two delay slots")
    bias: bool = Field(default=False, description="whether convolutions and linear layers have a bias")
    readout: Literal["spikes", "accumulate"] = Field(
        default="spikes", description="output neurons fire, or their inputs are summed without decay (eq. 10)"
    )


class LifSection(SpikingSection):
    """Leaky integrate-and-fire neurons (ESL-SNNs eqs. 7-9)."""

    neuron: Literal["lif"] = Field(default="lif", description="kind of the neurons")
    tau: Fraction = Field(description="membrane decay factor per step")


class CubaLifSection(SpikingSection):
    """LIF neurons with exponential synapses."""

    neuron: Literal["cuba_lif"] = Field(description="kind of the neurons")
    tau: Fraction = Field(description="membrane decay factor per step")
    tau_syn: Annotated[float, Field(ge=0, lt=1)] = Field(description="decay factor of the synaptic current per step")


class IfSection(SpikingSection):
    """Neurons without leak."""

    neuron: Literal["if"] = Field(description="kind of the neurons")


class LiafSection(SpikingSection):
    """Leaky integrate and analog fire neurons (LIAF-Net, Wu et al. 2021): the output of a step is an analog value.

    With readout = "spikes" the output neurons have such outputs too, and the class is the largest mean, as in the
    authors' programs.
    """

    neuron: Literal["liaf"] = Field(description="kind of the neurons")
    tau: Fraction = Field(description="membrane decay factor per step")
    activation: str = Field(default="selu", description="what leaves the neuron, as a function of its potential")
    reset: Literal["zero"] = Field(default="zero", description="the spike inside the neuron sets the potential to zero")


class SingleSpikeSection(Section):
    """The non-leaky network of exact spike times (ESL-SNNs eqs. 3-6)."""

    neuron: Literal["single_spike"] = Field(description="kind of the neurons")
    notation: str = Field(description="layer sizes joined by '-'")
    threshold: Positive = Field(default=1.0, description="threshold of every neuron")
    initial_sum: Annotated[float, Field(gt=1)] = Field(
        default=4.0, description="sum of the weights into each neuron at the start, in units of the threshold"
    )
    sum_cost: NonNegative = Field(default=1.0, description="strength K of the cost of neurons too weak to fire")
    gradient_limit: Positive = Field(default=10.0, description="largest row-normalised norm of a layer's gradient")


# --- structure learners: fields and defaults are those of the functions in esl_neuro.sparsity (a test compares) ------


class LearnerSection(Section):
    """Common fields of all structure learners."""

    layers: list[str] = Field(min_length=1, description='masked layers by name, or ["all"]')

    @property
    def options(self) -> dict[str, Any]:
        """All fields except the learner's name, the layers and their storage."""
        return self.model_dump(exclude={"learner", "layers", "storage"})


class StoredSection(LearnerSection):
    """Common fields of the learners that can do without the connections that do not exist."""

    storage: Literal["masked", "sparse", "auto"] = Field(
        default="masked",
        description="dense weights with a mask (masked), the connections only (sparse), or sparse where the recipe "
        "allows it and its density is low enough to save time (auto)",
    )


class EslSection(StoredSection):
    """Evolutionary structure learning (ESL-SNNs, Algorithm 1)."""

    learner: Literal["esl"] = Field(default="esl", description="rule that changes the connections")
    density: Density | None = Field(default=None, description="share of connections in each masked layer")
    epsilon: Positive | None = Field(default=None, description="parameter of eq. 1, instead of the density")
    densities: dict[str, Density] | None = Field(
        default=None, min_length=1, description="density of each masked layer by name, instead of one for all"
    )
    distribution: str = Field(
        default="erdos_renyi", description="how the connections are distributed over the masked layers"
    )
    end: Fraction = Field(
        default=0.75, description="share of all iterations after which the structure is fixed (T_end)"
    )
    alpha: Fraction = Field(default=0.3, description="share of connections replaced at the first update (eq. 2)")
    schedule: str = Field(default="cosine", description="course of the share of connections that is replaced")
    update_every: Count = Field(default=100, description="iterations between updates (T_iter)")
    prune: str = Field(default="magnitude", description="rule that selects the connections that die")
    threshold: NonNegative = Field(default=1e-3, description="size below which the rule 'threshold' prunes")
    growth: dict[str, Positive] | None = Field(
        default=None, min_length=1, description="growth rules and their shares of the births"
    )
    redistribution: str | None = Field(
        default=None, description="rule that moves connections between layers; none by default"
    )


class DenseSection(LearnerSection):
    """All connections, as a baseline."""

    learner: Literal["dense"] = Field(description="rule that changes the connections")


class StaticSection(StoredSection):
    """A random graph that never changes."""

    learner: Literal["static"] = Field(description="rule that changes the connections")
    density: Density | None = Field(default=None, description="share of connections in each masked layer")
    epsilon: Positive | None = Field(default=None, description="parameter of eq. 1, instead of the density")
    densities: dict[str, Density] | None = Field(
        default=None, min_length=1, description="density of each masked layer by name, instead of one for all"
    )
    per_neuron: Count | None = Field(
        default=None, description="connections of each neuron of the masked layers, instead of the density"
    )
    window: Count | None = Field(
        default=None, description="input lines around the place of a neuron from which its connections come"
    )
    long_range: Natural = Field(default=0, description="how many connections of a neuron come from outside its window")
    distribution: str = Field(
        default="erdos_renyi", description="how the connections are distributed over the masked layers"
    )


class SetSection(StoredSection):
    """Sparse evolutionary training (Mocanu et al. 2018)."""

    learner: Literal["set"] = Field(description="rule that changes the connections")
    density: Density | None = Field(default=None, description="share of connections in each masked layer")
    epsilon: Positive | None = Field(default=None, description="parameter of eq. 1, instead of the density")
    zeta: Fraction = Field(default=0.3, description="share of connections replaced at each update")
    update_every: Count = Field(default=500, description="iterations between updates")
    end: Fraction = Field(default=1.0, description="share of all iterations after which the structure is fixed")


class RiglSection(StoredSection):
    """Rigged lottery (Evci et al. 2020)."""

    learner: Literal["rigl"] = Field(description="rule that changes the connections")
    density: Density = Field(default=0.1, description="share of connections in each masked layer")
    distribution: str = Field(default="erk", description="how the connections are distributed over the masked layers")
    alpha: Fraction = Field(default=0.3, description="share of connections replaced at the first update")
    update_every: Count = Field(default=100, description="iterations between updates")
    end: Fraction = Field(default=0.75, description="share of all iterations after which the structure is fixed")


class SparseMomentumSection(LearnerSection):
    """Sparse momentum (Dettmers & Zettlemoyer 2019)."""

    learner: Literal["sparse_momentum"] = Field(description="rule that changes the connections")
    density: Density = Field(default=0.05, description="share of connections in each masked layer")
    distribution: str = Field(
        default="uniform", description="how the connections are distributed over the masked layers"
    )
    alpha: Fraction = Field(default=0.5, description="share of connections replaced at the first update")
    schedule: str = Field(default="cosine", description="course of the share of connections that is replaced")
    update_every: Count = Field(default=600, description="iterations between updates")
    end: Fraction = Field(default=1.0, description="share of all iterations after which the structure is fixed")


class DeepRSection(LearnerSection):
    """Deep R (Bellec et al. 2018)."""

    learner: Literal["deep_r"] = Field(description="rule that changes the connections")
    density: Density | None = Field(default=None, description="share of connections in each masked layer")
    epsilon: Positive | None = Field(default=None, description="parameter of eq. 1, instead of the density")
    densities: dict[str, Density] | None = Field(
        default=None, min_length=1, description="density of each masked layer by name, instead of one for all"
    )
    distribution: str = Field(
        default="erdos_renyi", description="how the connections are distributed over the masked layers"
    )
    l1: NonNegative = Field(default=1e-5, description="strength of the L1 penalty, times the learning rate")
    noise: NonNegative = Field(default=1e-5, description="strength of the noise, times the learning rate")


class SoftDeepRSection(LearnerSection):
    """Soft Deep R (Bellec et al. 2018)."""

    learner: Literal["soft_deep_r"] = Field(description="rule that changes the connections")
    density: Density | None = Field(default=None, description="share of connections in each masked layer")
    epsilon: Positive | None = Field(default=None, description="parameter of eq. 1, instead of the density")
    densities: dict[str, Density] | None = Field(
        default=None, min_length=1, description="density of each masked layer by name, instead of one for all"
    )
    distribution: str = Field(
        default="erdos_renyi", description="how the connections are distributed over the masked layers"
    )
    l1: Positive = Field(default=1e-5, description="strength of the L1 penalty, times the learning rate")
    noise: Positive = Field(default=1e-5, description="strength of the noise, times the learning rate")


class SynapticSamplingSection(LearnerSection):
    """Synaptic sampling (Kappel et al. 2015)."""

    learner: Literal["synaptic_sampling"] = Field(description="rule that changes the connections")
    mean: float = Field(default=0.5, description="mean of the prior of a synaptic parameter")
    deviation: Positive = Field(default=1.0, description="standard deviation of that prior")
    offset: NonNegative = Field(default=3.0, description="offset of the map from parameter to weight")
    temperature: NonNegative = Field(default=1.0, description="1 samples the posterior, 0 climbs it")
    samples: Positive = Field(default=100.0, description="training samples that the likelihood stands for")


class GradRSection(LearnerSection):
    """Gradient rewiring (Chen et al. 2021)."""

    learner: Literal["grad_r"] = Field(description="rule that changes the connections")
    density: Density = Field(default=0.05, description="share of connections in each masked layer")
    penalty: Positive = Field(default=1e-3, description="strength of the prior on the connections")


class StdsSection(LearnerSection):
    """State transition of dendritic spines (Chen et al. 2022)."""

    learner: Literal["stds"] = Field(description="rule that changes the connections")
    width: NonNegative = Field(default=1.0, description="final width of the dead zone in which a weight is zero")
    rise: str = Field(default="sine", description="course of the width up to its final value")
    end: Fraction = Field(default=1.0, description="share of all iterations at which the width is reached")


class AdmmSection(LearnerSection):
    """ADMM pruning with fine-tuning (Deng et al. 2021)."""

    learner: Literal["admm"] = Field(description="rule that changes the connections")
    density: Density = Field(default=0.1, description="share of connections in each masked layer")
    distribution: str = Field(
        default="uniform", description="how the connections are distributed over the masked layers"
    )
    rho: Positive = Field(default=1e-2, description="strength of the pull towards the sparse weights")
    dual_every: Count = Field(default=100, description="iterations between updates of the dual variables")
    end: Fraction = Field(
        default=0.5, description="share of all iterations after which the structure is fixed, for fine-tuning"
    )


# --- training -------------------------------------------------------------------------------------------------------


class TrainingSection(Section):
    """Optimisation."""

    epochs: Count = Field(description="passes over the training samples")
    batch: Count = Field(description="samples per step of the optimiser")
    accumulation: Count = Field(
        default=1,
        description="parts of a batch that a process computes one after the other, to save memory; their gradients are "
        "added, and batch norm has the statistics of a part",
    )
    loss: str = Field(default="tet", description="loss over the outputs of every step")
    tet_lambda: Fraction = Field(default=0.0, description="share of TET's squared error, used by tet")
    optimiser: str = Field(default="adam", description="rule that changes the weights, by name")
    learning_rate: Positive = Field(description="learning rate at the start")
    rate_schedule: str = Field(default="cosine", description="course of the learning rate")
    final_rate: Fraction = Field(default=0.0, description="learning rate at the end, as a share of that at the start")
    weight_decay: NonNegative = Field(default=0.0, description="decay of the weights, as the optimiser defines it")
    momentum: Fraction = Field(default=0.9, description="used by sgd")
    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(
        description="decides weights, connections, order of the samples and validation part"
    )
    threads: Annotated[int, Field(ge=1, le=1024)] = Field(
        description="processor threads; part of the recipe because sums depend on it"
    )
    device: Literal["cpu", "cuda"] = Field(default="cpu", description="where it trains")
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32", description="of products; potentials, weights and moments stay float32"
    )
    start_from: str | None = Field(
        default=None,
        description="folder of a finished run whose best weights, connections and thresholds are the start",
    )
    quantize: str | None = Field(
        default=None, description="hardware target whose integers the forward pass computes with"
    )
    input_bits: Annotated[int, Field(ge=2, le=16)] = Field(
        default=8, description="payload bits of graded input, used by quantize"
    )
    weight_bits: Annotated[int, Field(ge=2, le=31)] | dict[str, Annotated[int, Field(ge=2, le=31)]] | None = Field(
        default=None,
        description="bits of the weights of all layers, or of some ({ fc1 = 4, fc2 = 8 }), used by quantize",
    )


class BudgetSection(Section):
    """What a chip allows a network that is trained for it."""

    fan_in: Count | None = Field(
        default=None, description="largest number of synapses of a neuron, over all layers that feed it"
    )
    cores: Count | None = Field(default=None, description="cores of the target that it may use, with all their limits")
    neurons_per_core: Count | None = Field(default=None, description="largest number of neurons of a core")
    synapses_per_core: Count | None = Field(default=None, description="largest number of synapses of a core")
    synaptic_memory_per_core: Count | None = Field(
        default=None, description="bits of the synapses of a core, as the compiler counts them"
    )
    input_axons_per_core: Count | None = Field(
        default=None, description="sources with a synapse on a core, for each connection of the chip"
    )
    output_axons_per_core: Count | None = Field(
        default=None, description="cores that the neurons of a core reach, added up"
    )
    energy: str | None = Field(
        default=None,
        description='largest energy of the operations of a sample, "400 nJ", or "0.5x" for half that of the reference',
    )
    target: str = Field(
        default="loihi2", description="hardware target whose file prices the operations and limits the cores"
    )
    reference: str | None = Field(
        default=None, description="folder of a finished run of the same network, for an energy as a share"
    )
    rate_floor: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.01, description="spikes of a neuron in a step below which a layer is kept alive"
    )


class ExpectedSection(Section):
    """The expected result of the recipe, and its source."""

    test_accuracy: Fraction = Field(description="fraction of the test samples")
    source: str = Field(description="where it was reached")


class PublishedSection(Section):
    """Results that a paper reports for this experiment, not measured here."""

    test_accuracy: Fraction = Field(description="fraction of the test samples")
    source: str = Field(description="paper and table")


# --- sections of several kinds --------------------------------------------------------------------------------------


def _kind(field: str, default: str) -> Discriminator:
    """Determine the kind of a section from one of its fields, which is optional for the default kind."""
    read: Callable[[Any], Any] = lambda given: (  # noqa: E731
        given.get(field, default) if isinstance(given, dict) else getattr(given, field, default)
    )
    return Discriminator(read)


NetworkSection = Annotated[
    Annotated[LifSection, Tag("lif")]
    | Annotated[CubaLifSection, Tag("cuba_lif")]
    | Annotated[IfSection, Tag("if")]
    | Annotated[LiafSection, Tag("liaf")]
    | Annotated[SingleSpikeSection, Tag("single_spike")],
    _kind("neuron", "lif"),
]

SparsitySection = Annotated[
    Annotated[EslSection, Tag("esl")]
    | Annotated[DenseSection, Tag("dense")]
    | Annotated[StaticSection, Tag("static")]
    | Annotated[SetSection, Tag("set")]
    | Annotated[RiglSection, Tag("rigl")]
    | Annotated[SparseMomentumSection, Tag("sparse_momentum")]
    | Annotated[DeepRSection, Tag("deep_r")]
    | Annotated[SoftDeepRSection, Tag("soft_deep_r")]
    | Annotated[SynapticSamplingSection, Tag("synaptic_sampling")]
    | Annotated[GradRSection, Tag("grad_r")]
    | Annotated[StdsSection, Tag("stds")]
    | Annotated[AdmmSection, Tag("admm")],
    _kind("learner", "esl"),
]

# The field that determines the kind, and the kinds.
KINDS: dict[str, tuple[str, dict[str, type[Section]]]] = {
    "network": (
        "neuron",
        {
            "lif": LifSection,
            "cuba_lif": CubaLifSection,
            "if": IfSection,
            "liaf": LiafSection,
            "single_spike": SingleSpikeSection,
        },
    ),
    "sparsity": (
        "learner",
        {
            "esl": EslSection,
            "dense": DenseSection,
            "static": StaticSection,
            "set": SetSection,
            "rigl": RiglSection,
            "sparse_momentum": SparseMomentumSection,
            "deep_r": DeepRSection,
            "soft_deep_r": SoftDeepRSection,
            "synaptic_sampling": SynapticSamplingSection,
            "grad_r": GradRSection,
            "stds": StdsSection,
            "admm": AdmmSection,
        },
    ),
}
