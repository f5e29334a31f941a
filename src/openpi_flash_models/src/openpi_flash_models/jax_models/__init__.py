"""The models in JAX: pure functions over the checkpoint's own tree of arrays.

No layer classes and no sizes beside the tensors: every width, depth and head count is the shape of
a parameter. Compute runs in the parameters' dtype, with float32 where openpi has float32.
"""
