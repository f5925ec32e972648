"""Pages: of a diagnosis, and to play with."""
