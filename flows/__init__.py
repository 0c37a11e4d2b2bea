"""When, in which order, with what retry. Prefect lives only here."""
