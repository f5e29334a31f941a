"""Reads the optimised HLO of a program for a GPU: what it launches, moves and computes.

Pure: text in, counts out. The text is what XLA prints of a compiled program (``as_text()``); its
grammar is in XLA's ``hlo/parser``. One instruction of the entry or of a loop's body is one kernel,
unless it only renames what is there. A kernel reads its operands and writes its results once;
of an operand that it only slices or gathers it reads the part that it takes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

BYTES = {
    "pred": 1, "s4": 1, "u4": 1, "s8": 1, "u8": 1, "f8e4m3fn": 1, "f8e5m2": 1,
    "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "s32": 4, "u32": 4, "f32": 4,
    "s64": 8, "u64": 8, "f64": 8,
}  # fmt: skip
FREE = frozenset(
    {
        *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "opt-barrier"),
        *("after-all", "add-dependency", "partition-id", "replica-id"),
        *("copy-done", "async-done", "async-update"),
    }
)
SLICES = frozenset({"slice", "dynamic-slice", "gather"})
HOST = frozenset({"infeed", "outfeed", "send", "recv", "conditional"})


@dataclass(frozen=True)
class Array:
    """Type of an array.

    Attributes:
        dtype: as HLO writes it, such as ``bf16``.
        shape: its dimensions.
    """

    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Its size; 0 for what is no data (tokens)."""
        return BYTES.get(self.dtype, 0) * math.prod(self.shape)


@dataclass(frozen=True)
class Instruction:
    """One line of a computation.

    Attributes:
        name: unique in the module.
        arrays: of the result; several for a tuple.
        opcode: such as ``fusion``.
        operands: names.
        text: in the parentheses, for parameters: their number.
        attributes: the rest of the line.
        is_root: whether it is the computation's result.
    """

    name: str
    arrays: tuple[Array, ...]
    opcode: str
    operands: tuple[str, ...]
    text: str
    attributes: str
    is_root: bool

    @property
    def bytes(self) -> int:
        """Size of the result."""
        return sum(array.bytes for array in self.arrays)

    def called(self, attribute: str) -> str | None:
        """The computation that an attribute such as ``calls`` names."""
        found = re.search(rf"\b{attribute}=%?([\w.\-]+)", self.attributes)
        return found[1] if found else None


@dataclass(frozen=True)
class Product:
    """A matrix product within a kernel.

    Attributes:
        left: dtype of the first operand.
        right: dtype of the second one.
        result: dtype of the sums.
        operations: a multiplication and its sum are two.
    """

    left: str
    right: str
    result: str
    operations: int


@dataclass(frozen=True)
class Custom:
    """What a custom call computes, which HLO does not say.

    Attributes:
        name: of the kernel.
        dtypes: of the operands of its matrix products.
        operations: of these.
        cached: bytes that all its programs together take, most of them from a cache.
        programs: that share the work.
    """

    name: str
    dtypes: tuple[str, str]
    operations: int
    cached: int
    programs: int


@dataclass(frozen=True)
class Kernel:
    """One launch.

    Attributes:
        name: of the instruction.
        kind: what makes it: an opcode, a fusion's kind, or the target of a custom call.
        operands: arrays that it is given.
        results: arrays that it makes.
        bytes_read: at least so much.
        bytes_written: of its results.
        products: matrix products in it.
        cached: bytes that its programs take together, where that is known.
        programs: that share the work, where that is known.
    """

    name: str
    kind: str
    operands: tuple[Array, ...]
    results: tuple[Array, ...]
    bytes_read: int
    bytes_written: int
    products: tuple[Product, ...] = ()
    cached: int = 0
    programs: int | None = None

    @property
    def bytes(self) -> int:
        """Read and written."""
        return self.bytes_read + self.bytes_written

    @property
    def operations(self) -> int:
        """Of its matrix products."""
        return sum(product.operations for product in self.products)


@dataclass(frozen=True)
class Block:
    """Kernels that follow each other, and the loops among them.

    Attributes:
        kernels: in the order of the text.
        loops: their bodies and how often they run; None: only the device knows, and the host asks
            it before every turn.
        host_calls: instructions that wait for the host.
    """

    kernels: tuple[Kernel, ...]
    loops: tuple[tuple[Block, int | None], ...] = ()
    host_calls: tuple[str, ...] = ()

    def turns(self, unknown: Sequence[int] = ()) -> Iterator[tuple[Kernel, int]]:
        """Every kernel, and how often a call launches it.

        Args:
            unknown: how often loops of unknown length run, by their depth.
        """
        for kernel in self.kernels:
            yield kernel, 1
        for body, length in self.loops:
            times = length if length is not None else (unknown[0] if unknown else 1)
            for kernel, count in body.turns(unknown[1:] if length is None else unknown):
                yield kernel, times * count

    def round_trips(self, unknown: Sequence[int] = ()) -> int:
        """How often a call waits for the host."""
        total = len(self.host_calls)
        for body, length in self.loops:
            asks = length is None
            times = length if length is not None else (unknown[0] if unknown else 1)
            # the question before the first turn, and one after each
            total += times + 1 if asks else 0
            total += times * body.round_trips(unknown[1:] if asks else unknown)
        return total


Customs = Callable[[str, Sequence[Array], Sequence[Array]], Custom | None]
"""What a custom call computes, by its attributes, operands and results."""


@dataclass(frozen=True)
class Module:
    """A program's text, parsed.

    Attributes:
        computations: instructions by the computation's name.
        entry: the name of the one that runs.
    """

    computations: Mapping[str, tuple[Instruction, ...]]
    entry: str
    _by_name: dict[str, Instruction] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for instructions in self.computations.values():
            self._by_name.update({one.name: one for one in instructions})

    def named(self, name: str) -> Instruction:
        """The instruction of that name."""
        return self._by_name[name]


def parse(text: str) -> Module:
    """Parse a module.

    Raises:
        ValueError: the text has no entry.
    """
    computations: dict[str, list[Instruction]] = {}
    current: list[Instruction] | None = None
    entry = None
    for raw in text.splitlines():
        header = re.match(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$", raw)
        if header:
            current = computations.setdefault(header[2], [])
            entry = header[2] if header[1] else entry
        elif raw.startswith("}"):
            current = None
        elif current is not None:
            current.append(_instruction(re.sub(r"/\*.*?\*/", "", raw)))
    if entry is None:
        raise ValueError("the text has no line that begins with ENTRY: it is no HLO module")
    return Module({name: tuple(lines) for name, lines in computations.items()}, entry)


def read(text: str, customs: Customs = lambda *_: None) -> Block:
    """What a program launches.

    Args:
        text: HLO.
        customs: says what custom calls compute.
    """
    module = parse(text)
    return _block(module, module.entry, customs)


def _instruction(line: str) -> Instruction:
    found = re.match(r"\s*(ROOT )?%?([\w.\-]+) = ", line)
    if not found:
        raise ValueError(f"not an instruction of HLO: {line.strip()[:120]}")
    rest = line[found.end() :]
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    type_text, rest = rest[:end], rest[end:].lstrip()
    opened = rest.index("(")
    closed = _closing(rest, opened)
    inside = rest[opened + 1 : closed]
    return Instruction(
        name=found[2],
        arrays=_arrays(type_text),
        opcode=rest[:opened],
        operands=tuple(re.findall(r"%([\w.\-]+)", inside)),
        text=inside,
        attributes=rest[closed + 1 :],
        is_root=bool(found[1]),
    )


def _closing(text: str, opened: int) -> int:
    depth = 0
    for index in range(opened, len(text)):
        depth += {"(": 1, ")": -1}.get(text[index], 0)
        if depth == 0:
            return index
    raise ValueError(f"a parenthesis is not closed: {text[:120]}")


def _arrays(text: str) -> tuple[Array, ...]:
    return tuple(
        Array(dtype, tuple(int(size) for size in sizes.split(",") if size))
        for dtype, sizes in re.findall(r"\b([a-z]\w*)\[([\d,]*)\]", text)
    )


def _block(module: Module, computation: str, customs: Customs) -> Block:
    kernels: list[Kernel] = []
    loops: list[tuple[Block, int | None]] = []
    host: list[str] = []
    for one in module.computations[computation]:
        if one.opcode in FREE:
            continue
        if one.opcode == "while":
            body = one.called("body")
            assert body is not None, f"{one.name} has no body"
            length = re.search(r'known_trip_count":\{"n":"(\d+)', one.attributes)
            loops.append((_block(module, body, customs), int(length[1]) if length else None))
            continue
        inner = one.called("to_apply") or one.called("calls")
        if one.opcode in ("call", "async-start") and inner in module.computations:
            within = _block(module, str(inner), customs)
            kernels += within.kernels
            loops += within.loops
            host += within.host_calls
            continue
        if one.opcode in HOST or "callback" in _target(one):
            host.append(one.name)
            continue
        kernels.append(_kernel(module, one, customs))
    return Block(tuple(kernels), tuple(loops), tuple(host))


def _target(one: Instruction) -> str:
    found = re.search(r'custom_call_target="([^"]+)"', one.attributes)
    return found[1] if found else ""


def _kernel(module: Module, one: Instruction, customs: Customs) -> Kernel:
    operands = tuple(a for name in one.operands for a in module.named(name).arrays)
    kind, custom = one.opcode, None
    products: tuple[Product, ...] = ()
    read = sum(array.bytes for array in operands)
    written = one.bytes
    if one.opcode == "fusion":
        made = re.search(r'"kind":"(__\w+)"', one.attributes)
        kind = made[1] if made else (re.search(r"kind=(\w+)", one.attributes) or ["", "fusion"])[1]
        fused = one.called("calls")
        assert fused is not None, f"{one.name} calls nothing"
        products = tuple(_products(module, fused))
        read, written = _fusion_bytes(module, one, fused)
    elif one.opcode == "custom-call":
        kind = _target(one)
        custom = customs(one.attributes, operands, one.arrays)
        if custom is not None:
            kind = custom.name
            products = (Product(*custom.dtypes, "f32", custom.operations),)
    elif one.opcode == "dot":
        products = (_product(module, one),)
    elif one.opcode in SLICES:
        read = written
    elif one.opcode == "dynamic-update-slice":
        read = written = module.named(one.operands[1]).bytes
    cached, programs = (custom.cached, custom.programs) if custom else (0, None)
    return Kernel(one.name, kind, operands, one.arrays, read, written, products, cached, programs)


def _fusion_bytes(module: Module, one: Instruction, fused: str) -> tuple[int, int]:
    inside = module.computations[fused]
    read = 0
    in_place = 0
    for parameter in (i for i in inside if i.opcode == "parameter"):
        outside = module.named(one.operands[int(parameter.text)])
        read += min(_taken(module, fused, parameter), outside.bytes)
    written = one.bytes
    for root in inside:
        if root.is_root and root.opcode == "dynamic-update-slice":
            in_place = root.bytes - module.named(root.operands[1]).bytes
    return read, written - in_place


def _taken(module: Module, computation: str, source: Instruction) -> int:
    """Bytes of an array within a computation that are read."""
    total = 0
    for user in module.computations[computation]:
        if source.name not in user.operands:
            continue
        if user.opcode in SLICES and user.operands[0] == source.name:
            total += user.bytes
        elif user.opcode == "dynamic-update-slice" and user.operands[0] == source.name:
            continue  # what is not changed stays where it is
        elif user.opcode in ("bitcast", "reshape") and not user.is_root:
            total += _taken(module, computation, user)
        elif user.opcode == "fusion":
            nested = user.called("calls")
            assert nested is not None, f"{user.name} calls nothing"
            places = [place for place, name in enumerate(user.operands) if name == source.name]
            for parameter in module.computations[nested]:
                if parameter.opcode == "parameter" and int(parameter.text) in places:
                    total += _taken(module, nested, parameter)
        else:
            return source.bytes
    return min(total, source.bytes)


def _products(module: Module, computation: str) -> Iterator[Product]:
    for one in module.computations.get(computation, ()):
        if one.opcode == "dot":
            yield _product(module, one)
        for attribute in ("calls", "to_apply"):
            called = one.called(attribute)
            if called:
                yield from _products(module, called)


def _product(module: Module, one: Instruction) -> Product:
    left, right = (module.named(name).arrays[0] for name in one.operands[:2])
    found = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", one.attributes)
    axes = [int(axis) for axis in found[1].split(",") if axis] if found else []
    inner = math.prod(left.shape[axis] for axis in axes)
    result = one.arrays[0]
    return Product(left.dtype, right.dtype, result.dtype, 2 * inner * math.prod(result.shape))
