"""What a published checkpoint was trained for, as far as that can be told."""

from pathlib import Path

# The original's README and its users' reports; the files themselves do not say.
ROLES = {
    "emoation_llama.pth": "reasoner: describes and explains (by its file name)",
    "checkpoint_best.pth": "classifier: names an emotion and cannot reason (by its file name)",
    "mer2024-best.pth": "classifier for MER2024-NOISE (by its file name)",
}
UNKNOWN_ROLE = (
    "cannot be told: it has none of the published file names, and the tensors do not differ"
)


def role_of(checkpoint: Path) -> str:
    """By the name of the file; the trained tensors have the same names and shapes in every role."""
    return ROLES.get(checkpoint.name.lower(), UNKNOWN_ROLE)
