"""The ROS 2 node around the bridge: subscriptions, publishers, parameters, messages."""
