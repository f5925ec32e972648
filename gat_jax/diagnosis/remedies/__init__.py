"""What would separate nodes that a model merges: predicted, tried, and made."""
