"""The command `art-ext`. Each command imports what it needs when it runs, so that help comes at once."""

from __future__ import annotations

from typing import Annotated

import typer

from art_ext.cli.audit import compare, verify
from art_ext.cli.command import Command, Group
from art_ext.cli.evaluate import evaluate
from art_ext.cli.listing import listing
from art_ext.cli.methods import TrainCommand
from art_ext.cli.purify import purify
from art_ext.cli.report import report
from art_ext.cli.status import status
from art_ext.cli.train import train

app = typer.Typer(
    name="art-ext",
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Each command has an example in its own help: art-ext evaluate --help",
)
EXAMPLE = "Example: art-ext "
TRAIN = "train rdp --data train.npz --classifier net.py:make --features-layer features.3 --out runs/rdp"
EVALUATE = "evaluate --classifier net.py:make --purifier runs/rdp --data test.npz --eps 8/255 --out out/rdp"
REPORT = "report shards/0/report.json shards/1/report.json --out out/whole"

app.command("list", cls=Command, epilog=f"{EXAMPLE}list attacks")(listing)
app.command("train", cls=TrainCommand, epilog=EXAMPLE + TRAIN)(train)
app.command("purify", cls=Command, epilog=f"{EXAMPLE}purify --purifier runs/rdp photos purified")(purify)
app.command("evaluate", cls=Command, epilog=EXAMPLE + EVALUATE)(evaluate)
app.command("report", cls=Command, epilog=EXAMPLE + REPORT)(report)
app.command("status", cls=Command, epilog=f"{EXAMPLE}status out/rdp")(status)
app.command("verify", cls=Command, epilog=f"{EXAMPLE}verify out/rdp")(verify)
app.command("compare", cls=Command, epilog=f"{EXAMPLE}compare out/rdp out/atop --out compared.md")(compare)


def _version(asked: bool) -> None:
    if asked:
        import art_ext

        typer.echo(f"art-ext {art_ext.__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None:
    """Adversarial purification: train purifiers, clean images, measure accuracy under attack."""
