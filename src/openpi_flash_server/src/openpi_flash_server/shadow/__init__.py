"""A second policy that answers copies of the robots' requests: compared, never executed."""
