"""Parts of ``palettize.py``: networks with few numbers, and its tables."""
