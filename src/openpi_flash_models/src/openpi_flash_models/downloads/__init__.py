"""Downloads checkpoints and tokenizers: ``gs://``, ``hf://``, ``https://``.

Downloads go to openpi's cache (``OPENPI_DATA_HOME``, default ``~/.cache/openpi``) under the bucket
and path of their URL, so that openpi finds our downloads and we find openpi's. An interrupted
download resumes where it stopped; a file has its final name only when it is complete.
"""

from openpi_flash_models.downloads.install import cache_root, cached, fetch, list_names
from openpi_flash_models.downloads.location import is_remote

__all__ = ["cache_root", "cached", "fetch", "is_remote", "list_names"]
