"""pi0, pi0.5 and pi0-FAST in JAX: pure functions over the checkpoint's own tree of arrays.

Sources: pi0 (arXiv 2410.24164), pi0.5 (arXiv 2504.16054), pi0-FAST (arXiv 2501.09747), and
``openpi/models/``. There are no layer classes: a program is made for a ``ModelShape``, which is
read from the checkpoint's tensors, and for the switches of ``Rearrangements``. Programs compute in
the parameters' dtype, and in float32 where openpi does.
"""
