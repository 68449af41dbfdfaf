"""Emotion-LLaMA on Ray Serve: a video clip and a question in, an answer out."""

__version__ = "0.1.0"
