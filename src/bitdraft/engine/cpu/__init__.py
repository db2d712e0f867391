"""Weight layouts and products on a CPU."""
