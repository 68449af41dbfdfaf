"""A server on a cluster of several nodes on this machine, a load on it, and what is done to it meanwhile."""
