"""Every implementation in every kind of call: exact or refused."""
