"""Choosing what people see: which decisions of a day become label tasks, under a budget.

Questions come from decisions (`questions`), each once (`sketches`), are scored (`scores`, with an ensemble of cheap
`scorers` over hashed `words`), and are taken under a budget with a recorded propensity (`budget`); `tasks_of_day` reads
and writes the lake. `red_team` asks for attempts instead, from the workflow alone. How a question is put and answered
is said beside this room.
"""

from __future__ import annotations
