"""The simulated arm in real time, without ROS: driven by a policy server, or by a person."""
