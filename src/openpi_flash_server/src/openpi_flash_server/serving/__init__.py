"""The server as a process: load, open the ports, let clients in, drain, stop."""
