"""A simulated robot arm in MuJoCo that speaks ROS 2 as a real one does.

    python -m sim_robot

It publishes two cameras and `/joint_states`, and follows `/arm_controller/joint_trajectory` as a
joint trajectory controller would.
"""
