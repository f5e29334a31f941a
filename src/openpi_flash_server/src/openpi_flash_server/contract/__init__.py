"""What a request holds, as metadata says it: read, and filled with an example."""
