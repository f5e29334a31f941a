"""What recordings and datasets have in common: episodes, and what can be wrong with them."""
