"""The training loop, losses, checkpoints and run folders."""

from typing import TYPE_CHECKING

from esl_neuro.lazy import lazily

if TYPE_CHECKING:
    from esl_neuro.training.checkpoint import Checkpoint
    from esl_neuro.training.evaluation import load_network
    from esl_neuro.training.losses import LOSSES, make_loss, tet
    from esl_neuro.training.result import TrainingResult
    from esl_neuro.training.run_folder import RunFolder, create_run_folder
    from esl_neuro.training.sweep import SweepPlan, load_plan
    from esl_neuro.training.trainer import Trainer

_HOMES = {
    "Checkpoint": "checkpoint",
    "LOSSES": "losses",
    "make_loss": "losses",
    "tet": "losses",
    "RunFolder": "run_folder",
    "create_run_folder": "run_folder",
    "SweepPlan": "sweep",
    "load_plan": "sweep",
    "Trainer": "trainer",
    "TrainingResult": "result",
    "load_network": "evaluation",
}
__all__ = [
    "LOSSES",
    "Checkpoint",
    "RunFolder",
    "SweepPlan",
    "Trainer",
    "TrainingResult",
    "create_run_folder",
    "load_network",
    "load_plan",
    "make_loss",
    "tet",
]
__getattr__ = lazily(__name__, _HOMES)
