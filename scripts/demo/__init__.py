"""The parts of scripts/train_demo.py: architecture, training data, training stages and model card."""
