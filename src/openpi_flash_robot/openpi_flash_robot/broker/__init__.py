"""One action per call, in place of openpi_client's ActionChunkBroker, without its pauses."""
