"""The connection to the policy server: requests out, checked answers in."""
