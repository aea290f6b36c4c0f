"""A simulated organisation with known preferences: the ground truth against which the loop is measured.

It touches the loop only through the prompts that it asks, the suggestions that it is served and the events that it
sends. Only the command `loop run` imports it; what it knows is written to `truth/`, outside the lake.
"""
