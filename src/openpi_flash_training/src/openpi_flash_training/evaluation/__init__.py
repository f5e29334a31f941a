"""Policies measured on the simulated robot, in closed loop and simulated time, and on datasets."""
