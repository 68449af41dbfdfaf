"""The checks of `emotion-llama doctor`: each yields findings, and says what to do about problems."""
