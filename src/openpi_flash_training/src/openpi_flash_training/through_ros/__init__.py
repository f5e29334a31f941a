"""Episodes through the whole robot: ROS, cameras, the node and a real connection, in real time."""
