"""Parts of ``deep_clustering.py``: images, rows of its table, and networks of all seeds at once."""
