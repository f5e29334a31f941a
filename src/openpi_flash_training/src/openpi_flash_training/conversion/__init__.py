"""From recordings to a LeRobot dataset.

``sources.py`` finds the episodes of a source; a ``Columns`` (``robot_columns.py`` for a robot,
``positronic_columns.py`` for Positronic's codecs) says what becomes of their streams;
``convert.py`` resamples and writes; ``copy_dataset.py`` copies datasets.
"""
