"""Parts of ``bilevel.py``: problems with weights to learn, and its tables."""
