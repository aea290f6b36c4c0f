"""Stage 4: frozen training sets and the methods that learn from them, one file a method."""
