"""What a model is before any framework: its inputs, its tensors' shapes, its graph options."""
