"""The compiled half of flash_transport: what `flash_transport` re-exports."""

__version__: str
