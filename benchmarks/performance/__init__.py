"""How fast the attacks, the rim, the harness and the training are, and how much memory they hold: see `benchmarks`."""
