"""What happens to an observation on its way to a model, and to actions on their way back.

numpy only, and every function returns new data. The order in which a policy applies them is in
``policy.py``.
"""
