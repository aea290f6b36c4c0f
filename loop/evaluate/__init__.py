"""Stage 5: what is known of a challenger against the champion, and the gate that decides."""
