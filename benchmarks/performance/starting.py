"""What it takes to import the package and to ask the command line for help, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

from benchmarks.performance.measure import Comparison, Contender
from benchmarks.performance.problems import Options

COMMANDS = {
    "python -c pass": "pass",
    "import torch": "import torch",
    "import art_ext": "import art_ext",
    "from art_ext.purifiers import RDP": "from art_ext.purifiers import RDP",
    "art-ext --help": "import sys; sys.argv = ['art-ext', '--help']; from art_ext.cli import app; app()",
}
"""Python by name."""
REFERENCE = "import art_ext"


def starting(options: Options) -> list[Comparison]:
    """CPU time is that of the processes."""
    contenders = [Contender(name, lambda code=code: partial(started, code)) for name, code in COMMANDS.items()]  # type: ignore[misc]
    return [Comparison("import", "import and --help", contenders, REFERENCE, {"n": 1}, once=True)]


def started(code: str) -> None:
    """Runs Python on the code.

    Raises:
        CalledProcessError: it failed.
    """
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
