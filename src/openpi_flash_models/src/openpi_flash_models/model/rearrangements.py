"""Switches of the exact rearrangements that a model uses. Needs no model framework.

None of them changes a result beyond rounding, so all are on; the switches are there to compare,
and training chooses those that suit gradients. They are of three parts of a call:

    Packing   how inputs are prepared on the host
    Layout    how weights lie in memory
    Graph     how a program computes
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Packing:
    """How inputs are prepared on the host.

    Attributes:
        drop_padding: leave masked cameras and prompt padding out, up to the next bucket.
        token_buckets: prompt lengths that have a program, besides the model's longest.
        uint8_images: images are sent to the device as uint8 and scaled there.
    """

    drop_padding: bool = True
    token_buckets: tuple[int, ...] = (32, 96)
    uint8_images: bool = True


@dataclass(frozen=True)
class Layout:
    """How weights lie in memory.

    Attributes:
        fuse_projections: one matrix product for query, key and value, one for gate and up.
        unroll_layers: layers follow each other in the program, each with weights of its own,
            rather than as a loop over stacked weights.
    """

    fuse_projections: bool = True
    unroll_layers: bool = True


@dataclass(frozen=True)
class Graph:
    """How a program computes.

    Attributes:
        batch_cameras: all cameras go through the vision tower in one call.
        keys_only_last_layer: the prefix's last layer computes keys and values, and outputs only
            for tokens that are read.
        modulate_once: what depends on the flow time alone is computed for all steps at once.
        static_cache: keys and values of the prefix (and of pi0's state) are read in place, not
            copied next to each step's own.
        static_steps: the usual number of steps has a program of its own, which does not ask the
            host after every step, and what depends on the flow time alone is kept between calls.
        fused_kernels: on a GPU, attention and a step's layers run in kernels of our own.
    """

    batch_cameras: bool = True
    keys_only_last_layer: bool = True
    modulate_once: bool = True
    static_cache: bool = True
    static_steps: bool = True
    fused_kernels: bool = True


@dataclass(frozen=True)
class Rearrangements:
    """All switches of a model that is served.

    Attributes:
        packing: of the inputs.
        layout: of the weights.
        graph: of the programs.
    """

    packing: Packing = Packing()
    layout: Layout = Layout()
    graph: Graph = Graph()

    def switched(self, **switches: Any) -> Rearrangements:
        """With these switches changed, by the names that they have in the server's config.

        Raises:
            TypeError: there is no such switch.
        """
        unknown = switches.keys() - SWITCHES
        if unknown:
            raise TypeError(f"no switch named {', '.join(sorted(unknown))}")

        def changed(part: Any) -> Any:
            own = {field.name for field in dataclasses.fields(part)} & switches.keys()
            return dataclasses.replace(part, **{name: switches[name] for name in own})

        return Rearrangements(changed(self.packing), changed(self.layout), changed(self.graph))


SWITCHES = frozenset(
    field.name for part in (Packing, Layout, Graph) for field in dataclasses.fields(part)
)
"""The names of all switches; no two parts have one of the same name."""
ALL_ON = Rearrangements()
ALL_OFF = Rearrangements(
    Packing(drop_padding=False, uint8_images=False),
    Layout(fuse_projections=False, unroll_layers=False),
    Graph(
        batch_cameras=False,
        keys_only_last_layer=False,
        modulate_once=False,
        static_cache=False,
        static_steps=False,
        fused_kernels=False,
    ),
)
"""The model without any rearrangement."""
