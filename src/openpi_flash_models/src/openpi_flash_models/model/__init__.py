"""A model without its framework: its inputs, its tensors' shapes, its graph options."""
