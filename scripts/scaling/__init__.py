"""What scripts/simulate_autoscaling.py is made of: traffic, a fleet of replicas, Serve's autoscaler around a policy."""
