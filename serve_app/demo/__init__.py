"""The demonstration's clips: drawn faces and synthetic voices, and the labels that they mean."""
