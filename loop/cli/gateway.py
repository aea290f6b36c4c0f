"""Commands of the gateway: run it, and say who may speak to it."""
