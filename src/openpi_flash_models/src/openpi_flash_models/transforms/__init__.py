"""Transforms of observations before a model, and of actions after it.

numpy only, and every function returns new data. The order in which a policy applies them is in
``policy/action_policy.py``.
"""
