"""The operator's side: metrics, state, live settings and a page, on a port of their own."""
