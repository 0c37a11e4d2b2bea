"""Max-pressure control of a junction."""
