"""The workload of the durable comparison, for each engine.

A measure gives the seconds that it took.
"""
