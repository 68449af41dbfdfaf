"""Offline batches: Ray Data takes a manifest's rows through decode and engine actors. Progress is durable."""
