"""Stage 3: what a decision honestly teaches: demonstrations and preferences."""
