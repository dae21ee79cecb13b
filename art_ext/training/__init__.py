"""Training: what a method says (`Objective`), the one loop (`fit`), and checkpoints."""

from art_ext.training.batches import Batches
from art_ext.training.checkpoint import Checkpoint, remove_stale, replacing
from art_ext.training.loop import Data, Scheduler, Step, fit
from art_ext.training.objective import Objective

__all__ = ["Batches", "Checkpoint", "Data", "Objective", "Scheduler", "Step", "fit", "remove_stale", "replacing"]
