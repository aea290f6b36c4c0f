"""Database migrations, run by `loop.state.migrate`; one file a step, never edited once released."""
