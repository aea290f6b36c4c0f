"""The delivery path for an outside vendor: a masked batch goes out, answers come in, and are taken or turned down.

A batch is one workflow and kind of task, known items hidden among the others. Nothing in it leads back to an event or a
person: its ids mean something in this home alone, and only to this batch.
"""
