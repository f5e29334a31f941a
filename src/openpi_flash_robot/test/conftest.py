"""The fixtures are in a module of their own: the ROS node's tests use them too."""

pytest_plugins = ["robot_fixtures"]
