"""Joins what the public API joins: functions that reach over several layers."""
