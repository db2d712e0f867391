"""How weights and products are represented."""
