"""The bridge to Label Studio: tasks are pushed into projects of its, and what people answer there is pulled.

Whoever has an account there may read, change and delete what others answered. So every answer is copied into our
append-only table as soon as we hear of it, a change is a later version, and a deletion one that says so.
"""
