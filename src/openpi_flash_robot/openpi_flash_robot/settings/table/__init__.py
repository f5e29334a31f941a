"""The parameters of the node by subject; `parameter_table` puts them together."""
