"""Imports a user's policy and makes it."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from openpi_flash_server.config.policy_name import PythonName
from openpi_flash_server.own_policy.errors import PolicyLoadError


def make_policy(name: PythonName, arguments: Mapping[str, str | None]) -> Any:
    """The policy that `name` means: an object with `infer`, `infer_batch` or `infer_stream`.

    A function or class is called, with those of `arguments` that it has parameters for. Modules are
    also looked for in the current directory.

    Args:
        name: where it is.
        arguments: what the configuration says, by its field; None: nothing.

    Raises:
        PolicyLoadError: it cannot be imported or made, or is no policy; or `arguments` says
            something that it has no parameter for.
    """
    found = _attribute(name)
    if _is_policy(found) and not inspect.isclass(found):
        given = [key for key, value in arguments.items() if value]
        if given:
            raise PolicyLoadError(f"{name} is a policy already, so it cannot take {given[0]}")
        return found
    if not callable(found):
        raise PolicyLoadError(
            f"{name} is a {type(found).__name__}, expected a function or class that makes a "
            "policy, or an object with infer(observation)"
        )
    try:
        policy = found(**_fitting(name, found, arguments))
    except PolicyLoadError:
        raise
    except (Exception, SystemExit) as error:
        raise PolicyLoadError(f"{name} raised {type(error).__name__}: {error}") from error
    if not _is_policy(policy):
        raise PolicyLoadError(
            f"{name} made a {type(policy).__name__}, which has no infer(observation)"
        )
    return policy


def _attribute(name: PythonName) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        # last, so that no file here takes the place of an installed package
        sys.path.append(here)
    try:
        found: Any = importlib.import_module(name.module)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name.module}.".startswith(f"{error.name}."):
            raise PolicyLoadError(
                f"there is no module {error.name}: install it, put it beside the configuration, or "
                "start the server in the directory that holds it"
            ) from None
        raise PolicyLoadError(f"module {name.module} needs {error.name}: install it") from error
    except (Exception, SystemExit) as error:
        raise PolicyLoadError(
            f"module {name.module} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    for part in name.attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            file = getattr(sys.modules[name.module], "__file__", None) or "built in"
            raise PolicyLoadError(
                f"module {name.module} ({file}) has no {name.attribute}"
            ) from None
    return found


def _is_policy(found: Any) -> bool:
    return any(callable(getattr(found, method, None)) for method in _METHODS)


_METHODS = ("infer", "infer_batch", "infer_stream")
"""A policy has one of them."""


def _fitting(
    name: PythonName, make: Callable[..., Any], arguments: Mapping[str, str | None]
) -> dict[str, str | None]:
    parameters = inspect.signature(make).parameters.values()
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    known = {parameter.name for parameter in parameters}
    for key, value in arguments.items():
        if value and key != "default_prompt" and not takes_all and key not in known:
            raise PolicyLoadError(f"{name} has no parameter {key}, so action.{key} is of no use")
    return {key: value for key, value in arguments.items() if takes_all or key in known}
