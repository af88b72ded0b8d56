"""Processes that execute durable runs, and are killed."""
