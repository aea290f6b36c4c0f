"""The gateway: tools at work ask for suggestions over HTTP and send back what people did.

Two processes. The front takes every request; it knows who may, makes what it acknowledges durable, and never imports
torch. The generator holds the champion and answers the front alone. Transport belongs here and nothing else: the spool
is `loop.collect`'s, what is served is `loop.release`'s.
"""
