"""pi0 and pi0.5 in PyTorch: plain modules that are filled from the checkpoint's own tree.

The only package that imports torch. Nothing here knows of robots, sockets or ROS.
"""
