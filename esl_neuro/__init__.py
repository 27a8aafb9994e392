"""Train sparse spiking networks, compile them to Loihi 2, verify the integers and estimate the energy.

The commands are functions, here end to end::

    import esl_neuro as esl

    run = esl.train("mlp-digits", seed=0)          # or esl.load_run("runs/mlp-digits-001")
    chip = esl.compile(run, "loihi2")              # or a NIR graph, a .nir file, a torch module
    result = chip.run(esl.test_set(run))           # or arrays, (samples, steps, ...)
    print(chip.findings, chip.utilisation, result.accuracy)
    print(esl.energy_report(result, targets=["truenorth", "loihi", "v100-pcie"]))
    chip.save("out")
    esl.verify("out")

The rooms, in the order of the data (``docs/architecture.md`` has the picture): :mod:`~esl_neuro.data` and
:mod:`~esl_neuro.snn`, :mod:`~esl_neuro.sparsity`, :mod:`~esl_neuro.training`, :mod:`~esl_neuro.nirgraph` and
:mod:`~esl_neuro.interchange`, :mod:`~esl_neuro.compiler`, :mod:`~esl_neuro.backends`, :mod:`~esl_neuro.energy`,
:mod:`~esl_neuro.report`, :mod:`~esl_neuro.pipeline` and :mod:`~esl_neuro.cli`. Names are imported on first use, so
neither this package nor ``esl-neuro --help`` loads torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from esl_neuro.lazy import lazily

if TYPE_CHECKING:
    from esl_neuro.backends.netx_reading import from_netx
    from esl_neuro.energy.comparison import ComparisonReport
    from esl_neuro.energy.report import EnergyReport
    from esl_neuro.errors import BadInput, CheckFailed, EslNeuroError, LimitExceeded, MissingDependency
    from esl_neuro.hardware import HardwareTarget, load_target
    from esl_neuro.nirgraph.files import read_nir, write_nir
    from esl_neuro.nirgraph.findings import Finding
    from esl_neuro.pipeline.compilation import check, compile
    from esl_neuro.pipeline.compiled_network import CompiledNetwork, load_compiled
    from esl_neuro.pipeline.exports import Export, compile_file, export_run
    from esl_neuro.pipeline.inputs import Samples, test_set
    from esl_neuro.pipeline.operations import count_operations, price_operations
    from esl_neuro.pipeline.pricing import compare_energy, energy_report
    from esl_neuro.pipeline.readers import ReaderReport, verify_nir
    from esl_neuro.pipeline.simulation import RunResult
    from esl_neuro.pipeline.training import TrainingRun, evaluate, load_run, resume, train
    from esl_neuro.pipeline.verification import Proof, verify
    from esl_neuro.version import __version__

__all__ = [
    "BadInput",
    "CheckFailed",
    "ComparisonReport",
    "CompiledNetwork",
    "EnergyReport",
    "EslNeuroError",
    "Export",
    "Finding",
    "HardwareTarget",
    "LimitExceeded",
    "MissingDependency",
    "Proof",
    "ReaderReport",
    "RunResult",
    "Samples",
    "TrainingRun",
    "__version__",
    "check",
    "compare_energy",
    "compile",
    "compile_file",
    "count_operations",
    "energy_report",
    "evaluate",
    "export_run",
    "from_netx",
    "load_compiled",
    "load_run",
    "load_target",
    "price_operations",
    "read_nir",
    "resume",
    "test_set",
    "train",
    "verify",
    "verify_nir",
    "write_nir",
]

_MODULES = {
    "nirgraph.files": ("read_nir", "write_nir"),
    "nirgraph.findings": ("Finding",),
    "backends.netx_reading": ("from_netx",),
    "energy.comparison": ("ComparisonReport",),
    "energy.report": ("EnergyReport",),
    "errors": ("BadInput", "CheckFailed", "EslNeuroError", "LimitExceeded", "MissingDependency"),
    "hardware": ("HardwareTarget", "load_target"),
    "pipeline.compilation": ("check", "compile"),
    "pipeline.compiled_network": ("CompiledNetwork", "load_compiled"),
    "pipeline.exports": ("Export", "compile_file", "export_run"),
    "pipeline.inputs": ("Samples", "test_set"),
    "pipeline.operations": ("count_operations", "price_operations"),
    "pipeline.pricing": ("compare_energy", "energy_report"),
    "pipeline.readers": ("ReaderReport", "verify_nir"),
    "pipeline.simulation": ("RunResult",),
    "pipeline.training": ("TrainingRun", "evaluate", "load_run", "resume", "train"),
    "pipeline.verification": ("Proof", "verify"),
    "version": ("__version__",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}
__getattr__ = lazily(__name__, _HOMES)


def __dir__() -> list[str]:
    """Return the public names."""
    return list(__all__)
