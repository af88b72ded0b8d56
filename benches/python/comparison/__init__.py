"""The harness of `compare_peers.py`: what is measured, how, and how it is shown.

workloads   the list: name, size, goal, which engines
measures    how one number is taken, inside the child process
values      the context table
memory      what a waiting run costs
child       one engine's process, which answers requests on its standard input
parent      starts the children, takes turns, keeps the time limits
figures     everything that was measured, and its form on disk
startup     import times
machine     versions and the processor
report      the Markdown page
tables      its tables
notes       why a figure is missing
prose       what the page says around its tables
plot        the SVG picture
"""
