"""Reads recordings of robots: rosbag2 and MCAP files with ROS messages, Positronic's format.

``messages.py`` reads raw messages from files, ``ros_values.py`` what they mean, ``ros_inputs.py``
says which topics are a robot's cameras, joints and commands, ``ros_episode.py`` puts them
together; ``positronic.py`` is the other format.
"""
