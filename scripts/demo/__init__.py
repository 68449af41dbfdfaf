"""The demonstration checkpoint: its drawn faces, synthetic voices, training stages and report."""
