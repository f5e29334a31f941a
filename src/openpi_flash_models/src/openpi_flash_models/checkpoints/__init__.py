"""Checkpoints in openpi's layout: what lies where, and how it becomes arrays.

    <checkpoint>/params/                        Orbax tree of the model's tensors
    <checkpoint>/assets/<asset_id>/norm_stats.json
    <checkpoint>/paligemma_tokenizer.model      optional, or in tokenizer/

Here are the tensors: reading and writing, one file per format, and which tensors a model has.
"""
