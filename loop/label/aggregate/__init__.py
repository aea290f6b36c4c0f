"""Knowing whom to believe: answers into soft labels, agreement, and what is known of each annotator.

`answers` holds answers as arrays, `reading` takes them from files, `models` and `simple` estimate, `stacking` weighs
the estimates by held-out answers and says how sure the result is. `agreement` and `annotators` measure. `partition`,
`importing` and `judging` are what the home does with it. Nothing here ever looks at gold to make a label.
"""
