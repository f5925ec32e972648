"""Models of other people and of ours, as a diagnosis reads them."""
