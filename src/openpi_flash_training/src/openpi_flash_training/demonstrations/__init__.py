"""A scripted expert in the simulated robot, and the datasets that are made of its episodes."""
