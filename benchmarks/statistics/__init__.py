"""Whether the intervals and the verdicts of an evaluation hold what they promise: by exact sums and by simulation."""
