"""Runs Terraform with a provider that knows the schema of AWS's and nothing else.

`terraform validate` then checks each resource, argument, type and reference, and `terraform test`
plans the modules with `mock_provider`. What the provider's own code checks of values is not known
here, and nothing can be applied.

usage: python -m infra_checks.schema_provider PACKAGE FOLDER COMMAND...
  PACKAGE  unpacked package @cdktn/provider-aws
  FOLDER   of the Terraform files whose resources are wanted
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from infra_checks.provider_types import ProviderTypesError, names_in, read_provider
from infra_checks.provider_wire import schema_response

NAME = "registry.terraform.io/hashicorp/aws"
SERVICE = "/tfplugin6.Provider/"


class SchemaProvider(grpc.GenericRpcHandler):  # type: ignore[misc,unused-ignore]
    """Answers for its schema, and finds no fault with what Terraform has checked by it."""

    def __init__(self, schema: bytes) -> None:
        self._schema = schema

    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """The handler of one method; None for those that validating and planning need not."""
        method = call.method.removeprefix(SERVICE)
        if method == "GetProviderSchema":
            return grpc.unary_unary_rpc_method_handler(lambda _request, _context: self._schema)
        if method.startswith("Validate") or method in ("ConfigureProvider", "StopProvider"):
            # no diagnostics
            return grpc.unary_unary_rpc_method_handler(lambda _request, _context: b"")
        return None


def main(arguments: list[str]) -> int:
    """Run a command of Terraform's beside the provider; returns its exit status."""
    package, folder, *command = arguments
    try:
        provider = read_provider(Path(package), *names_in(Path(folder)))
    except ProviderTypesError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    unlimited = [("grpc.max_send_message_length", -1)]
    server = grpc.server(ThreadPoolExecutor(4), options=unlimited)
    server.add_generic_rpc_handlers((SchemaProvider(schema_response(provider)),))
    with tempfile.TemporaryDirectory(prefix="openpi-flash-infra-") as place:
        socket = Path(place) / "provider.sock"
        server.add_insecure_port(f"unix:{socket}")
        server.start()
        try:
            return subprocess.run(
                command, env={**os.environ, **_environment(socket)}, check=False
            ).returncode
        finally:
            server.stop(None)


def _environment(socket: Path) -> dict[str, str]:
    """How Terraform finds a provider that it did not start."""
    attached = {
        "Protocol": "grpc",
        "ProtocolVersion": 6,
        "Pid": os.getpid(),
        "Test": True,
        "Addr": {"Network": "unix", "String": str(socket)},
    }
    return {"TF_REATTACH_PROVIDERS": json.dumps({NAME: attached}), "CHECKPOINT_DISABLE": "1"}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
