"""What `openpi-flash doctor` looks at: facts of a machine, and checks of them."""
