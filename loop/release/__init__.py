"""Stage 6: the registry of model versions, the card that tells of them, and serving."""
