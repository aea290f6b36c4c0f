"""The client of the gateway for Python tools. Imports nothing else of Loop."""
