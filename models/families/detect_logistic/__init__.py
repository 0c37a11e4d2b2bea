"""Logistic regression on a station and its neighbours."""
