"""Tells what a published checkpoint was trained for, as far as possible."""

from pathlib import Path

# From the original's README and its users' reports; the files themselves do not say.
ROLES = {
    "emoation_llama.pth": "reasoner: describes and explains (by its file name)",
    "checkpoint_best.pth": "classifier: names an emotion and cannot reason (by its file name)",
    "mer2024-best.pth": "classifier for MER2024-NOISE (by its file name)",
}
UNKNOWN_ROLE = (
    "unknown: it has none of the published file names, and the tensors do not differ between roles"
)


def role_of(checkpoint: Path) -> str:
    """The role, by the file's name: the trained tensors have the same names and shapes in every role."""
    return ROLES.get(checkpoint.name.lower(), UNKNOWN_ROLE)
