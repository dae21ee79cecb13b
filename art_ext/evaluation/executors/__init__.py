"""Who makes the blocks of an evaluation: processes of this machine, torchrun's ranks, Ray's actors, or Slurm's jobs."""

from art_ext.evaluation.executors.base import Executor, Here
from art_ext.evaluation.executors.given import given_executor
from art_ext.evaluation.executors.processes import Processes
from art_ext.evaluation.executors.unit import Unit

__all__ = ["Executor", "Here", "Processes", "Unit", "given_executor"]
