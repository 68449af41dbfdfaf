"""Evaluation: the published protocols and our own, run on the same engine or server as everything else."""
