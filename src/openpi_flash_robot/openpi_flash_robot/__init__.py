"""The robot side of a remote action policy, without ROS."""
