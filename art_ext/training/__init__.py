"""Training: what a method says (`Objective`), the loop of a stage (`fit`), a whole training (`run`), checkpoints."""

from art_ext.training.batches import Batches
from art_ext.training.checkpoint import Checkpoint
from art_ext.training.loop import Data, Scheduler, Step, fit
from art_ext.training.objective import Objective
from art_ext.training.run import Callbacks, Optimizers, Row, Validate, made_optimizers, run, said

__all__ = [
    "Batches",
    "Callbacks",
    "Checkpoint",
    "Data",
    "Objective",
    "Optimizers",
    "Row",
    "Scheduler",
    "Step",
    "Validate",
    "fit",
    "made_optimizers",
    "run",
    "said",
]
