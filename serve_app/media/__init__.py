"""The CPU stage: bytes in, one picture and a waveform out, in processes that may be killed."""
