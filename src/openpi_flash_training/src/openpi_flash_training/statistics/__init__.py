"""Normalisation statistics of a dataset, as openpi's ``compute_norm_stats.py`` makes them.

``rows.py`` brings states and chunks of actions into the model's space, ``running.py`` counts as
openpi does, ``exact.py`` without its approximations, ``norm_stats_file.py`` writes the file that
training and serving read.
"""
