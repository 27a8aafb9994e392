"""The accuracy of a compiled network: its integers beside the equations of its NIR graph, on the same samples."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from esl_neuro.errors import BadInput
from esl_neuro.pipeline.activity import Activity, folder_of, prepare
from esl_neuro.pipeline.sharded_networks import classes
from esl_neuro.pipeline.shards import Elsewhere
from esl_neuro.pipeline.simulation import OnStatus, Progress
from esl_neuro.pipeline.workers import HERE, Workplace


@dataclass(frozen=True)
class NetworkEvaluation:
    """Accuracies of a network.

    Attributes
    ----------
    network : str
        The export, or the NIR file.
    ran_on : str
        Description of the samples.
    samples, steps : int
    accuracy_float, accuracy_integer : float
        Fractions of the samples with the right class, by the equations of the graph and by the integers.
    moved : int
        Samples whose class differs between the two.
    """

    network: str
    ran_on: str
    samples: int
    steps: int
    accuracy_float: float
    accuracy_integer: float
    moved: int

    @property
    def loss_points(self) -> float:
        """Accuracy loss by quantisation, in points."""
        return 100 * (self.accuracy_float - self.accuracy_integer)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "loss_points": self.loss_points}


def evaluate_network(
    path: Path,
    activity: Activity,
    on_status: OnStatus = lambda _: None,
    *,
    where: Workplace = HERE,
    progress: Progress | None = None,
) -> NetworkEvaluation:
    """Test a network on labelled samples: an export on its test set, or any network on given inputs.

    Parameters
    ----------
    path : Path
        An export, a run or a NIR file.
    activity : Activity
        The inputs, with labels.
    on_status : callable
        Called with a message before each long operation.
    where, progress
        As in :func:`~esl_neuro.pipeline.activity.run_network`; only several processes report progress.

    Raises
    ------
    BadInput
        As in :func:`~esl_neuro.pipeline.activity.run_network`, or if the inputs have no labels.
    """
    compiled, samples, arriving = prepare(path, activity, on_status)
    if samples.labels is None:
        raise BadInput(f"{samples.name}: has no labels, which the accuracy needs; add an array 'labels' to the file")
    on_status(f"{path}: running {samples.name}, integers and floating point")
    found = classes(Elsewhere(where, folder_of(path), on_status, progress), compiled, samples, arriving)
    in_float, integer = found["float"], found["integer"]
    return NetworkEvaluation(
        str(path),
        samples.name,
        len(samples),
        compiled.steps,
        float((in_float == samples.labels).mean()),
        float((integer == samples.labels).mean()),
        int((in_float != integer).sum()),
    )
