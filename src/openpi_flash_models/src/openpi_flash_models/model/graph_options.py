"""Switches of the exact rearrangements that a model uses. Needs no model framework.

None of them changes a result beyond rounding, so all are on; the switches are there to compare.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GraphOptions:
    """Switches of the exact rearrangements.

    Attributes:
        drop_padding: leave masked cameras and prompt padding out, up to the next bucket.
        token_buckets: prompt lengths that have a program, besides the model's longest.
        uint8_images: images are sent to the device as uint8 and scaled there.
        batch_cameras: all cameras go through the vision tower in one call.
        keys_only_last_layer: the prefix's last layer computes keys and values, and outputs only
            for tokens that are read.
        fuse_projections: one matrix product for query, key and value, one for gate and up.
        modulate_once: what depends on the flow time alone is computed for all steps at once.
        static_cache: keys and values of the prefix (and of pi0's state) are read in place, not
            copied next to each step's own.
        unroll_layers: layers follow each other in the program, each with weights of its own,
            rather than as a loop that slices stacked weights.
    """

    drop_padding: bool = True
    token_buckets: tuple[int, ...] = (32, 96)
    uint8_images: bool = True
    batch_cameras: bool = True
    keys_only_last_layer: bool = True
    fuse_projections: bool = True
    modulate_once: bool = True
    static_cache: bool = True
    unroll_layers: bool = True


DEFAULT_GRAPH = GraphOptions()
PLAIN_GRAPH = GraphOptions(
    drop_padding=False,
    uint8_images=False,
    batch_cameras=False,
    keys_only_last_layer=False,
    fuse_projections=False,
    modulate_once=False,
    static_cache=False,
    unroll_layers=False,
)
"""Every switch off: the graph without any rearrangement."""
