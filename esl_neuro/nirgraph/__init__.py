"""NIR graphs for all rooms: files, structure, discrete time and floating-point simulation."""

from esl_neuro.nirgraph.files import read_nir, write_nir
from esl_neuro.nirgraph.findings import Finding
from esl_neuro.nirgraph.reading import discretise
from esl_neuro.nirgraph.shapes import DiscreteGraph
from esl_neuro.nirgraph.simulation import Simulation, simulate
from esl_neuro.nirgraph.structure import Structure, read_structure
from esl_neuro.nirgraph.time_step import time_step

__all__ = [
    "DiscreteGraph",
    "Finding",
    "Simulation",
    "Structure",
    "discretise",
    "read_nir",
    "read_structure",
    "simulate",
    "time_step",
    "write_nir",
]
