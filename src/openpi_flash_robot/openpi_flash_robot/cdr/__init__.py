"""Messages as they travel, CDR: the few kinds of which there are many, without rclpy's copies."""
