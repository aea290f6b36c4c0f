"""Stage 1: outside events become typed, landed rows. Knows sources and identity, not what a decision teaches."""
