"""Personal data in texts: found by recognisers, replaced by typed placeholders before a text is kept or sent on."""
