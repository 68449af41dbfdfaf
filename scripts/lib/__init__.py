"""What several scripts, and the tests, share."""
