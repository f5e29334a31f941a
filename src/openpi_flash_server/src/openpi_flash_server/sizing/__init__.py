"""How many GPUs, how much memory and how much network a number of robots needs."""
