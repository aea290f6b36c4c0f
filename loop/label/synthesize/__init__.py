"""Synthetic data: answers that a model writes where real ones are few, marked, filtered, capped, and used if they help.

`thin` finds where real answers are few and whose prompts to answer; `generate` asks a model; `checks` drops what is
bad, leaked or there already; `ablation` says whether what is left helps; `run` does it all and writes it down;
`using` turns what helps into rows of a training set.
"""
