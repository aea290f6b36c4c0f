"""Stage 2: which rows and which batches may go on. Verdicts and their reasons; no labels."""
