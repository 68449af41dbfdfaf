"""Offline batches: a manifest of rows through decode actors and engine actors of Ray Data, durably."""
