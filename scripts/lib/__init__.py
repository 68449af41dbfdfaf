"""Helpers shared by scripts and tests."""
