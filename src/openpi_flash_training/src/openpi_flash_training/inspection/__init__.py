"""What is in a dataset and what is wrong with it.

``lint.py`` runs the checks (``motion_checks.py``, ``image_checks.py``, ``prompt_checks.py``),
``summary.py`` counts, ``plots.py`` draws.
"""
