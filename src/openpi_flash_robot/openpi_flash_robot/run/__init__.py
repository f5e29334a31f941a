"""Drives a robot without ROS: readings in, commands out, on threads of one Python process."""
