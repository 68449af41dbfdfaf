"""The demonstration's world: drawn faces and synthetic voices, what they mean, and clips of them."""
