"""The parts of scripts/simulate_autoscaling.py: traffic, engines, a fleet of them, Serve's autoscaler."""
