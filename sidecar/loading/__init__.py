"""Reads everything that a start needs into values, and judges what a reload may change. No reactor."""
