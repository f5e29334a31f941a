"""The server as a process: opens the ports, loads, lets clients in, drains, stops."""
