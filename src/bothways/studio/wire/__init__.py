"""How the servers take connections."""
