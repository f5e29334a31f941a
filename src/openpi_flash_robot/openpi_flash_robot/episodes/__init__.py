"""Episodes for training: one MCAP file each, with ROS messages, from a start to a stop."""
