"""The parts of scripts/try_faults.py: clusters on this machine, load on a server, and the fault scenarios."""
