"""Checkpoints and tokenizers from elsewhere: ``gs://``, ``hf://``, ``https://``.

Everything lands in openpi's cache (``OPENPI_DATA_HOME``, default ``~/.cache/openpi``) under the
bucket and path of its URL, so that both programs find what the other has fetched. A download that
was cut off goes on where it stopped; what is not whole is never found under its own name.
"""

from openpi_flash_models.downloads.install import cache_root, cached, fetch, list_names
from openpi_flash_models.downloads.location import is_remote

__all__ = ["cache_root", "cached", "fetch", "is_remote", "list_names"]
