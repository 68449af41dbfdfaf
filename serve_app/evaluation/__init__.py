"""Evaluation: the published protocols and our own, through the same engine or server as everything else."""
