"""What runs on a robot is Python 3.10 with numpy 1.21, the oldest of a supported distribution."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = [
    "src/flash_transport/python",
    "src/flash_transport/cmake",
    "src/openpi_flash_robot",
    "src/openpi_flash_client_node",
    "config",
    "launch",
    "examples/sim_robot",
]
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))

NEWER_PYTHON = {
    "tomllib",
    "asyncio.Barrier",
    "asyncio.Runner",
    "asyncio.TaskGroup",
    "asyncio.timeout",
    "asyncio.timeout_at",
    "contextlib.chdir",
    "copy.replace",
    "datetime.UTC",
    "enum.EnumCheck",
    "enum.EnumType",
    "enum.FlagBoundary",
    "enum.ReprEnum",
    "enum.StrEnum",
    "enum.member",
    "enum.nonmember",
    "enum.verify",
    "hashlib.file_digest",
    "inspect.getmembers_static",
    "itertools.batched",
    "logging.getHandlerNames",
    "logging.getLevelNamesMapping",
    "math.cbrt",
    "math.exp2",
    "math.fma",
    "math.sumprod",
    "operator.call",
    "os.process_cpu_count",
    "pathlib.UnsupportedOperation",
    "re.NOFLAG",
    "sys.exception",
    "sys.monitoring",
    "typing.LiteralString",
    "typing.Never",
    "typing.NotRequired",
    "typing.ReadOnly",
    "typing.Required",
    "typing.Self",
    "typing.TypeAliasType",
    "typing.TypeIs",
    "typing.TypeVarTuple",
    "typing.Unpack",
    "typing.assert_never",
    "typing.assert_type",
    "typing.clear_overloads",
    "typing.dataclass_transform",
    "typing.get_overloads",
    "typing.get_protocol_members",
    "typing.override",
    "typing.reveal_type",
    "warnings.deprecated",
}
"""Of the standard library: added in 3.11, 3.12 or 3.13."""

NEWER_BUILTINS = {"BaseExceptionGroup", "ExceptionGroup", "PythonFinalizationError"}
NEWER_METHODS = {"add_note", "is_junction", "walk_up"}

NEWER_NUMPY = {
    "acos",
    "acosh",
    "asin",
    "asinh",
    "astype",
    "atan",
    "atan2",
    "atanh",
    "bitwise_count",
    "bitwise_invert",
    "bitwise_left_shift",
    "bitwise_right_shift",
    "bool",
    "concat",
    "cumulative_prod",
    "cumulative_sum",
    "dtypes",
    "exceptions",
    "isdtype",
    "long",
    "matrix_transpose",
    "matvec",
    "permute_dims",
    "pow",
    "trapezoid",
    "ulong",
    "unique_all",
    "unique_counts",
    "unique_inverse",
    "unique_values",
    "unstack",
    "vecdot",
    "vecmat",
    "from_dlpack",
}
"""Of numpy: added after 1.21."""

GONE_NUMPY = {
    "Inf",
    "NaN",
    "alltrue",
    "asfarray",
    "cast",
    "cumproduct",
    "float_",
    "in1d",
    "infty",
    "obj2sctype",
    "product",
    "row_stack",
    "sctypes",
    "sometrue",
    "string_",
    "trapz",
    "unicode_",
}
"""Removed in numpy 2.0 or later: Lyrical has 2.3."""


def modules_of(tree):
    """Names under which whole modules are known in a file."""
    return {
        alias.asname or alias.name: alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }


def lines_for_type_checkers(tree):
    """The lines below `if TYPE_CHECKING:`, which no interpreter runs."""
    return {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.If)
        and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        for statement in node.body
        for line in range(statement.lineno, statement.end_lineno + 1)
    }


def too_new(text):
    """Names in the text that Python 3.10, or a numpy from 1.21 to 2, does not have."""
    tree = ast.parse(text, feature_version=(3, 10))
    modules, skipped, found = modules_of(tree), lines_for_type_checkers(tree), set()
    for node in ast.walk(tree):
        if getattr(node, "lineno", 0) in skipped:
            continue
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value)
            names = [f"{modules.get(owner, owner)}.{node.attr}"]
            if node.attr in NEWER_METHODS:
                found.add(node.attr)
        elif isinstance(node, ast.Name) and node.id in NEWER_BUILTINS:
            found.add(node.id)
        found |= NEWER_PYTHON & set(names)
        newer = {f"numpy.{name}" for name in NEWER_NUMPY | GONE_NUMPY}
        found |= newer & set(names)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_oldest_robot_can_run_it(path):
    assert too_new(path.read_text()) == set()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("import tomllib", "tomllib"),
        ("from typing import Self", "typing.Self"),
        ("import typing\ntyping.Self", "typing.Self"),
        ("import enum\nclass A(enum.StrEnum): pass", "enum.StrEnum"),
        ("import datetime as d\nd.UTC", "datetime.UTC"),
        ("raise ExceptionGroup('', [])", "ExceptionGroup"),
        ("error.add_note('')", "add_note"),
        ("import numpy as np\nnp.concat([])", "numpy.concat"),
        ("import numpy as np\nnp.float_(0)", "numpy.float_"),
        ("from numpy import trapz", "numpy.trapz"),
    ],
)
def test_a_newer_name_is_noticed(text, name):
    assert too_new(text) == {name}


def test_what_only_a_type_checker_reads_may_be_newer():
    text = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from typing import Self\n"
    assert too_new(text) == set()


@pytest.mark.parametrize(
    "text",
    [
        "try:\n    pass\nexcept* ValueError:\n    pass",
        "type Number = int",
        "def first[T](items: list[T]) -> T: ...",
    ],
)
def test_newer_syntax_is_noticed(text):
    with pytest.raises(SyntaxError):
        too_new(text)
