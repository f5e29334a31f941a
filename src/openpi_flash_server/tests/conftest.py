"""Fixtures of more than one file."""

import pytest
from server_process import Process


@pytest.fixture
def start(tmp_path):
    processes = []

    def start_(config, **options):
        processes.append(Process(tmp_path, config, **options))
        return processes[-1]

    yield start_
    for process in processes:
        process.kill()
