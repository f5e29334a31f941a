"""A slot: requests, the scheduler that orders them, and the thread that runs the handler."""
