"""What machines cost, and what a track costs on them."""
