"""Camera frames and joint states, and the observation that is made of them."""
