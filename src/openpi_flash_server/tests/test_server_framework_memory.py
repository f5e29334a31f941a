"""What JAX is told of the GPU's memory beside PyTorch."""

from openpi_flash_server.serving.framework_memory import leave_memory_to_pytorch


def test_jax_alone_keeps_its_own_defaults():
    environment = {}
    leave_memory_to_pytorch({"jax"}, environment)
    assert environment == {}


def test_jax_beside_pytorch_takes_what_it_needs_up_to_half():
    environment = {}
    leave_memory_to_pytorch({"torch"}, environment)
    assert environment == {
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.5",
    }


def test_what_the_operator_has_set_stays():
    environment = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.3"}
    leave_memory_to_pytorch({"torch"}, environment)
    assert environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.3"
