"""Measurements. They start their own servers on this machine, and assert nothing about time."""
