"""Answers: one BentoML service per task. BentoML lives only here."""
