"""Writes pages and tables that are made from the code: `PYTHONPATH=tests python -m pages.NAME`."""
