"""The process that sends controllers every moment of a motion, and brakes if the node is gone.

A joint trajectory controller holds the next 0.3 s of the motion, ending at rest, and plays it also
when nobody is left to send more. Other controllers (positions or velocities forwarded to the
joints, MoveIt Servo, a mobile base) know one command only and keep to it. So this process holds the
same window for them, and plays it to its end whatever happens to the node.
"""
