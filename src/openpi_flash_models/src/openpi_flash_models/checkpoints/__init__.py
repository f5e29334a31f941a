"""Checkpoints: what lies where, and how it becomes arrays.

    <checkpoint>/params/                        Orbax tree of the model's tensors, or
    <checkpoint>/model.safetensors              openpi's PyTorch tensors
    <checkpoint>/assets/<asset_id>/norm_stats.json
    <checkpoint>/paligemma_tokenizer.model      optional, or in tokenizer/

``layout.py`` reads either file into the same tree, which is openpi's JAX tree. One module per
format reads and writes it, ``model_tree.py`` says which tensors a model has.
"""
