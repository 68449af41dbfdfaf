"""The parts of scripts/simulate_autoscaling.py: traffic, engines, a fleet of replicas, Serve's autoscaler."""
