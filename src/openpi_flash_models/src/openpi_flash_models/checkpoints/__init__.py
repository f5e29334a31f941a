"""Checkpoints: which files a directory has, and how they become arrays.

    <checkpoint>/params/                        Orbax tree of the model's tensors, or
    <checkpoint>/model.safetensors              openpi's PyTorch tensors
    <checkpoint>/assets/<asset_id>/norm_stats.json
    <checkpoint>/paligemma_tokenizer.model      optional, or in tokenizer/

``layout.py`` reads either format into openpi's JAX tree. One module per format reads and writes it
(``orbax.py``, ``safetensors.py``); ``model/shape.py`` lists the tensors of a model.
"""
