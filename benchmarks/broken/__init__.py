"""A tiny problem, 29 defences that only look robust, and eight honest controls."""
