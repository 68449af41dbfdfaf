"""The CPU stage: decodes a clip's bytes into a frame and a waveform, in killable worker processes."""
