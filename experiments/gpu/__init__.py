"""Parts of ``benchmark.py --device cuda``: what is timed, on what, and over which floors."""
