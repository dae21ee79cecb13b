"""Training: a method's own part (`Objective`), the loop of a stage (`fit`), a whole training (`run`), checkpoints."""

from art_ext.training.batches import Batches
from art_ext.training.by_epoch import ByEpoch
from art_ext.training.checkpoint import Checkpoint
from art_ext.training.devices import check_settings, launched, local_rank, make_fabric
from art_ext.training.logs import finalized, made_logger
from art_ext.training.loop import Data, Step, fit
from art_ext.training.objective import Objective, Scheduler, check_labels, needs_labels
from art_ext.training.processes import by_first
from art_ext.training.run import Callbacks, Optimizers, Row, Validate, made_optimizers, run, said
from art_ext.training.validation import Validation

__all__ = [
    "Batches",
    "ByEpoch",
    "Callbacks",
    "Checkpoint",
    "Data",
    "Objective",
    "Optimizers",
    "Row",
    "Scheduler",
    "Step",
    "Validate",
    "Validation",
    "by_first",
    "check_labels",
    "check_settings",
    "finalized",
    "fit",
    "launched",
    "local_rank",
    "made_logger",
    "made_optimizers",
    "make_fabric",
    "needs_labels",
    "run",
    "said",
]
