"""LeRobot datasets: written, read and appended to without lerobot.

Format v3.0 as lerobot 0.4 to 0.6 read it (``lerobot/datasets/utils.py``, ``dataset_metadata.py``):

    meta/info.json                                   rate, features, totals
    meta/tasks.parquet                               task (pandas index) -> task_index
    meta/stats.json                                  statistics of the whole dataset
    meta/episodes/chunk-000/file-000.parquet         one row an episode: where it lies, statistics
    data/chunk-000/file-000.parquet                  one row a frame
    videos/<camera>/chunk-000/file-000.mp4           the episodes of a file, one after another

v2.1, which openpi reads, has files of its own for each episode and JSON for tables
(``v21_tables.py``).

``writer.py`` writes, ``reader.py`` reads; a dataset with a folder ``.staged`` is unfinished.
"""
