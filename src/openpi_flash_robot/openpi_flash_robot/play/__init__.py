"""Action chunks in time: plan, splice, limits, and the trajectory for a controller."""
