"""Keeps the C allocator from giving every camera image's memory back to the system."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
MMAP_THRESHOLD = 1 << 28
TRIM_THRESHOLD = 1 << 29


def keep_image_memory() -> bool:
    """Reuse blocks of the size of images. False where the C library is not glibc.

    By default each block above 128 KB is mapped anew and its pages are faulted in again. For a
    720p camera that made receiving four times slower (11.6 instead of 3.1 ms per image).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    mmap_set = mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD)
    trim_set = mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD)
    return bool(mmap_set and trim_set)
