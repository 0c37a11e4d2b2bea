"""Multilayer perceptron shared by all edges."""
