"""One cache of compiled programs for all tests and the processes that they start.

Most of a small run's time is compilation; runs of equal shapes then compile once.
"""

import atexit
import os
import tempfile

_CACHE = tempfile.TemporaryDirectory(prefix="openpi_flash_test_programs_")
atexit.register(_CACHE.cleanup)
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", _CACHE.name)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
