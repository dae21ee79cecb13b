"""The papers' experiments: one declared table a paper, one runner (`python -m experiments`), the pages of results."""
